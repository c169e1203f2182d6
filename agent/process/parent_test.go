//go:build linux

package process

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// actor starts this test as another process, and returns the process that it starts.
func actor(t *testing.T, part string) (cmd *exec.Cmd, in io.Closer, pid int) {
	t.Helper()
	cmd = exec.Command(self(t).Path)
	cmd.Env = []string{helperEnv + "=" + part}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	return cmd, in, pid
}

// actAsParent starts a program that ignores a hang-up and waits to be killed.
func actAsParent() {
	f, err := Resolve("sh", "/")
	if err != nil {
		os.Exit(1)
	}
	p, err := Start(Spec{File: f, Argv: []string{"sh", "-c", "trap '' HUP; exec sleep 1000"}, Dir: "/", Env: []string{"PATH=" + Path}, Terminal: &Terminal{}})
	if err != nil {
		os.Exit(1)
	}
	fmt.Println(p.Pid())
	p.Wait()
}

// actAlone runs a program whose children leave it, and ends it when told to.
func actAlone() {
	f, err := Resolve("sh", "/")
	if err != nil {
		os.Exit(1)
	}
	text := "for i in 1 2 3; do (setsid true &); done; (setsid sh -c 'trap \"\" HUP TERM; echo $$; exec sleep 1000' &); exec sleep 1000"
	p, err := Start(Spec{File: f, Argv: []string{"sh", "-c", text}, Dir: "/", Env: []string{"PATH=" + Path}, Alone: true})
	if err != nil {
		os.Exit(1)
	}
	line, _ := bufio.NewReader(p.Stdout()).ReadString('\n')
	fmt.Print(line)
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	p.End()
}

// Two programs that end when what they have started has said that it runs: a daemon and
// something plain, or what becomes a daemon when the program is dead.
const (
	leaving = `{ sh -c 'echo plain $$; exec sleep 1000 >&- 2>&-' & setsid sh -c 'echo daemon $$; exec sleep 1000 >&- 2>&-' & } | ` +
		`{ read -r a; read -r b; printf '%s\n' "$a" "$b"; }`
	leavingLate = `{ m=$$ sh -c 'echo daemon $$; until grep -q ") Z " /proc/$m/stat; do :; done; exec setsid sleep 1000 >&- 2>&-' & } | ` +
		`{ read -r a; echo "$a"; }`
)

// actLeaving runs one of them and lets stay what may, which has that long to show.
func actLeaving(text string, settle time.Duration) {
	f, err := Resolve("sh", "/")
	if err != nil {
		os.Exit(1)
	}
	p, err := Start(Spec{File: f, Argv: []string{"sh", "-c", text}, Dir: "/", Env: []string{"PATH=" + Path}, Alone: true})
	if err != nil {
		os.Exit(1)
	}
	_, _ = io.Copy(os.Stdout, p.Stdout())
	p.Wait()
	if p.staysWithin(settle) {
		p.Leave()
	}
	p.End()
}

// left runs a helper that leaves something, to its end, and returns what it says of it.
func left(t *testing.T, part string) (pids map[string]int) {
	t.Helper()
	cmd := exec.Command(self(t).Path)
	cmd.Env = []string{helperEnv + "=" + part}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	pids = map[string]int{}
	for line := range strings.Lines(string(out)) {
		var name string
		var pid int
		if _, err := fmt.Sscan(line, &name, &pid); err != nil {
			t.Fatal(err)
		}
		pids[name] = pid
		t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	}
	if s := state(pids["daemon"]); s == "" || s == "Z" {
		t.Errorf("the daemon has ended; it says %q", out)
	}
	return pids
}

// What did not leave the session ends all the same.
func TestWhatHasLeftTheSessionStaysIfItMay(t *testing.T) {
	t.Parallel()
	pids := left(t, "leaving")
	if len(pids) != 2 {
		t.Fatalf("it speaks of %v", pids)
	}
	waitFor(t, "what did not leave to end", func() bool { s := state(pids["plain"]); return s == "" || s == "Z" })
}

// A program may be gone before what it started with setsid has left its session.
func TestWhatIsAboutToLeaveTheSessionIsWaitedFor(t *testing.T) {
	t.Parallel()
	left(t, "leaving late")
}

func TestH2DaemonEndsWithTheSession(t *testing.T) {
	t.Parallel()
	cmd, in, pid := actor(t, "alone")
	waitFor(t, "the daemon to be adopted, as the leader of a session", func() bool {
		m, ok := readMember(pid)
		return ok && m.parent == cmd.Process.Pid && m.session == pid
	})
	waitFor(t, "dead orphans to be reaped", func() bool {
		list, _ := processes()
		for _, m := range list {
			if m.parent == cmd.Process.Pid && m.dead {
				return false
			}
		}
		return true
	})
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the session process: %v", err)
	}
	if s := state(pid); s != "" && s != "Z" {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		t.Error("the daemon goes on")
	}
}

func TestH2KilledParentTakesTheProgramAlong(t *testing.T) {
	cmd, _, pid := actor(t, "parent")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	waitFor(t, "the orphan to die", func() bool { s := state(pid); return s == "" || s == "Z" })
}
