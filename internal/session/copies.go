package session

import (
	"sync"
	"time"
)

// Copies of sparse datagrams (design 4.5). A key and its echo are one small
// datagram each way, and when one of them is lost nothing behind it tells the
// other end: the person waits for a timeout of several round trips. So what is
// sent now and then is sent twice, by the second path where one is alive, and by
// the best path a moment later, when a burst of losses may be over. The replay
// window drops the copy that comes second, so nobody needs to know. Our choices.
const (
	// copyMost is the longest write that is repeated, in bytes on the link: a few
	// keys, a screen line, an acknowledgement.
	copyMost = 2 * 412
	// copyAfter is how long the second copy waits.
	copyAfter = 5 * time.Millisecond
	// sparseWrites within sparseTime are no longer sparse: what they carry is
	// not waiting for a person, and losses show by what follows them.
	sparseWrites = 8
	sparseTime   = 60 * time.Millisecond
	// copyQueue bounds the copies that wait; more are not made.
	copyQueue = 16
)

// copies is the queue of second copies.
type copies struct {
	mu    sync.Mutex
	times [sparseWrites]time.Time // guarded by mu; when the last writes went out, a ring
	next  int                     // guarded by mu
	queue []copyDue               // guarded by mu, oldest first
	wake  chan struct{}           // cap 1
}

type copyDue struct {
	at   time.Time
	b    []byte
	size int
}

// wanted books a write of n bytes and reports whether it is to be repeated.
func (c *copies) wanted(n int, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	oldest := c.times[c.next]
	c.times[c.next] = now
	c.next = (c.next + 1) % len(c.times)
	return n <= copyMost && now.Sub(oldest) > sparseTime && len(c.queue) < copyQueue
}

// later queues a copy, which is the queue's from now on.
func (c *copies) later(b []byte, size int, now time.Time) {
	c.mu.Lock()
	c.queue = append(c.queue, copyDue{now.Add(copyAfter), b, size})
	c.mu.Unlock()
	poke(c.wake)
}

// due takes the copies whose time has come, and says when the next one's comes.
func (c *copies) due(now time.Time) (ready []copyDue, next time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for n < len(c.queue) && !now.Before(c.queue[n].at) {
		n++
	}
	ready = append(ready, c.queue[:n]...)
	c.queue = append(c.queue[:0], c.queue[n:]...)
	if len(c.queue) > 0 {
		next = c.queue[0].at
	}
	return ready, next
}

// sendCopies runs for the life of the session.
func (c *Conn) sendCopies() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.copies.wake:
		case <-timer.C:
		}
		now := time.Now()
		ready, next := c.copies.due(now)
		for _, d := range ready {
			c.sendCopy(d, now)
		}
		if !next.IsZero() {
			timer.Reset(next.Sub(now))
		}
	}
}

func (c *Conn) sendCopy(d copyDue, now time.Time) {
	r := c.paths.route(now)
	if r.none() {
		return
	}
	c.paths.sent(route{first: r.first}, len(d.b), now)
	c.wmu.Lock()
	defer c.wmu.Unlock()
	_ = c.writeLocked(r.first, d.b, d.size)
}
