package endtoend

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// TestWhoWaitsHearsThatTheOtherEndWasKilled: neither a session process that is killed
// nor a machine that loses its power can say goodbye inside the session. The log has
// it, and the client looks there instead of waiting for a day.
func TestWhoWaitsHearsThatTheOtherEndWasKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.agent("web", "web")
	db := w.agent("db", "web")
	for host, end := range map[string]func(worker int){
		"web": func(worker int) { _ = syscall.Kill(worker, syscall.SIGKILL) },
		"db": func(worker int) {
			_ = syscall.Kill(worker, syscall.SIGSTOP) // or it may get a farewell out before it dies with the agent
			db.proc.kill()
			db.start()
		},
	} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			p := w.ann.start("exec", host, "--", "sh", "-c", "echo worker=$PPID; exec sleep 1000")
			var worker int
			eventually(t, "the program to run", func() bool {
				line := p.out.String()
				_, err := fmt.Sscanf(line, "worker=%d", &worker)
				return err == nil && strings.HasSuffix(line, "\n")
			})
			end(worker)
			if a := p.finish().is(t, 255); !strings.Contains(a.err, "error: gone:") {
				t.Errorf("it says %q", a.err)
			}
		})
	}
}
