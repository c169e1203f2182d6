package link

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/udp"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// Sizes and limits of UDP sockets; our choice.
const (
	udpReadBuffer  = 4 << 20 // what a fast sender delivers while we are not scheduled; the system may grant less
	udpWriteBuffer = 1 << 20
	maxReadErrors  = 1000 // in a row; then the socket is taken for broken
)

var errNoFamily = errors.New("this machine has no such addresses")

// socket is the one UDP socket of an address family. It serves every relay over
// UDP and all direct paths, so that the address a relay sees is the one where a
// direct path can reach us.
type socket struct {
	link  *Link
	index uint8 // as in path.Via
	conn  *udp.Conn

	// relays are the allocations by the relay's address. What comes from there is
	// theirs, whatever it looks like.
	relays atomic.Pointer[map[netip.AddrPort]*allocation]
	mu     sync.Mutex // serialises changes of relays
}

func newSocket(l *Link, index uint8) *socket {
	s := &socket{link: l, index: index}
	s.relays.Store(&map[netip.AddrPort]*allocation{})
	return s
}

// open binds the socket; a family that the system does not have is no error to
// anybody but its relays.
func (s *socket) open() (err error) {
	here := netip.IPv4Unspecified()
	if s.index == 1 {
		here = netip.IPv6Unspecified()
	}
	for _, port := range s.link.cfg.Ports.order() {
		s.conn, err = udp.Listen(netip.AddrPortFrom(here, port), udp.Options{ReadBuffer: udpReadBuffer, WriteBuffer: udpWriteBuffer, OneFamily: true})
		if err == nil {
			break // else it is taken, or not for us
		}
	}
	return err
}

func (s *socket) close() {
	if s.conn != nil {
		_ = s.conn.Close()
	}
}

// port is where the socket listens; 0 when there is none.
func (s *socket) port() uint16 {
	if s.conn == nil {
		return 0
	}
	return s.conn.LocalAddr().Port()
}

// family returns the socket for an address.
func (l *Link) family(a netip.Addr) *socket {
	if a.Is4() {
		return l.socks[0]
	}
	return l.socks[1]
}

// enter makes a the receiver of what comes from relay. One address cannot be two
// relays.
func (s *socket) enter(relay netip.AddrPort, a *allocation) error {
	if s.conn == nil {
		return errNoFamily
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := *s.relays.Load()
	if old[relay] != nil {
		return errors.New("the address is that of another relay in the list")
	}
	next := make(map[netip.AddrPort]*allocation, len(old)+1)
	for k, v := range old {
		next[k] = v
	}
	next[relay] = a
	s.relays.Store(&next)
	return nil
}

func (s *socket) leave(relay netip.AddrPort, a *allocation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := *s.relays.Load()
	if old[relay] != a {
		return
	}
	next := make(map[netip.AddrPort]*allocation, len(old))
	for k, v := range old {
		if k != relay {
			next[k] = v
		}
	}
	s.relays.Store(&next)
}

// read is the socket's reader. It tells what comes apart by its source before
// anything parses it: anybody can send to the port (probe T3).
func (s *socket) read() {
	home := newBatches(socketBatches, messages)
	b := <-home
	for failed := 0; b != nil; {
		n, err := s.conn.ReadBatch(b.msgs)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if failed++; failed == maxReadErrors {
				s.broken(err)
				return
			}
			continue
		}
		failed = 0
		now, relays := time.Now(), *s.relays.Load()
		for i := range b.msgs[:n] {
			s.sort(b, &b.msgs[i], relays, now)
		}
		b = s.link.next(b)
	}
}

func (s *socket) sort(b *batch, m *udp.Message, relays map[netip.AddrPort]*allocation, now time.Time) {
	if a := relays[m.Addr]; a != nil {
		for frame := range m.Segments() {
			a.sort(b, frame, now)
		}
		return
	}
	via := path.Via{Socket: s.index, Addr: m.Addr}
	for d := range m.Segments() {
		if !s.link.cfg.Direct || !isOurs(d) {
			s.link.stats.Count(guard.WrongSource)
			continue
		}
		b.add(via, d)
	}
}

// broken ends the allocations on a socket that does not work any more; they find
// other ways.
func (s *socket) broken(err error) {
	s.link.cfg.Logger.Warn("UDP socket is broken", "error", err)
	s.close()
	for _, a := range *s.relays.Load() {
		a.fail(err)
	}
}

// direct sends segments to an address that is no relay's. The datagrams are
// moved together over their headrooms, so that one system call takes them: a
// copy costs a sixth of the call, and one call for each a multiple (BenchmarkDirect,
// BenchmarkDirectMove).
func (s *socket) direct(b []byte, size int, to netip.AddrPort) {
	if s.conn == nil || (*s.relays.Load())[to] != nil || s.link.IsRelay(to) {
		return
	}
	if len(b) <= size {
		_ = s.conn.WriteTo(b[Headroom:], to) // a loss, as below
		return
	}
	// An error of the system concerns these datagrams only, and losses are what
	// the streams above are for.
	_ = s.conn.WriteSegments(together(b, size), size-Headroom, to)
}

// whole sends one datagram that may not be sent on in parts.
func (s *socket) whole(b []byte, to netip.AddrPort) {
	if s.conn != nil && (*s.relays.Load())[to] == nil && !s.link.IsRelay(to) {
		_ = s.conn.WriteWhole(b, to)
	}
}

// together moves the datagrams of b over their headrooms, to lie one behind the
// other.
func together(b []byte, size int) []byte {
	n := size
	for rest := b[size:]; len(rest) > 0; rest = rest[min(size, len(rest)):] {
		n += copy(b[n:], rest[Headroom:min(size, len(rest))])
	}
	return b[Headroom:n]
}

// relayLeg is one relay on the socket.
type relayLeg struct {
	sock  *socket
	relay netip.AddrPort
	owner *allocation
}

func (r *relayLeg) segments(b []byte, size int) error {
	return r.lost(r.sock.conn.WriteSegments(b, size, r.relay))
}

func (r *relayLeg) whole(b []byte) { _ = r.sock.conn.WriteWhole(b, r.relay) }

func (r *relayLeg) frame(b []byte) error { return r.lost(r.sock.conn.WriteTo(b, r.relay)) }

func (r *relayLeg) lost(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return errDone
	}
	return nil
}

func (r *relayLeg) close() { r.sock.leave(r.relay, r.owner) }
