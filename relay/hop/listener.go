package hop

import (
	"container/list"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v2"
	"github.com/tucdesk/tucdesk/internal/udp"
)

// Limits of a listener; our choice.
const (
	// maxHalfOpen is how many clients may be half way without having shown that
	// they receive at their address, some 20 KiB each. One more displaces the
	// oldest: an honest client needs one round trip, so a flood of invented
	// addresses has to displace all of them within that time to keep it out.
	maxHalfOpen = 1024
	// unprovedWithin ends such a client.
	unprovedWithin = 3 * time.Second
	// maxDatagram in bytes: the largest frame in a record, and any flight.
	maxDatagram = 2048
	// receives is how many receives one system call may return.
	receives = 8
	// errorPause keeps a socket that only fails from taking a core.
	errorPause = time.Millisecond
	// answerPercent of the bytes of an unproved client may be answered (protocol
	// 6.3): a forged source must not gain anything.
	answerPercent = 150
)

// ListenerOptions of Listen. All but Stats are required.
type ListenerOptions struct {
	Identity *Identity
	// Enter takes a place for a client that has shown its address; leave gives it
	// back. See guard.Gate.
	Enter func(from netip.Addr) (leave func(), ok bool)
	// Take judges the rate of a source before a new client's first datagram, of so
	// many bytes, is looked at.
	Take func(from netip.Addr, bytes int) bool
	// Stats receives counts. May be nil.
	Stats *Stats
}

// Stats counts what a listener refused. All fields may be read at any time.
type Stats struct {
	Strange   atomic.Uint64 // datagrams from strangers that begin no handshake
	Limited   atomic.Uint64 // new clients over the rate or the places
	Displaced atomic.Uint64 // half-open clients that made room for newer ones
	Failed    atomic.Uint64 // handshakes that did not end well
	Filtered  atomic.Uint64 // datagrams of which the filter left nothing
	Full      atomic.Uint64 // datagrams for a connection that does not keep up
}

// Listener is the DTLS server on one UDP socket. The library's own listener runs
// one handshake at a time and ends for good at the first that fails (probes Z2 and
// Z3); this one runs each by itself, and only Close ends it.
type Listener struct {
	sock *udp.Conn
	opt  ListenerOptions
	cfg  *dtls.Config

	closed chan struct{}
	once   sync.Once
	pool   sync.Pool // of *[]byte, maxDatagram long: what waits in a peer
	wg     sync.WaitGroup

	mu    sync.Mutex               // guards everything below
	peers map[netip.AddrPort]*peer // everybody who is or wants to be connected
	half  *list.List               // of *peer: the unproved ones, oldest first
}

// Listen takes over sock. Nothing is served before Serve.
func Listen(sock *udp.Conn, opt ListenerOptions) (*Listener, error) {
	if opt.Identity == nil || opt.Enter == nil || opt.Take == nil {
		return nil, errors.New("relay DTLS: listener without key or limits")
	}
	if opt.Stats == nil {
		opt.Stats = &Stats{}
	}
	l := &Listener{
		sock: sock, opt: opt, cfg: opt.Identity.serverDTLS(), closed: make(chan struct{}),
		peers: make(map[netip.AddrPort]*peer), half: list.New(),
	}
	l.pool.New = func() any { b := make([]byte, maxDatagram); return &b }
	return l, nil
}

// Serve reads the socket until Close, and calls handle for every connection whose
// handshake is over, in a goroutine of its own; handle closes the connection. It
// returns when all of them have returned.
func (l *Listener) Serve(handle func(*Conn)) {
	defer l.wg.Wait()
	defer l.endPeers()
	msgs := make([]udp.Message, receives)
	for i := range msgs {
		msgs[i].Buf = make([]byte, udp.MaxBatch)
	}
	for {
		n, err := l.sock.ReadBatch(msgs)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // concerns one datagram, not the socket
			select {
			case <-l.closed:
				return
			case <-time.After(errorPause):
			}
			continue
		}
		for i := range msgs[:n] {
			m := &msgs[i]
			for datagram := range m.Segments() {
				l.receive(datagram, m.Addr, handle)
			}
		}
	}
}

func (l *Listener) receive(datagram []byte, from netip.AddrPort, handle func(*Conn)) {
	if len(datagram) > maxDatagram {
		return
	}
	l.mu.Lock()
	p := l.peers[from]
	l.mu.Unlock()
	if p == nil {
		if p = l.admit(datagram, from, handle); p == nil {
			return
		}
	}
	p.push(datagram)
}

// admit makes a peer of a stranger whose datagram begins a handshake.
func (l *Listener) admit(datagram []byte, from netip.AddrPort, handle func(*Conn)) *peer {
	if !l.opt.Take(from.Addr(), len(datagram)) {
		l.opt.Stats.Limited.Add(1)
		return nil
	}
	if !opensConversation(datagram) {
		l.opt.Stats.Strange.Add(1)
		return nil
	}
	p := newPeer(l, from)
	l.mu.Lock()
	var displaced *peer
	if l.half.Len() >= maxHalfOpen {
		displaced = l.half.Remove(l.half.Front()).(*peer)
		displaced.place = nil
	}
	l.peers[from] = p
	p.place = l.half.PushBack(p)
	l.wg.Go(func() { p.run(handle) })
	l.mu.Unlock()
	if displaced != nil {
		l.opt.Stats.Displaced.Add(1)
		displaced.Close()
	}
	return p
}

// prove moves a client from the half-open ones to those that take a place.
func (l *Listener) prove(p *peer) bool {
	leave, ok := l.opt.Enter(p.from.Addr())
	if !ok {
		l.opt.Stats.Limited.Add(1)
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.peers[p.from] != p {
		leave()
		return false
	}
	p.leave = leave
	l.dropPlaceLocked(p)
	return true
}

func (l *Listener) dropPlaceLocked(p *peer) {
	if p.place != nil {
		l.half.Remove(p.place)
		p.place = nil
	}
}

// forget ends what the listener knows of p. It may be called more than once.
func (l *Listener) forget(p *peer) {
	l.mu.Lock()
	if l.peers[p.from] == p {
		delete(l.peers, p.from)
	}
	l.dropPlaceLocked(p)
	leave := p.leave
	p.leave = nil
	l.mu.Unlock()
	if leave != nil {
		leave()
	}
}

func (l *Listener) endPeers() {
	l.mu.Lock()
	all := make([]*peer, 0, len(l.peers))
	for _, p := range l.peers {
		all = append(all, p)
	}
	l.mu.Unlock()
	for _, p := range all {
		p.Close()
	}
}

// Addr returns the address the listener is bound to.
func (l *Listener) Addr() netip.AddrPort { return l.sock.LocalAddr() }

// Close closes the socket and, through Serve, every connection. It may be called
// more than once.
func (l *Listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		close(l.closed)
		err = l.sock.Close()
	})
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// run is a peer's handshake and, after it, its connection.
func (p *peer) run(handle func(*Conn)) {
	defer p.Close()
	ctx, cancel := context.WithTimeout(context.Background(), handshakeWithin)
	defer cancel()
	impatient := time.AfterFunc(unprovedWithin, func() {
		if !p.filter.isProved() {
			p.Close()
		}
	})
	defer impatient.Stop()
	c, err := dtls.ServerWithContext(ctx, p, p.l.cfg)
	if err != nil {
		p.l.opt.Stats.Failed.Add(1)
		return
	}
	p.filter.finish()
	handle(&Conn{Conn: c, filter: p.filter})
}
