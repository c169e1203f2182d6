//go:build unix

package remote

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
)

// readyFile is the descriptor on which the process in the background says that it
// stands.
const readyFile = 3

// toBackground starts this program again with the same arguments, apart from this
// terminal, and returns when that one stands: a Go process cannot fork. What it
// waits for until then, approvals among it, is shown here. silent is without a
// program whose output is wanted: then nothing of ours stays open, and "$(...)" ends.
func toBackground(ctx context.Context, tio *cli.IO, silent bool) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	ready, tell, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	if len(os.Args) < 2 {
		return errors.New("going to the background: this program was not started by a command line")
	}
	args := append([]string{os.Args[1], "--" + backgroundFlag}, os.Args[2:]...)
	cmd := exec.Command(program, args...)
	cmd.Stderr, cmd.ExtraFiles = struct{ io.Writer }{tio.Err}, []*os.File{tell}
	if !silent {
		cmd.Stdout, cmd.Stderr = tio.Out, tio.Err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = tell.Close()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	if n, _ := ready.Read(make([]byte, 1)); n == 1 {
		return nil
	}
	err = cmd.Wait() // it ended, and has said why
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return cli.Status(exit.ExitCode())
	}
	return err
}

// startMaster starts the process that exec --persist leaves behind, and returns when
// it serves.
func startMaster(ctx context.Context, state string, idle time.Duration) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	ready, tell, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command(program, "master", "--"+backgroundFlag, "--state", state, "--idle", idle.String())
	cmd.ExtraFiles, cmd.SysProcAttr = []*os.File{tell}, &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = tell.Close()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = ready.Close() })
	defer stop()
	if n, _ := ready.Read(make([]byte, 1)); n == 1 {
		return nil
	}
	return errors.New("the master did not start")
}

// inBackground lets the process that started this one go.
func inBackground() {
	f := os.NewFile(readyFile, "ready")
	_, _ = f.Write([]byte{1})
	_ = f.Close()
}
