package labtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/programtest"
)

// Longest waits; our choice. They bound a test that fails, not one that passes.
const (
	patience   = 2 * time.Minute // for a condition, and for the end of a command
	stopWithin = time.Minute     // from SIGTERM to the end of a process
	lastWords  = time.Minute     // from the end of a process until all that it printed was read
	pollEvery  = 5 * time.Millisecond
)

// programs are those under test.
var programs programtest.Set

func TestMain(m *testing.M) { os.Exit(programs.Main(m, 8)) }

// program is where one of them is; lab has had them built.
func program(name string) string { return filepath.Join(programs.Dir(), name) }

// process is a program that runs on a host.
type process struct {
	t        testing.TB
	cmd      *exec.Cmd
	out, err programtest.Transcript
	ended    chan struct{} // closed when it was waited for
}

// launch starts cmd; its unset streams are collected.
func launch(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, ended: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.out
	}
	cmd.Stderr = &p.err
	cmd.WaitDelay = lastWords
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %q: %v", cmd.Args, err)
	}
	go func() { _ = cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		served := p.alive()
		p.stop()
		if text := p.err.String(); strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic:") || strings.Contains(text, "goroutine 1 [") {
			t.Errorf("%s ended badly:\n%s", p.name(), text)
		}
		if t.Failed() && served {
			t.Logf("%s said:\n%s", p.name(), tail(p.err.String(), 3000))
		}
	})
	return p
}

// name is the program behind nsenter's arguments.
func (p *process) name() string {
	for _, a := range p.cmd.Args {
		if strings.HasPrefix(a, programs.Dir()) {
			return filepath.Base(a)
		}
	}
	return filepath.Base(p.cmd.Path)
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// stop asks the process to end and waits; one that does not is killed, and the
// test fails. It may be called again.
func (p *process) stop() {
	if !p.alive() {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopWithin):
		p.t.Errorf("%s does not stop", p.name())
		p.kill()
	}
}

// kill ends the process as a crash does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// says waits until the process has printed a whole line with text in it.
func (p *process) says(text string) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%s says %q", p.name(), text), func() bool {
		for _, s := range []string{p.err.String(), p.out.String()} {
			if _, after, found := strings.Cut(s, text); found && strings.Contains(after, "\n") {
				return true
			}
		}
		if !p.alive() {
			p.t.Fatalf("%s ended: %s", p.name(), tail(p.err.String(), 2000))
		}
		return false
	})
}

// saysAgain waits until text was printed so often to standard error.
func (p *process) saysAgain(text string, n int) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%s says %q %d times", p.name(), text, n), func() bool { return p.err.Count(text) >= n })
}

// finish waits for the end and returns exit status and what was printed.
func (p *process) finish() (code int, out, err string) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Errorf("%s does not end; it said:\n%s", p.name(), tail(p.err.String(), 2000))
		p.kill()
	}
	return p.cmd.ProcessState.ExitCode(), p.out.String(), p.err.String()
}

// must is launch and finish for a command that a test cannot go on without.
func must(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	p := launch(t, cmd)
	code, out, said := p.finish()
	if code != 0 {
		t.Fatalf("%q exits %d: %s", cmd.Args, code, tail(said, 2000))
	}
	return out
}

// eventually polls until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	within(t, patience, what, cond)
}

// within is eventually with a bound, and returns how long it took.
func within(t testing.TB, limit time.Duration, what string, cond func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !cond() {
		if time.Since(start) > limit {
			t.Fatalf("not within %v: %s", limit, what)
		}
		<-tick.C
	}
	return time.Since(start)
}

// pass lets time pass while something else goes on that is looked at afterwards.
func pass(d time.Duration) { <-time.After(d) }
