package process

import (
	"syscall"
	"time"
	"unsafe"
)

// Values of waitid(2).
const (
	pPid      = 1          // P_PID
	wNoWait   = 0x01000000 // WNOWAIT
	cldExited = 1          // CLD_EXITED
	cldDumped = 3          // CLD_DUMPED
)

// childInfo is siginfo_t as waitid fills it, on 64-bit systems.
type childInfo struct {
	signo, errno, code, _ int32
	pid                   int32
	uid                   uint32
	status                int32
	_                     [100]byte
}

// await waits until the program ends and leaves it a zombie: as long as the
// zombie holds the number, sweep cannot hit a stranger that got the same one.
func (p *Process) await() Exit {
	var info childInfo
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPid, uintptr(p.Pid()),
			uintptr(unsafe.Pointer(&info)), syscall.WEXITED|wNoWait, 0, 0)
		if errno == 0 {
			break
		}
		if errno != syscall.EINTR {
			return Exit{Code: 255} // somebody else waited for our child; there is no truth to be had
		}
	}
	if info.code == cldExited {
		return Exit{Code: int(info.status)}
	}
	sig := syscall.Signal(info.status)
	return Exit{Code: 128 + int(sig), Signal: signalName(sig), Core: info.code == cldDumped}
}

func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// sweep ends every process that is left: first politely, and
// when that did not help, repeatedly by force, because a process can fork while
// the list is read.
func (p *Process) sweep() {
	left := p.signal(syscall.SIGHUP, syscall.SIGCONT)
	deadline := time.Now().Add(killAfter)
	for pause := time.Millisecond; left > 0 && time.Now().Before(deadline); pause = min(2*pause, 50*time.Millisecond) {
		time.Sleep(pause)
		left = p.signal()
	}
	for tries := 0; left > 0 && tries < 100; tries++ {
		left = p.signal(syscall.SIGKILL)
		time.Sleep(5 * time.Millisecond)
	}
}

// signal sends the signals to everything that is left and returns how many
// processes that were.
func (p *Process) signal(signals ...syscall.Signal) int {
	pids, ok := p.left()
	if !ok {
		return p.signalGroup(signals...)
	}
	for _, pid := range pids {
		for _, s := range signals {
			_ = syscall.Kill(pid, s)
		}
	}
	return len(pids)
}

// signalGroup serves where /proc is not to be seen.
func (p *Process) signalGroup(signals ...syscall.Signal) int {
	for _, s := range signals {
		_ = syscall.Kill(-p.Pid(), s)
	}
	if p.stdout.isLate() || syscall.Kill(-p.Pid(), 0) != nil {
		return 0
	}
	return 1
}
