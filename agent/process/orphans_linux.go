package process

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

const prSetChildSubreaper = 36 // PR_SET_CHILD_SUBREAPER of prctl(2)

// reapEvery bounds how often the process list is read for dead orphans; our choice.
const reapEvery = time.Second

// adopt makes this process the parent of everything whose own parent dies, so that
// a daemon stays a descendant which sweep can find. It comes before the start.
func adopt() error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		return fmt.Errorf("adopting orphans: %v", errno)
	}
	return nil
}

// reapAdopted reaps orphans as they end, until End.
func (p *Process) reapAdopted() {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	select {
	case died <- syscall.SIGCHLD: // of those that died since the start nobody was told
	default:
	}
	p.reaper.Go(func() {
		defer signal.Stop(died)
		for {
			select {
			case <-died:
				p.reapOrphans()
			case <-p.ending:
				return
			}
			select {
			case <-time.After(reapEvery):
			case <-p.ending:
				return
			}
		}
	})
}

// reapOrphans takes the dead that nobody waits for. The program itself is run's.
func (p *Process) reapOrphans() {
	self := os.Getpid()
	list, _ := processes()
	for _, m := range list {
		if m.parent == self && m.dead && m.pid != p.Pid() {
			_, _ = syscall.Wait4(m.pid, nil, syscall.WNOHANG, nil)
		}
	}
}

// member is one line of the process list.
type member struct {
	pid, parent, session int
	dead                 bool // a zombie
}

// processes reads /proc, if it is there. Those that end meanwhile are left out.
func processes() (list []member, ok bool) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, false
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if m, ok := readMember(pid); ok {
				list = append(list, m)
			}
		}
	}
	return list, true
}

// readMember reads /proc/<pid>/stat: "pid (name) state ppid pgrp session …". The
// name may hold anything, so fields are counted from the last ")".
func readMember(pid int) (m member, ok bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return m, false
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 4 {
		return m, false
	}
	parent, err1 := strconv.Atoi(string(fields[1]))
	session, err2 := strconv.Atoi(string(fields[3]))
	dead := fields[0][0] == 'Z' || fields[0][0] == 'X'
	return member{pid: pid, parent: parent, session: session, dead: dead}, err1 == nil && err2 == nil
}

// left returns the live processes that End has to end: those of the program's
// session, and of a Process that is alone all descendants of this process.
func (p *Process) left() (pids []int, ok bool) {
	list, ok := processes()
	children := make(map[int][]member, len(list))
	for _, m := range list {
		children[m.parent] = append(children[m.parent], m)
		if m.session == p.Pid() && !m.dead && !p.alone && !p.spared(m) {
			pids = append(pids, m.pid)
		}
	}
	if !p.alone {
		return pids, ok
	}
	for queue := []int{os.Getpid()}; len(queue) > 0; queue = queue[1:] {
		for _, m := range children[queue[0]] {
			queue = append(queue, m.pid)
			if !m.dead && !p.spared(m) {
				pids = append(pids, m.pid)
			}
		}
		delete(children, queue[0]) // the list was not taken at one moment: no circles
	}
	return pids, ok
}

// settle is how long a program that has ended may take to get what it started into a
// session of its own: a shell can be gone before its "setsid x &" has run. Our choice.
const settle = 500 * time.Millisecond

// Stays reports whether something is left that was meant to outlive the program: it has
// made a session of its own, or ignores the hang-up. Of a program that has ended, those
// that still may do so are waited for, half a second at most.
func (p *Process) Stays() bool { return p.staysWithin(settle) }

func (p *Process) staysWithin(settle time.Duration) bool {
	for pause, end := time.Millisecond, time.Now().Add(settle); ; pause = min(2*pause, 50*time.Millisecond) {
		stay, undecided := p.staying()
		if !undecided || !p.stdout.isLate() || time.Now().After(end) {
			return stay
		}
		time.Sleep(pause)
	}
}

// staying looks once. Undecided are those that would end with the program as they are.
func (p *Process) staying() (stay, undecided bool) {
	pids, _ := p.left()
	for _, pid := range pids {
		m, ok := readMember(pid)
		if !ok || m.dead || pid == p.Pid() {
			continue
		}
		meant := p.meant(m)
		stay, undecided = stay || meant, undecided || !meant
	}
	return stay, undecided
}

// spared reports whether End has to leave m alone.
func (p *Process) spared(m member) bool { return p.leave.Load() && p.meant(m) }

// meant reports that m was to outlive the program. The program itself never is: it dies
// with this process.
func (p *Process) meant(m member) bool {
	return m.pid != p.Pid() && (m.session != p.Pid() || ignoresHangUp(m.pid))
}

// ignoresHangUp reads the mask "SigIgn" of /proc/<pid>/status, in which SIGHUP, signal 1,
// is the lowest bit.
func ignoresHangUp(pid int) bool {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return false
	}
	_, rest, found := bytes.Cut(status, []byte("\nSigIgn:\t"))
	mask, _, _ := bytes.Cut(rest, []byte("\n"))
	ignored, err := strconv.ParseUint(string(mask), 16, 64)
	return found && err == nil && ignored&1 != 0
}
