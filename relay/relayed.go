package relay

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/relay/guard"
)

// inboxSize is how many datagrams wait for a client that has no channel yet.
// More are dropped, as a network would. Our choice.
const inboxSize = 32

// minPort is the first port of synthetic addresses: below are the well-known ones.
const minPort = 1024

// syntheticAddr is the "relayed address" of the n-th allocation. Nobody can send
// to it; TURN only wants one in its answer. TEST-NET-1, as guard.PeerAddr.
func syntheticAddr(n uint32) *net.UDPAddr {
	return &net.UDPAddr{IP: net.IPv4(192, 0, 2, 2).To4(), Port: minPort + int(n%(1<<16-minPort))}
}

// relayed is the packet connection that pion takes for an allocation's relay
// socket. There is no socket behind it: writes go to the other side of the pair,
// reads come from there. Traffic takes it only until both sides have bound the
// channel.
type relayed struct {
	s     *Server
	alloc *allocation
	addr  *net.UDPAddr
	inbox chan []byte
	gone  chan struct{}
	once  sync.Once
	over  chan struct{} // closed when pion has let go of the allocation
	let   sync.Once     // closes over

	socket io.Closer // lab mode only: the real socket; set before use
}

func newRelayed(s *Server, a *allocation) *relayed {
	return &relayed{
		s: s, alloc: a, addr: syntheticAddr(s.ports.Add(1)),
		inbox: make(chan []byte, inboxSize), gone: make(chan struct{}), over: make(chan struct{}),
	}
}

// ReadFrom gives pion what the other side sent.
func (r *relayed) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case b := <-r.inbox:
		return copy(p, b), net.UDPAddrFromAddrPort(guard.PeerAddr()), nil
	case <-r.gone:
		return 0, nil, net.ErrClosed
	}
}

// push hands a payload to pion, which sends it as a Data indication if the
// client has a permission. It copies b.
func (r *relayed) push(b []byte) {
	select {
	case r.inbox <- append([]byte(nil), b...):
	default:
		r.s.metrics.count(evQueueFull)
	}
}

// WriteTo delivers what the client sent by Send indication to the other side of
// the pair. Any other address is counted and dropped: permissions keep it out
// already, this is the second wall (attacks M1 and M2).
func (r *relayed) WriteTo(b []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok || !isPeer(udp.AddrPort()) {
		r.s.metrics.count(evWrongPeer)
		return len(b), nil
	}
	if len(b) <= guard.MaxPayload {
		r.s.deliver(r.alloc, b)
	}
	return len(b), nil
}

// isPeer compares without unmapping: only the plain IPv4 form is the pair's peer
// address, so no embedding of it or of anything else passes.
func isPeer(a netip.AddrPort) bool { return a == guard.PeerAddr() }

// Close is pion's word that it has deleted the allocation.
func (r *relayed) Close() error {
	err := r.end()
	r.let.Do(func() { close(r.over) })
	return err
}

// end makes pion delete the allocation, which it does in a goroutine of its own,
// going through the allocation's permissions. One that its loop is just adding has
// no timer yet, which would be the end of the process. So only the loop of the
// allocation's front may call it, between two messages, or anybody after that loop;
// everybody else asks the front (front.release).
func (r *relayed) end() error {
	var err error
	r.once.Do(func() {
		close(r.gone)
		if r.s.table.remove(r.alloc) {
			r.s.metrics.count(evEnded)
		}
		if r.socket != nil {
			err = r.socket.Close()
		}
	})
	return err
}

// LocalAddr returns the synthetic address.
func (r *relayed) LocalAddr() net.Addr { return r.addr }

// Deadlines are not used by pion here.

func (r *relayed) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (r *relayed) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (r *relayed) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
