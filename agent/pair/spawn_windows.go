package pair

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/windows"

	"github.com/tucdesk/tucdesk/agent/pipe"
	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Spawn starts a session process as the user of this one; account is that user, because
// LookUp knows no other. It inherits nothing but its two pipes, and no environment but
// what Windows needs to load a program. It has no console: what is pressed on this one's
// is not for it.
func Spawn(command []string, _ process.Account, given ...*os.File) (*exec.Cmd, io.ReadWriteCloser, error) {
	if len(given) > 0 {
		return nil, nil, refusal.New(refusal.Unavailable, "on Windows nothing can be given to a session process")
	}
	system, err := windows.GetSystemDirectory() // not where the agent was started: others may write there, or want to remove it
	if err != nil {
		return nil, nil, fmt.Errorf("starting a session process: %v", err)
	}
	down, theirIn, err := pipe.New(pipe.Out)
	if err != nil {
		return nil, nil, fmt.Errorf("starting a session process: %v", err)
	}
	up, theirOut, err := pipe.New(pipe.In)
	if err != nil {
		_, _ = down.Close(), windows.CloseHandle(theirIn)
		return nil, nil, fmt.Errorf("starting a session process: %v", err)
	}
	in, out := os.NewFile(uintptr(theirIn), "session pair"), os.NewFile(uintptr(theirOut), "session pair")
	defer in.Close()
	defer out.Close()
	cmd := &exec.Cmd{Path: command[0], Args: command, Dir: system, Env: []string{}, Stdin: in, Stdout: out,
		SysProcAttr: &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS, HideWindow: true}}
	ours := both{up, down}
	if err := cmd.Start(); err != nil {
		_ = ours.Close()
		return nil, nil, fmt.Errorf("starting a session process: %v", err)
	}
	return cmd, ours, nil
}

// SpawnLogin refuses: there is no PAM here, and an agent that was told to use it does
// not start.
func SpawnLogin(string, []string, process.Account, ...*os.File) (*exec.Cmd, io.ReadWriteCloser, error) {
	return nil, nil, refusal.New(refusal.Unavailable, "Windows has no PAM sessions")
}

// SpawnConfined is Spawn for a process in which nothing is to run but itself.
func SpawnConfined(command []string, account process.Account) (cmd *exec.Cmd, rw io.ReadWriteCloser, err error) {
	err = process.Confined(command[0], func() (err error) {
		cmd, rw, err = Spawn(command, account)
		return err
	})
	return cmd, rw, err
}

// both is a pipe for each direction.
type both struct{ in, out *os.File }

func (b both) Read(p []byte) (int, error) { return b.in.Read(p) }

func (b both) Write(p []byte) (int, error) { return b.out.Write(p) }

// Close closes both; whoever waits in Read or Write is woken.
func (b both) Close() error { return errors.Join(b.in.Close(), b.out.Close()) }

// SetWriteDeadline bounds how long Write waits for the other side.
func (b both) SetWriteDeadline(t time.Time) error { return b.out.SetWriteDeadline(t) }

// Inherited is the child's end. It fails in a process that no supervisor started.
func Inherited() (io.ReadWriteCloser, error) {
	for _, f := range []*os.File{os.Stdin, os.Stdout} {
		if kind, err := windows.GetFileType(windows.Handle(f.Fd())); err != nil || kind != windows.FILE_TYPE_PIPE {
			return nil, errors.New("the standard streams are not the pair to a supervisor: this program is started by tucdesk-agent only")
		}
	}
	return both{os.Stdin, os.Stdout}, nil
}

// Given returns nil: nothing is given here.
func Given() *os.File { return nil }
