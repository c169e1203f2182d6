//go:build unix && !linux

package process

import (
	"syscall"
	"time"
)

// await waits for the program and reaps it.
func (p *Process) await() Exit {
	_ = p.cmd.Wait()
	ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		return Exit{Code: 255}
	}
	if ws.Signaled() {
		return Exit{Code: 128 + int(ws.Signal()), Signal: signalName(ws.Signal()), Core: ws.CoreDump()}
	}
	return Exit{Code: ws.ExitStatus()}
}

// dieWithParent does nothing: this system has no such signal. A closed terminal
// or pipe is what the program sees.
func dieWithParent(*syscall.SysProcAttr) {}

// sweep ends the program's process group.
func (p *Process) sweep() {
	if syscall.Kill(-p.Pid(), syscall.SIGHUP) != nil {
		return
	}
	_ = syscall.Kill(-p.Pid(), syscall.SIGCONT)
	deadline := time.Now().Add(killAfter)
	for syscall.Kill(-p.Pid(), 0) == nil && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	_ = syscall.Kill(-p.Pid(), syscall.SIGKILL)
}
