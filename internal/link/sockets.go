package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/udp"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// Sizes and limits of sockets; our choice.
const (
	udpReadBuffer  = 4 << 20   // what a fast sender delivers while we are not scheduled; the system may grant less
	udpWriteBuffer = 1 << 20   //
	tcpWriteBuffer = 256 << 10 // more would only queue: the streams above have their own control
	tcpWriteLimit  = 10 * time.Second
	maxReadErrors  = 1000 // in a row; then the socket is taken for broken
)

// udpSocket talks to one relay over UDP.
type udpSocket struct {
	conn  *udp.Conn
	relay netip.AddrPort
}

func dialUDP(ctx context.Context, addr string) (*udpSocket, error) {
	relay, err := resolve(ctx, addr)
	if err != nil {
		return nil, err
	}
	local := netip.IPv4Unspecified()
	if relay.Addr().Is6() {
		local = netip.IPv6Unspecified()
	}
	conn, err := udp.Listen(netip.AddrPortFrom(local, 0), udp.Options{ReadBuffer: udpReadBuffer, WriteBuffer: udpWriteBuffer})
	if err != nil {
		return nil, err
	}
	return &udpSocket{conn: conn, relay: relay}, nil
}

// resolve takes the first address of a name. TCP, which tries all, is what is
// left when that one does not answer.
func resolve(ctx context.Context, addr string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, errors.New("address is not host:port")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return netip.AddrPort{}, errors.New("port is not a number from 1 to 65535")
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(ips) == 0 {
		return netip.AddrPort{}, errors.New("name has no address")
	}
	return netip.AddrPortFrom(ips[0].Unmap(), uint16(n)), nil
}

// receive drops what does not come from the relay before anything parses it:
// anybody can send to the port (probe T3).
func (s *udpSocket) receive(b *batch) error {
	for failed := 0; len(b.frames) == 0 && b.strangers == 0; {
		n, err := s.conn.ReadBatch(b.msgs)
		if errors.Is(err, net.ErrClosed) {
			return errDone
		}
		if err != nil {
			if failed++; failed == maxReadErrors {
				return fmt.Errorf("receiving from the relay: %v", err)
			}
			continue
		}
		failed = 0
		for i := range b.msgs[:n] {
			m := &b.msgs[i]
			for frame := range m.Segments() {
				if m.Addr != s.relay {
					b.strangers++
					continue
				}
				b.frames = append(b.frames, frame)
			}
		}
	}
	return nil
}

// segments: an error of the system concerns these datagrams only, and losses are
// what the streams above are for.
func (s *udpSocket) segments(b []byte, size int) error {
	return s.lost(s.conn.WriteSegments(b, size, s.relay))
}

func (s *udpSocket) frame(b []byte) error { return s.lost(s.conn.WriteTo(b, s.relay)) }

func (s *udpSocket) lost(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return errDone
	}
	return nil
}

func (s *udpSocket) close() { _ = s.conn.Close() }

// tcpSocket talks to one relay over TCP.
type tcpSocket struct {
	conn *guard.Conn // read by the path's reader only
	mu   sync.Mutex  // serialises writes: a frame must not be split by another
}

func dialTCP(ctx context.Context, addr string) (*tcpSocket, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return newTCP(conn)
}

func newTCP(conn net.Conn) (*tcpSocket, error) {
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetWriteBuffer(tcpWriteBuffer) // only a hint
	}
	guarded, err := guard.NewConn(conn, guard.Options{Side: guard.Client})
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &tcpSocket{conn: guarded}, nil
}

// receive waits for one frame and takes what else has arrived. The guard ends a
// stream whose lengths are impossible, or that stops inside a frame or for good
// (attack A18).
func (s *tcpSocket) receive(b *batch) error {
	room := b.msgs[0].Buf
	for len(b.frames) == 0 || s.conn.Pending() && len(room) >= guard.MaxFrame {
		frame, err := s.conn.Next()
		if err != nil {
			if len(b.frames) > 0 {
				return nil // the next call finds the error again
			}
			if errors.Is(err, net.ErrClosed) {
				return errDone
			}
			return fmt.Errorf("receiving from the relay: %v", err)
		}
		n := copy(room, frame)
		b.frames = append(b.frames, room[:n:n])
		room = room[n:]
	}
	return nil
}

func (s *tcpSocket) segments(b []byte, _ int) error { return s.write(b) }

func (s *tcpSocket) frame(b []byte) error { return s.write(b) }

// write ends the connection when it cannot write everything: the rest of a frame
// would be taken for the next one.
func (s *tcpSocket) write(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(tcpWriteLimit))
	if _, err := s.conn.Write(b); err != nil {
		_ = s.conn.Close()
		return fmt.Errorf("sending to the relay: %v", err)
	}
	return nil
}

func (s *tcpSocket) close() { _ = s.conn.Close() }
