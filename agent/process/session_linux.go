package process

import (
	"bytes"
	"os"
	"strconv"
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

// sweep ends every process whose session the program leads: first politely, and
// when that did not help, repeatedly by force, because a process can fork while
// the list is read.
func (p *Process) sweep() {
	left := p.signalSession(syscall.SIGHUP, syscall.SIGCONT)
	deadline := time.Now().Add(killAfter)
	for pause := time.Millisecond; left > 0 && time.Now().Before(deadline); pause = min(2*pause, 50*time.Millisecond) {
		time.Sleep(pause)
		left = p.signalSession()
	}
	for tries := 0; left > 0 && tries < 100; tries++ {
		left = p.signalSession(syscall.SIGKILL)
		time.Sleep(5 * time.Millisecond)
	}
}

// signalSession sends the signals to all live members of the session and returns
// how many there are.
func (p *Process) signalSession(signals ...syscall.Signal) (members int) {
	proc, err := os.Open("/proc")
	if err != nil {
		return p.signalGroup(signals...)
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	sid := []byte(strconv.Itoa(p.Pid()))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || !inSession(name, sid) {
			continue
		}
		members++
		for _, s := range signals {
			_ = syscall.Kill(pid, s)
		}
	}
	return members
}

// inSession reads /proc/<pid>/stat: "pid (name) state ppid pgrp session …". The
// name may hold anything, so fields are counted from the last ")".
func inSession(pid string, sid []byte) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	return len(fields) > 3 && bytes.Equal(fields[3], sid) && fields[0][0] != 'Z' && fields[0][0] != 'X'
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
