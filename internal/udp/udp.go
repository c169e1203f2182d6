// Package udp is a UDP socket that moves many datagrams per system call where
// the system can, and behaves like a plain socket where it cannot.
//
// On Linux, datagrams of one size to one address leave in a single sendmsg
// (UDP_SEGMENT, "GSO") and arrive as one buffer (UDP_GRO). That is what makes
// the relay and the sealed transport cheap: measured on one 2-core machine, a
// forwarder costs 2.8 us per datagram one by one and 0.3-0.6 us this way, while
// recvmmsg and sendmmsg alone gain nothing.
//
// A received buffer of 3,000 bytes with SegmentSize 1,200 holds three datagrams,
// the last one shorter:
//
//	| 1200 bytes | 1200 bytes | 600 bytes |
//
// Addresses are netip.AddrPort throughout and IPv4 is always written as IPv4,
// also on a dual-stack socket, so an address can be compared and used as a key.
package udp

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// MaxDatagram is the largest UDP payload over IPv4, in bytes.
	MaxDatagram = 65507

	// MaxBatch is a buffer size, in bytes, that holds whatever one receive can
	// return with segments joined. Smaller buffers lose datagrams.
	MaxBatch = 1 << 16

	// maxSegments is how many datagrams the kernel takes in one call with
	// UDP_SEGMENT (UDP_MAX_SEGMENTS of older kernels).
	maxSegments = 64
)

// Message is one receive: one datagram, or several of one size from one sender.
type Message struct {
	Buf  []byte         // caller's; must hold MaxBatch bytes where joined receives are on
	N    int            // bytes received into Buf
	Addr netip.AddrPort // sender; IPv4 unmapped
	// SegmentSize is the size in bytes of every datagram in Buf[:N] but the
	// last, which may be shorter; 0 means that Buf[:N] is a single datagram.
	SegmentSize int
}

// Segments yields the datagrams of m in order, as parts of m.Buf.
func (m *Message) Segments() iter.Seq[[]byte] { return Segments(m.Buf[:m.N], m.SegmentSize) }

// Segments yields the datagrams that b holds: parts of size bytes, the last one
// shorter. With size 0 b is one datagram.
func Segments(b []byte, size int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for size > 0 && len(b) > size {
			if !yield(b[:size:size]) {
				return
			}
			b = b[size:]
		}
		yield(b)
	}
}

// Options of Listen. The zero value is right for most callers.
type Options struct {
	// ReadBuffer and WriteBuffer are socket buffer sizes in bytes; 0 leaves the
	// system's. The system may grant less without saying so.
	ReadBuffer, WriteBuffer int
	// OneFamily keeps an unspecified IPv6 address from listening on IPv4 too.
	OneFamily bool
	// NoOffload turns joined sends and receives off, as if the system had none.
	NoOffload bool
}

// Conn is a UDP socket. All methods may be called from any goroutine; ReadBatch
// from one at a time.
type Conn struct {
	sock  *net.UDPConn
	local netip.AddrPort
	batch *batchReader // owned by the caller of ReadBatch
	gro   bool         // receives may be joined
	gso   atomic.Bool  // sends may be joined; cleared for good when a device cannot
	whole sync.Mutex   // one WriteWhole at a time
}

// Listen opens a socket on addr; port 0 takes a free one. The zero AddrPort, and
// an unspecified IPv6 address, listen on both families. On a machine with
// several addresses name one: replies from an unspecified address leave with
// whichever source the routing table picks. Nothing is sent to broadcast addresses:
// such datagrams are errors.
func Listen(addr netip.AddrPort, opt Options) (*Conn, error) {
	network := "udp"
	switch {
	case addr.Addr().Unmap().Is4():
		network = "udp4"
	case opt.OneFamily:
		network = "udp6"
	}
	sock, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, fmt.Errorf("opening UDP socket: %w", err)
	}
	if err := unbroadcast(sock); err != nil {
		sock.Close()
		return nil, fmt.Errorf("opening UDP socket %v: %w", addr, err)
	}
	c := &Conn{sock: sock, local: unmap(sock.LocalAddr().(*net.UDPAddr).AddrPort())}
	if err := c.setBuffers(opt); err != nil {
		sock.Close()
		return nil, fmt.Errorf("opening UDP socket %v: %w", addr, err)
	}
	if !opt.NoOffload {
		gso, gro := enableOffload(sock)
		c.gso.Store(gso)
		c.gro = gro
	}
	c.batch = newBatchReader(sock, c.gro)
	return c, nil
}

