//go:build unix

package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"syscall"

	"github.com/charmbracelet/x/xpty"
)

// native is what this system knows of a running program.
type native struct{ cmd *exec.Cmd }

// Pid returns the program's process id.
func (n native) Pid() int { return n.cmd.Process.Pid }

// LoginShell returns what runs a's shell: as a login shell, or, if lines is not empty,
// with the first of them, which the shell reads itself, as sshd does it.
func LoginShell(a Account, lines []string) Spec {
	name := path.Base(a.Shell)
	spec := Spec{File: File{Path: a.Shell}, Argv: []string{"-" + name}} // a leading "-" makes it a login shell
	if len(lines) > 0 {
		spec.Argv = []string{name, "-c", lines[0]}
	}
	return spec
}

// Start runs spec. The caller must call End. Its errors are refusals, by what this
// process may see as its own user: CommandNotFound, NotExecutable, BadArgument for
// the folder or for too long arguments, else Unavailable.
func Start(spec Spec) (*Process, error) {
	path, release, err := openProgram(spec.File)
	if err != nil {
		return nil, whyNot(spec, err)
	}
	defer release()
	p := &Process{exited: make(chan struct{}), reap: make(chan struct{}), done: make(chan struct{}), ending: make(chan struct{}), alone: spec.Alone}
	p.cmd = &exec.Cmd{Path: path, Args: spec.Argv, Dir: spec.Dir, Env: spec.Env, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	if p.cmd.Env == nil {
		p.cmd.Env = []string{} // nil would hand over our own
	}
	dieWithParent(p.cmd.SysProcAttr)
	var theirs []*os.File
	if spec.Terminal != nil {
		theirs, err = p.attachTerminal(*spec.Terminal)
	} else {
		theirs, err = p.attachPipes()
	}
	if err == nil && p.alone {
		err = adopt()
	}
	if err == nil {
		err = p.launch()
	}
	for _, f := range theirs {
		_ = f.Close()
	}
	if err != nil {
		p.abandon()
		return nil, whyNot(spec, err)
	}
	if p.alone {
		p.reapAdopted()
	}
	return p, nil
}

// launch starts the program and leaves run waiting for it.
func (p *Process) launch() error {
	started := make(chan error, 1)
	go p.run(started)
	return <-started
}

// run keeps its thread from start to end: the parent-death signal is tied to the
// thread that forked, and a thread that Go retires would count as dead parent.
func (p *Process) run(started chan<- error) {
	defer close(p.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.finish(p.await())
	<-p.reap
	_ = p.cmd.Wait()
}

func (p *Process) abandon() {
	if p.stdin != nil {
		p.hangUp()
		p.closeFiles()
	}
}

func (p *Process) attachPipes() (theirs []*os.File, err error) {
	var r, w [3]*os.File
	for i := range r {
		if r[i], w[i], err = os.Pipe(); err != nil {
			for j := range i {
				_, _ = r[j].Close(), w[j].Close()
			}
			return nil, err
		}
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = r[0], w[1], w[2]
	p.stdin = w[0]
	p.stdout = &output{f: file{r[1]}, exited: p.exited}
	p.stderr = &output{f: file{r[2]}, exited: p.exited}
	return []*os.File{r[0], w[1], w[2]}, nil
}

func (p *Process) attachTerminal(t Terminal) (theirs []*os.File, err error) {
	size := t.Size.Clamp()
	pty, err := xpty.NewUnixPty(size.Columns, size.Rows)
	if err != nil {
		return nil, fmt.Errorf("opening a terminal: %w", err)
	}
	master, err := pollable(pty.Master())
	if err != nil {
		_ = pty.Close()
		return nil, fmt.Errorf("setting up a terminal: %v", err)
	}
	if err := setModes(pty.Slave(), t.Modes); err != nil {
		_, _ = master.Close(), pty.Close()
		return nil, fmt.Errorf("setting up a terminal: %v", err)
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = pty.Slave(), pty.Slave(), pty.Slave()
	p.cmd.Env = append(slices.Clip(p.cmd.Env), ttyName+"="+pty.Slave().Name())
	p.cmd.SysProcAttr.Setctty = true // Ctty is descriptor 0 of the child
	p.tty = unixTerminal{pty, master}
	p.stdin = ttyInput{master}
	p.stdout = &output{f: file{master}, exited: p.exited}
	return []*os.File{pty.Slave()}, nil
}

// pollable makes a second handle on the terminal's master that obeys deadlines
// and Close while somebody reads; the library's own handle does neither.
func pollable(master *os.File) (*os.File, error) {
	raw, err := master.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dupErr error
	err = raw.Control(func(old uintptr) {
		syscall.ForkLock.RLock() // nobody may fork before the copy is close-on-exec
		defer syscall.ForkLock.RUnlock()
		if fd, dupErr = syscall.Dup(int(old)); dupErr == nil {
			syscall.CloseOnExec(fd)
		}
	})
	if err := errors.Join(err, dupErr); err != nil {
		return nil, err
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), master.Name()), nil
}

type unixTerminal struct {
	pty    *xpty.UnixPty
	master *os.File
}

func (t unixTerminal) resize(s Size) error { return t.pty.Resize(s.Columns, s.Rows) }

func (t unixTerminal) hangUp() error { return errors.Join(t.pty.Master().Close(), t.master.Close()) }

// ttyInput ignores Close: closing would take the output away as well.
type ttyInput struct{ io.Writer }

// Close does nothing; see the type.
func (ttyInput) Close() error { return nil }

// file is a pipe or a terminal as a source.
type file struct{ *os.File }

func (f file) readNow(b []byte) (n int) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { n, _ = syscall.Read(int(fd), b) }) // the runtime keeps it non-blocking
	return max(n, 0)
}

// ended reports the error by which a terminal says that its last user is gone.
func ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, syscall.EIO) }

