package transport

import (
	"net"
	"sync"
	"time"
)

// packetConn is what the library takes for its socket. It has no addresses: the
// ones it shows are constants from TEST-NET-1 (RFC 5737), one for each end.
type packetConn struct {
	packets Packets
	peer    *net.UDPAddr
	probe   probe // system-specific
	one     [1]Packet
	stop    func()
	backlog backlog
}

func newPacketConn(packets Packets) *packetConn {
	return &packetConn{
		packets: packets,
		peer:    &net.UDPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 1},
		stop:    sync.OnceFunc(packets.Interrupt),
	}
}

// address is not a *net.UDPAddr on purpose: for those the library sets options
// on the socket.
type address struct{}

func (address) Network() string { return "sealed" }
func (address) String() string  { return "sealed" }

func (c *packetConn) LocalAddr() net.Addr { return address{} }

// ReadFrom reads one packet; called by the library's one reader only.
func (c *packetConn) ReadFrom(p []byte) (int, net.Addr, error) {
	c.one[0] = Packet{Buf: p}
	c.backlog.wait()
	if _, err := c.packets.ReadPackets(c.one[:]); err != nil {
		return 0, nil, err
	}
	c.backlog.add(len(c.one[0].Data))
	return copy(p, c.one[0].Data), c.peer, nil
}

func (c *packetConn) WriteTo(p []byte, _ net.Addr) (int, error) {
	if err := c.packets.WritePackets(p, len(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetReadDeadline is used by the library for one thing: a deadline that has
// come ends its read loop. The later one that would allow reading again never
// concerns us, because the connection is not used again.
func (c *packetConn) SetReadDeadline(t time.Time) error {
	if !t.IsZero() {
		c.stop()
	}
	return nil
}

func (c *packetConn) SetWriteDeadline(time.Time) error { return nil }
func (c *packetConn) SetDeadline(time.Time) error      { return nil }

// SetReadBuffer does nothing: socket buffers belong to internal/link.
func (c *packetConn) SetReadBuffer(int) error { return nil }

// SetWriteBuffer does nothing, likewise.
func (c *packetConn) SetWriteBuffer(int) error { return nil }

// Close ends reading.
func (c *packetConn) Close() error {
	c.stop()
	return nil
}
