package netlab

import (
	"errors"
	"fmt"
	"syscall"
)

// Suspend stops every process on the host, as a closed lid does. What the network
// brings meanwhile waits in their sockets. Processes that the lab ends while they
// are stopped do end. It returns how many there are.
func (h *Host) Suspend() (n int) {
	h.lab.t.Helper()
	return h.signal(syscall.SIGSTOP)
}

// Resume undoes Suspend.
func (h *Host) Resume() {
	h.lab.t.Helper()
	h.signal(syscall.SIGCONT)
}

func (h *Host) signal(s syscall.Signal) int {
	h.lab.t.Helper()
	spaces, err := processes()
	for _, pid := range spaces[h.inode] {
		if fail := syscall.Kill(pid, s); fail != nil && !errors.Is(fail, syscall.ESRCH) {
			err = fmt.Errorf("signal to process %d: %v", pid, fail)
		}
	}
	if err != nil {
		h.lab.t.Fatalf("host %q: %v", h.name, err)
	}
	return len(spaces[h.inode])
}