// Signal sends the named signal ("TERM", without "SIG") to the program's process
// group. Names that do not exist here are an error.
func (p *Process) Signal(name string) error {
	for sig, n := range signalNames {
		if n == name {
			select {
			case <-p.exited:
				return nil
			default:
				return syscall.Kill(-p.Pid(), sig)
			}
		}
	}
	return fmt.Errorf("no such signal")
}

// signalNames are the names of RFC 4254 section 6.10 and the others that can end
// a program; the latter carry no "@domain", as OpenSSH sends them too.
var signalNames = map[syscall.Signal]string{
	syscall.SIGABRT: "ABRT", syscall.SIGALRM: "ALRM", syscall.SIGFPE: "FPE", syscall.SIGHUP: "HUP", syscall.SIGILL: "ILL",
	syscall.SIGINT: "INT", syscall.SIGKILL: "KILL", syscall.SIGPIPE: "PIPE", syscall.SIGQUIT: "QUIT", syscall.SIGSEGV: "SEGV",
	syscall.SIGTERM: "TERM", syscall.SIGUSR1: "USR1", syscall.SIGUSR2: "USR2",
	syscall.SIGBUS: "BUS", syscall.SIGTRAP: "TRAP", syscall.SIGSYS: "SYS", syscall.SIGXCPU: "XCPU", syscall.SIGXFSZ: "XFSZ",
	syscall.SIGVTALRM: "VTALRM", syscall.SIGPROF: "PROF", syscall.SIGIO: "IO",
	syscall.SIGSTOP: "STOP", syscall.SIGTSTP: "TSTP", syscall.SIGCONT: "CONT", syscall.SIGWINCH: "WINCH",
}

func signalName(sig syscall.Signal) string {
	if n, ok := signalNames[sig]; ok {
		return n
	}
	return fmt.Sprintf("RT%d", int(sig)) // real-time signals have no name in the RFC
}
