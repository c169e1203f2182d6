package live

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// state makes a state folder, with a path of at least n bytes.
func state(t *testing.T, n int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "live")
	if err != nil {
		t.Fatal(err)
	}
	top := dir
	t.Cleanup(func() { os.RemoveAll(top) })
	for len(dir) < n {
		dir = filepath.Join(dir, strings.Repeat("d", 40))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// patience is how long a test waits for what comes at once on a machine with nothing
// else to do.
const patience = 30 * time.Second

// listed asks until so many sessions are in the list, or until patience is over: what does
// not answer within a second is left out of it, and a busy machine may take that long.
func listed(t *testing.T, home string, want int) (list []Session, err error) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if list, err = List(t.Context(), home); err != nil || len(list) == want {
			break
		}
	}
	return list, err
}

func TestSessionsOfThisMachineAreListed(t *testing.T) {
	for _, n := range []int{0, 120} { // and where no socket's path would fit
		home := state(t, n)
		dir, err := folder(home)
		if err != nil || (n == 0) != strings.HasPrefix(dir, home) {
			t.Fatalf("%q, %v", dir, err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		if list, err := List(t.Context(), home); err != nil || len(list) != 0 {
			t.Errorf("before any: %v, %v", list, err)
		}
		want := Session{PID: os.Getpid(), Host: "web", Action: "shell", Kind: "direct", Since: time.Now().UTC().Round(time.Second)}
		stop, err := Serve(home, "0123456789abcdef", func() Session { return want })
		if err != nil {
			t.Fatal(err)
		}
		list, err := listed(t, home, 1)
		if err != nil || len(list) != 1 || list[0].Host != "web" || list[0].Kind != "direct" || !list[0].Since.Equal(want.Since) {
			t.Errorf("%+v, %v", list, err)
		}
		stop()
		stop()
		if left, err := os.ReadDir(dir); err != nil && !os.IsNotExist(err) || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

// A process that has many sessions, such as exec on many machines, shows all of them.
func TestEverySessionOfAProcessIsListed(t *testing.T) {
	for _, n := range []int{0, 120} {
		home := state(t, n)
		begun := time.Now().UTC().Round(time.Second)
		const sessions = 2*asking + 3
		stops := make([]func(), sessions)
		for i := range sessions {
			id := fmt.Sprintf("%08x%024x", i, 0)
			var err error
			stops[i], err = Serve(home, id, func() Session {
				return Session{PID: os.Getpid(), Host: fmt.Sprint("web", i), Session: id, Since: begun.Add(time.Duration(i) * time.Second)}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		list, err := listed(t, home, sessions)
		if err != nil || len(list) != sessions {
			t.Fatalf("%d of %d, %v", len(list), sessions, err)
		}
		for i, s := range list {
			if s.Host != fmt.Sprint("web", i) {
				t.Fatalf("place %d has %s", i, s.Host)
			}
		}
		stops[0]()
		if list, err := listed(t, home, sessions-1); err != nil || len(list) != sessions-1 || list[0].Host != "web1" {
			t.Errorf("after the end of one: %d, %v", len(list), err)
		}
		for _, stop := range stops {
			stop()
		}
		if list, err := List(t.Context(), home); err != nil || len(list) != 0 {
			t.Errorf("after the end of all: %d, %v", len(list), err)
		}
	}
}

func TestSocketsOfTheDeadAreRemoved(t *testing.T) {
	home := state(t, 0)
	stop, err := Serve(home, "0123456789abcdef", func() Session { return Session{Host: "web"} })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	dir, _ := folder(home)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "999999.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false) // as a process that was killed leaves it
	dead.Close()
	strange := filepath.Join(dir, "notes")
	if err := os.WriteFile(strange, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := listed(t, home, 1); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	left, _ := os.ReadDir(dir)
	for end := time.Now().Add(patience); len(left) != 2 && time.Now().Before(end); left, _ = os.ReadDir(dir) {
		_, _ = List(t.Context(), home) // on a busy machine even a refusal may be too late to be seen
	}
	if len(left) != 2 {
		t.Errorf("left: %v", left)
	}
	if _, err := os.Stat(strange); err != nil {
		t.Error("a file that is no socket was removed")
	}
}

func TestFolderThatOthersCanReachIsNotUsed(t *testing.T) {
	home := state(t, 0)
	dir, _ := folder(home)
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if stop, err := Serve(home, "0123456789abcdef", func() Session { return Session{} }); err == nil {
		stop()
		t.Error("served in a folder that everybody can write")
	}
	if _, err := List(t.Context(), home); err == nil {
		t.Error("asked in a folder that everybody can write")
	}
}

func TestLinkToAnotherFolderIsNotUsed(t *testing.T) {
	home, other := state(t, 0), state(t, 0)
	dir, _ := folder(home)
	if err := os.Symlink(other, dir); err != nil {
		t.Skip("no links here: ", err)
	}
	if stop, err := Serve(home, "0123456789abcdef", func() Session { return Session{} }); err == nil {
		stop()
		t.Error("served behind a link")
	}
}

// A caller that stays connected costs its place for a second and no more, and
// does not keep the process from ending.
func TestCallersThatStayDoNotHoldTheProcess(t *testing.T) {
	home := state(t, 0)
	stop, err := Serve(home, "0123456789abcdef", func() Session { return Session{Host: strings.Repeat("x", maxAnswer)} })
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := folder(home)
	names, _ := os.ReadDir(dir)
	for range answering {
		conn, err := net.Dial("unix", filepath.Join(dir, names[0].Name()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	stop()
}
