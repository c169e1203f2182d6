//go:build unix

package pair

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/tucdesk/tucdesk/agent/process"
)

// Spawn starts a session process as the account's user. It inherits nothing but
// its end of the pair: no environment, no descriptor, no group of ours.
func Spawn(command []string, account process.Account) (*exec.Cmd, io.ReadWriteCloser, error) {
	fds, err := socketPair()
	if err != nil {
		return nil, nil, fmt.Errorf("starting a session process: %v", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "session pair")
	defer theirs.Close()
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		_ = syscall.Close(fds[0])
		return nil, nil, fmt.Errorf("starting a session process: %v", err)
	}
	ours := os.NewFile(uintptr(fds[0]), "session pair")
	cmd := &exec.Cmd{
		Path: command[0], Args: command, Dir: "/", Env: []string{},
		ExtraFiles:  []*os.File{theirs}, // becomes descriptor 3
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if int(account.UID) != os.Geteuid() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: account.UID, Gid: account.GID, Groups: account.Groups}
	}
	if err := cmd.Start(); err != nil {
		_ = ours.Close()
		return nil, nil, fmt.Errorf("starting a session process: %v", err)
	}
	return cmd, ours, nil
}

// SpawnConfined is Spawn for a process in which nothing is to run but itself.
func SpawnConfined(command []string, account process.Account) (cmd *exec.Cmd, rw io.ReadWriteCloser, err error) {
	err = process.Confined(command[0], func() (err error) {
		cmd, rw, err = Spawn(command, account)
		return err
	})
	return cmd, rw, err
}

// socketPair makes both ends close-on-exec before anybody can fork: sessions start
// side by side, and a process that inherited another one's pair could read its
// keys and would keep it from seeing its supervisor's end (attacks H2, H6).
func socketPair() ([2]int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return fds, err
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	return fds, nil
}

// Inherited is the child's end. It fails in a process that no supervisor started.
func Inherited() (io.ReadWriteCloser, error) {
	const fd = 3
	syscall.CloseOnExec(fd)
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("descriptor 3 is not the pair to a supervisor: this program is started by tucdesk-agent only")
	}
	return os.NewFile(fd, "session pair"), nil
}
