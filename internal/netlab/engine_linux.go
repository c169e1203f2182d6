package netlab

import (
	"container/heap"
	"errors"
	"math/bits"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// readBatch is how many frames of one interface are taken before others get their
// turn; our choice.
const readBatch = 64

// engine moves frames between interfaces on one thread. The thread waits in the
// system itself, because the runtime's timers are only exact to a millisecond.
type engine struct {
	wake int           // eventfd
	done chan struct{} // closed when run has ended

	mu     sync.Mutex
	ports  []*Host // guarded by mu, as what follows
	polled []unix.PollFd
	stale  bool // polled does not match ports
	flight flight
	order  uint64
	closed bool
	cost   Cost
	late   [32]uint64 // arrivals by the bit length of their lateness in microseconds
}

// Cost is what the lab itself took.
type Cost struct {
	CPU     time.Duration // of its thread; it includes the receiving half of the hosts' stacks
	Frames  uint64        // packets and trains read from interfaces
	Delayed uint64        // of them and their pieces, those that a link has delayed
	Late    time.Duration // half of the delayed came at most this much too late, to a power of two
	Late99  time.Duration // 99 of 100
}

// arrival is a frame on its way.
type arrival struct {
	at    time.Time
	order uint64
	pipe  *pipe
	f     *frame
}

// flight is a heap by time of arrival.
type flight []arrival

func (h flight) Len() int { return len(h) }
func (h flight) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].order < h[j].order
}
func (h flight) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *flight) Push(x any)   { *h = append(*h, x.(arrival)) }
func (h *flight) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	(*h)[last] = arrival{}
	*h = (*h)[:last]
	return x
}

func newEngine() (*engine, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	e := &engine{wake: wake, done: make(chan struct{}), stale: true}
	go e.run()
	return e, nil
}

// close ends the thread and waits for it.
func (e *engine) close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.rouse()
	<-e.done
	_ = unix.Close(e.wake)
}

// rouse has the thread look at ports, flight and closed again.
func (e *engine) rouse() { _, _ = unix.Write(e.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

// arriveLocked has f come out of p at a time.
func (e *engine) arriveLocked(at time.Time, p *pipe, f *frame) {
	e.order++
	heap.Push(&e.flight, arrival{at, e.order, p, f})
}

// run owns its thread, and gives it back as it was; see onThread.
func (e *engine) run() {
	defer close(e.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	urgent(true)
	defer urgent(false)
	buffer := make([]byte, maxFrame+1)
	for {
		fds, wait, closed := e.due()
		if closed {
			return
		}
		timeout := unix.NsecToTimespec(int64(wait))
		if _, err := unix.Ppoll(fds, &timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
			panic("netlab: internal error: ppoll: " + err.Error())
		}
		e.read(fds, buffer)
	}
}

// urgent puts this thread before all ordinary ones, where the system lets us, and
// its alarms to the microsecond; or back into line.
func urgent(on bool) {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}
	slack := 0 // the system's default
	if on {
		attr.Policy, attr.Priority, slack = unix.SCHED_RR, 1, 1
	}
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack), 0, 0, 0)
	_ = unix.SchedSetAttr(0, &attr, 0)
}

// due lets arrive what is due, and returns what to wait for.
func (e *engine) due() (fds []unix.PollFd, wait time.Duration, closed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	wait = time.Second
	for len(e.flight) > 0 {
		now := time.Now()
		if wait = e.flight[0].at.Sub(now); wait > 0 {
			break
		}
		a := heap.Pop(&e.flight).(arrival)
		a.pipe.flying--
		e.late[min(bits.Len64(uint64(-wait/time.Microsecond)), len(e.late)-1)]++
		a.pipe.out(a.f)
		wait = time.Second
	}
	if e.stale {
		e.stale = false
		e.polled = append(make([]unix.PollFd, 0, len(e.ports)+1), unix.PollFd{Fd: int32(e.wake), Events: unix.POLLIN})
		for _, h := range e.ports {
			e.polled = append(e.polled, unix.PollFd{Fd: int32(h.tap), Events: unix.POLLIN})
		}
	}
	return e.polled, min(wait, time.Second), e.closed
}

// read takes what the hosts have sent.
func (e *engine) read(fds []unix.PollFd, buffer []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if fds[0].Revents != 0 {
		_, _ = unix.Read(e.wake, buffer[:8])
	}
	for i, fd := range fds[1:] {
		if fd.Revents == 0 || i >= len(e.ports) {
			continue
		}
		for range readBatch {
			n, err := unix.Read(e.ports[i].tap, buffer)
			if err != nil || n <= 0 {
				break
			}
			e.cost.Frames++
			if f, ok := parse(buffer[:n]); ok {
				e.ports[i].enterLocked(true, f)
			}
		}
	}
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) == nil {
		e.cost.CPU = time.Duration(t.Nano())
	}
}

// measured returns the cost so far.
func (e *engine) measured() Cost {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.cost
	for _, n := range e.late {
		c.Delayed += n
	}
	c.Late, c.Late99 = e.lateLocked(c.Delayed/2), e.lateLocked(c.Delayed-c.Delayed/100)
	return c
}

// lateLocked is the lateness that n arrivals stay below.
func (e *engine) lateLocked(n uint64) time.Duration {
	for bit, have := range e.late {
		if n = n - min(n, have); n == 0 {
			return time.Duration(1<<bit) * time.Microsecond
		}
	}
	return 0
}
