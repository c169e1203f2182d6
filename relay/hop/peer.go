package hop

import (
	"container/list"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// maxWaiting is how many datagrams wait for one connection; what comes on top is
// dropped, like in a network. Our choice: one joined receive and as many again.
const maxWaiting = 128

// peer is one client of a Listener as the library sees it: a connection that keeps
// the boundaries of datagrams.
type peer struct {
	l      *Listener
	from   netip.AddrPort
	filter *filter

	place *list.Element // guarded by l.mu; among the half-open ones
	leave func()        // guarded by l.mu; gives the place under the caps back

	mu       sync.Mutex    // guards everything below
	waiting  []*[]byte     // datagrams; each is cut to its length
	wake     chan struct{} // closed and replaced when something has changed
	asleep   bool          // a reader waits for wake
	deadline time.Time     // of Read; zero is none
	gone     bool
	received int // bytes, until the client has shown its address
	answered int // bytes, likewise
}

func newPeer(l *Listener, from netip.AddrPort) *peer {
	return &peer{l: l, from: from, filter: &filter{server: true}, wake: make(chan struct{})}
}

// push takes a datagram from the listener's reader; it copies what the filter
// leaves of it.
func (p *peer) push(datagram []byte) {
	size := len(datagram)
	datagram = p.filter.pass(datagram)
	if len(datagram) == 0 {
		p.l.opt.Stats.Filtered.Add(1)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.received += size
	if p.gone {
		return
	}
	if len(p.waiting) >= maxWaiting {
		p.l.opt.Stats.Full.Add(1)
		return
	}
	b := p.l.pool.Get().(*[]byte)
	*b = append((*b)[:0], datagram...)
	p.waiting = append(p.waiting, b)
	p.wakeLocked()
}

func (p *peer) wakeLocked() {
	if p.asleep {
		p.asleep = false
		close(p.wake)
		p.wake = make(chan struct{})
	}
}

// Read returns the next datagram. The clock is asked here and by nobody else: a
// timer that sets a mark may fire, and wait for the lock, while its deadline is
// being taken back, and the mark would then end whatever is read next.
func (p *peer) Read(b []byte) (int, error) {
	for {
		p.mu.Lock()
		left := time.Until(p.deadline)
		switch {
		case p.gone:
			p.mu.Unlock()
			return 0, net.ErrClosed
		case !p.deadline.IsZero() && left <= 0:
			p.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(p.waiting) > 0:
			first := p.waiting[0]
			if p.waiting = p.waiting[1:]; len(p.waiting) == 0 {
				p.waiting = nil
			}
			p.mu.Unlock()
			n := copy(b, *first)
			p.l.pool.Put(first)
			return n, nil
		}
		p.asleep = true
		wake, limited := p.wake, !p.deadline.IsZero()
		p.mu.Unlock()
		sleep(wake, left, limited)
	}
}

// sleep waits for wake, and no longer than left if limited.
func sleep(wake <-chan struct{}, left time.Duration, limited bool) {
	if !limited {
		<-wake
		return
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-wake:
	case <-t.C:
	}
}

// Write sends one datagram, unless an address that may be forged would get more
// than it sent. What the system refuses is lost, as in a network.
func (p *peer) Write(b []byte) (int, error) {
	if !p.filter.isProved() {
		if answersCookie(b) {
			if !p.l.prove(p) {
				return 0, net.ErrClosed
			}
			p.filter.prove()
		} else if !p.mayAnswer(len(b)) {
			return len(b), nil
		}
	}
	_ = p.l.sock.WriteTo(b, p.from)
	return len(b), nil
}

func (p *peer) mayAnswer(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answered+n > p.received*answerPercent/100 {
		return false
	}
	p.answered += n
	return true
}

// SetReadDeadline makes Read fail from t on, also one that waits; the library uses
// it to end a Read.
func (p *peer) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = t
	p.wakeLocked() // who waits looks again
	return nil
}

// SetWriteDeadline has nothing to do: Write does not wait.
func (p *peer) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline is SetReadDeadline.
func (p *peer) SetDeadline(t time.Time) error { return p.SetReadDeadline(t) }

// LocalAddr returns the listener's address.
func (p *peer) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(p.l.sock.LocalAddr()) }

// RemoteAddr returns the client's address.
func (p *peer) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(p.from) }

// Close ends the peer. It may be called more than once.
func (p *peer) Close() error {
	p.mu.Lock()
	p.gone = true
	p.waiting = nil
	p.wakeLocked()
	p.mu.Unlock()
	p.l.forget(p)
	return nil
}