// unbroadcast takes away what package net gives every UDP socket: the permission
// to send to everybody in a network. Addresses come from peers, and which of them
// are everybody's the system knows at every moment.
func unbroadcast(sock *net.UDPConn) error {
	raw, err := sock.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = forbidBroadcast(fd) })
	return cmp.Or(err, failed)
}

func (c *Conn) setBuffers(opt Options) error {
	if opt.ReadBuffer > 0 {
		if err := c.SetReadBuffer(opt.ReadBuffer); err != nil {
			return err
		}
	}
	if opt.WriteBuffer > 0 {
		return c.SetWriteBuffer(opt.WriteBuffer)
	}
	return nil
}

// ReadBatch waits for at least one receive and fills the first n of msgs. An
// error other than net.ErrClosed and os.ErrDeadlineExceeded concerns one
// datagram, not the socket: the caller may go on.
func (c *Conn) ReadBatch(msgs []Message) (n int, err error) {
	if len(msgs) == 0 {
		return 0, nil
	}
	return c.batch.read(msgs)
}

// WriteTo sends one datagram. It allocates nothing.
func (c *Conn) WriteTo(b []byte, to netip.AddrPort) error {
	_, err := c.sock.WriteToUDPAddrPort(b, to)
	return err
}

// WriteWhole sends one datagram that neither this machine nor a router may send on in
// parts: it arrives as it is or not at all. That it has arrived shows what a path
// carries. What other goroutines send at the same moment may be treated alike. Where
// the system cannot do that it fails and sends nothing.
func (c *Conn) WriteWhole(b []byte, to netip.AddrPort) error {
	raw, err := c.sock.SyscallConn()
	if err != nil {
		return err
	}
	c.whole.Lock()
	defer c.whole.Unlock()
	if err := setWhole(raw, c.local.Addr().Is4(), true); err != nil {
		return err
	}
	defer func() { _ = setWhole(raw, c.local.Addr().Is4(), false) }()
	return c.WriteTo(b, to)
}

// WriteSegments sends b as datagrams of segmentSize bytes, the last one shorter,
// with as few system calls as the system allows. It allocates nothing. It fails
// if segmentSize is not positive, and otherwise with the first error of the
// system; datagrams before it have left.
func (c *Conn) WriteSegments(b []byte, segmentSize int, to netip.AddrPort) error {
	if segmentSize <= 0 {
		return errors.New("sending segments: segment size is not positive")
	}
	for len(b) > segmentSize && c.gso.Load() {
		n := segmentSize * min(maxSegments, MaxDatagram/segmentSize)
		if n <= segmentSize {
			break // two do not fit into one call
		}
		n = min(n, len(b))
		err := sendJoined(c.sock, b[:n], segmentSize, to)
		if err == nil {
			b = b[n:]
			continue
		}
		if !refusedOffload(err) {
			return err
		}
		if lacksOffload(err) {
			c.gso.Store(false)
		}
		break
	}
	return c.writeSingly(b, segmentSize, to)
}

func (c *Conn) writeSingly(b []byte, segmentSize int, to netip.AddrPort) error {
	for len(b) > 0 {
		n := min(segmentSize, len(b))
		if err := c.WriteTo(b[:n], to); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// LocalAddr returns the address the socket is bound to.
func (c *Conn) LocalAddr() netip.AddrPort { return c.local }

// SyscallConn gives access to the descriptor, for socket options.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.sock.SyscallConn() }

// SetReadBuffer asks for a receive buffer of that many bytes.
func (c *Conn) SetReadBuffer(bytes int) error { return c.sock.SetReadBuffer(bytes) }

// SetWriteBuffer asks for a send buffer of that many bytes.
func (c *Conn) SetWriteBuffer(bytes int) error { return c.sock.SetWriteBuffer(bytes) }

// SetDeadline sets both deadlines; the zero time means none.
func (c *Conn) SetDeadline(t time.Time) error { return c.sock.SetDeadline(t) }

// SetReadDeadline makes ReadBatch fail with os.ErrDeadlineExceeded from t on.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.sock.SetReadDeadline(t) }

// SetWriteDeadline makes sends fail with os.ErrDeadlineExceeded from t on.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.sock.SetWriteDeadline(t) }

// Close closes the socket and ends a waiting ReadBatch with net.ErrClosed. It
// may be called more than once.
func (c *Conn) Close() error {
	if err := c.sock.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
