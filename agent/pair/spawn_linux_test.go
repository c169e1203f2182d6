package pair

import (
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/tucdesk/tucdesk/agent/process"
)

// Sessions start side by side; none may come by the pair of another.
func TestH6SessionProcessesInheritOnlyTheirOwnPair(t *testing.T) {
	self := must(process.LookUp(""))
	done := make(chan struct{})
	var others sync.WaitGroup
	defer others.Wait()
	defer close(done)
	others.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if fds, err := socketPair(); err == nil {
				_, _ = syscall.Close(fds[0]), syscall.Close(fds[1])
			}
		}
	})
	for range 100 {
		cmd, rw, err := Spawn([]string{"/bin/sh", "-c", "ls -l /proc/$$/fd >&3"}, self)
		if err != nil {
			t.Fatal(err)
		}
		list, err := io.ReadAll(rw)
		_ = rw.Close()
		_ = cmd.Wait()
		if n := strings.Count(string(list), "socket:"); n < 1 || n > 2 || err != nil { // 1 and 3 are the same one
			t.Fatalf("%d sockets, %v:\n%s", n, err, list)
		}
	}
}
