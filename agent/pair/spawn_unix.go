//go:build unix

package pair

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"github.com/tucdesk/tucdesk/agent/process"
)

// Spawn starts a session process as the account's user. It inherits nothing but
// its end of the pair and what it is given: no environment, no other descriptor, no
// group of ours. What it is given becomes descriptor 4 and the next ones, and stays
// open here.
func Spawn(command []string, account process.Account, given ...*os.File) (*exec.Cmd, io.ReadWriteCloser, error) {
	cmd := &exec.Cmd{Path: command[0], Args: command}
	if int(account.UID) != os.Geteuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: account.UID, Gid: account.GID, Groups: account.Groups}}
	}
	return spawn(cmd, given)
}

// SpawnLogin is Spawn inside a PAM session that runuser opens, which this process must
// be root for: cmd is runuser, and the session process its only child. The session
// process' environment is what PAM gives. runuser ends when that does, and closes the
// PAM session.
func SpawnLogin(runuser string, command []string, account process.Account, given ...*os.File) (*exec.Cmd, io.ReadWriteCloser, error) {
	self, err := os.Open(command[0]) // by its path runuser would find itself where that is /proc/self/exe
	if err != nil {
		return nil, nil, fmt.Errorf("starting a session process: %v", err)
	}
	defer self.Close()
	given = append(slices.Clone(given), self)
	path := fmt.Sprintf("/proc/self/fd/%d", 3+len(given))
	args := append([]string{"runuser", "-u", account.Name, "--", path}, command[1:]...)
	return spawn(&exec.Cmd{Path: runuser, Args: args}, given)
}

// spawn starts a process of ours with a pair.
func spawn(cmd *exec.Cmd, given []*os.File) (*exec.Cmd, io.ReadWriteCloser, error) {
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
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.ExtraFiles = append([]*os.File{theirs}, given...) // from descriptor 3 on
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
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

// Given is the descriptor that the supervisor gave along with the pair.
func Given() *os.File {
	const fd = 4
	syscall.CloseOnExec(fd)
	_ = syscall.SetNonblock(fd, true)
	return os.NewFile(fd, "kept shell")
}
