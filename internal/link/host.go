package link

import (
	"errors"
	"net"
	"net/netip"
	"sync"

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

// What a direct datagram looks like before anybody looks into it: the types of
// protocol 2.7, from the shortest sealed datagram to what an Ethernet carries.
const (
	directFirst, directLast = 0xd0, 0xdf
	directLeast             = 32
	directMost              = 1500
)

// host is one UDP socket. It serves every relay of its family over UDP, and the
// direct paths, so that the address that a relay sees is theirs.
type host struct {
	number uint8 // path.Via.Socket
	conn   *udp.Conn
	direct bool // direct paths are wanted
	in     *inbox
	stats  *guard.Stats

	mu     sync.RWMutex
	relays map[netip.AddrPort]*allocation // guarded by mu
}

// listen opens a socket of one family.
func listen(number uint8, any netip.Addr, direct bool, in *inbox, stats *guard.Stats) (*host, error) {
	conn, err := udp.Listen(netip.AddrPortFrom(any, 0), udp.Options{ReadBuffer: udpReadBuffer, WriteBuffer: udpWriteBuffer})
	if err != nil {
		return nil, err
	}
	return &host{number: number, conn: conn, direct: direct, in: in, stats: stats, relays: map[netip.AddrPort]*allocation{}}, nil
}

// read is the socket's reader until it is closed.
func (h *host) read() {
	home := newBatches()
	b := <-home
	for failed := 0; ; {
		n, err := h.conn.ReadBatch(b.msgs)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // of one datagram, such as a port unreachable
			if failed++; failed == maxReadErrors {
				return
			}
			continue
		}
		failed = 0
		b.data = b.data[:0]
		for i := range b.msgs[:n] {
			h.sort(b, &b.msgs[i])
		}
		if len(b.data) == 0 {
			continue
		}
		if b = h.in.put(b); b == nil {
			return
		}
	}
}

// sort tells a relay's frames, which only the guard looks at, from what others
// send, of which only the length and the first byte are looked at (probe T3).
func (h *host) sort(b *batch, m *udp.Message) {
	h.mu.RLock()
	a := h.relays[m.Addr]
	h.mu.RUnlock()
	v := path.Via{Socket: h.number, Addr: m.Addr}
	for frame := range m.Segments() {
		switch {
		case a != nil:
			b.add(a.via, a.sort(frame))
		case h.direct && len(frame) >= directLeast && len(frame) <= directMost && frame[0] >= directFirst && frame[0] <= directLast:
			b.add(v, frame)
		default:
			h.stats.Count(guard.WrongSource)
		}
	}
}

// serve makes frames from addr the allocation's. Two at one address cannot be
// told apart, so the second is refused.
func (h *host) serve(addr netip.AddrPort, a *allocation) (leg, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.relays[addr] != nil {
		return nil, errors.New("this relay is in use already")
	}
	h.relays[addr] = a
	return &udpLeg{h, addr}, nil
}

// write sends direct datagrams: segments of size bytes in b, each behind Headroom
// bytes. They are moved together first, because one system call sends them all and
// takes no gaps; the last few bytes of each datagram move by four, which costs a
// copy of 0.03 us for a full one and saves a call of 1.5 us.
func (h *host) write(b []byte, size int, to netip.AddrPort) {
	n := 0
	for frame := range udp.Segments(b, size) {
		n += copy(b[n:], frame[Headroom:])
	}
	_ = h.conn.WriteSegments(b[:n], size-Headroom, to) // losses are what the streams above are for
}

// udpLeg is a host's way to one relay.
type udpLeg struct {
	host  *host
	relay netip.AddrPort
}

// segments: an error of the system concerns these datagrams only.
func (l *udpLeg) segments(b []byte, size int) error {
	return ended(l.host.conn.WriteSegments(b, size, l.relay))
}

func (l *udpLeg) frame(b []byte) error { return ended(l.host.conn.WriteTo(b, l.relay)) }

func ended(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return errDone
	}
	return nil
}

func (l *udpLeg) close() {
	l.host.mu.Lock()
	defer l.host.mu.Unlock()
	delete(l.host.relays, l.relay)
}
