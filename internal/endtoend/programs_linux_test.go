package endtoend

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/programtest"
)

// Longest waits; our choice. They bound a test that fails, not one that passes.
const (
	patience   = 2 * time.Minute // for a condition, and for one command of an operator
	stopWithin = time.Minute     // from SIGTERM to the end of a process
)

// programs are those under test.
var programs programtest.Set

func TestMain(m *testing.M) { os.Exit(programs.Main(m, 6)) }

// program returns the path of a built program.
func program(t testing.TB, name string) string {
	t.Helper()
	return programs.Path(t, name)
}

// process is a program that runs.
type process struct {
	t        testing.TB
	cmd      *exec.Cmd
	out, err programtest.Transcript
	ended    chan struct{} // closed when it was waited for
}

// launch starts cmd; its unset streams are collected. The process dies with the
// test, also when the test is killed.
func launch(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, ended: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.err
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error, 1)
	go func() {
		defer close(p.ended)
		runtime.LockOSThread() // the signal is tied to the thread that forked
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("starting %q: %v", cmd.Path, err)
	}
	t.Cleanup(func() {
		served := p.alive() // a command's words are in the failure itself
		p.stop()
		if text := p.err.String(); strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic:") || strings.Contains(text, "goroutine 1 [") {
			t.Errorf("%s ended badly:\n%s", filepath.Base(cmd.Path), text)
		}
		if t.Failed() && served {
			t.Logf("%s said:\n%s", filepath.Base(cmd.Path), tail(p.err.String(), 4000))
		}
	})
	return p
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// alive reports whether the process has not ended.
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
		p.t.Errorf("%s does not stop", filepath.Base(p.cmd.Path))
		p.kill()
	}
}

// kill ends the process as a crash does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// status waits for the end and returns the exit status.
func (p *process) status() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Errorf("%q does not end; it said:\n%s", p.cmd.Args, tail(p.err.String(), 2000))
		p.kill()
	}
	return p.cmd.ProcessState.ExitCode()
}

// says waits until the process has printed text to standard error, n times.
func (p *process) says(text string, n int) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%s says %q", filepath.Base(p.cmd.Path), text), func() bool { return p.err.Count(text) >= n })
}

// answer is what one command printed and how it ended.
type answer struct {
	args     []string
	code     int
	out, err string
}

// finish waits for a command.
func (p *process) finish() answer {
	p.t.Helper()
	return answer{args: p.cmd.Args[1:], code: p.status(), out: p.out.String(), err: p.err.String()}
}

// is fails the test unless the command ended with code.
func (a answer) is(t testing.TB, code int) answer {
	t.Helper()
	if a.code != code {
		t.Fatalf("%q exits %d, want %d\nstdout: %s\nstderr: %s", a.args, a.code, code, tail(a.out, 2000), tail(a.err, 2000))
	}
	return a
}

// refused fails the test unless the command ended with this status and an
// "error:" line that names code.
func (a answer) refused(t testing.TB, status int, code string) answer {
	t.Helper()
	a.is(t, status)
	first, _, _ := strings.Cut(a.err[max(0, strings.Index(a.err, "error: ")):], "\n")
	if !strings.HasPrefix(first, "error: ") || !strings.Contains(first, code) {
		t.Fatalf("%q says %q, want an error that names %q", a.args, a.err, code)
	}
	if a.out != "" {
		t.Fatalf("%q prints %q beside its error", a.args, a.out)
	}
	return a
}

// hints fails the test unless there is a hint line with text.
func (a answer) hints(t testing.TB, text string) answer {
	t.Helper()
	for line := range strings.Lines(a.err) {
		if strings.HasPrefix(line, "hint: ") && strings.Contains(line, text) {
			return a
		}
	}
	t.Fatalf("%q has no hint with %q:\n%s", a.args, text, a.err)
	return a
}

// eventually polls until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("test: %v", err))
	}
	return v
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
