package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// Sizes and times. PacketSize is from design 4.2; the windows are our choice: 100
// ms at 1 Gbit/s in one stream.
const (
	// PacketSize is the largest packet given to Packets, in bytes.
	PacketSize = 1200
	// MaxDatagram is the longest payload of SendDatagram, in bytes: what is
	// left of PacketSize after the longest header.
	MaxDatagram = 1150
	// MaxSilence is how long the peer may be silent before the connection ends by
	// itself. It is out of the way on purpose: who carries the packets knows
	// whether the network is gone or only asleep, keeps it alive, and decides.
	MaxSilence = 8 * 24 * time.Hour
	// HandshakeLimit is how long connecting may take.
	HandshakeLimit = 10 * time.Second
	// MaxStreams is how many streams the peer may have open at once, and ManyStreams
	// the same of a connection for many.
	MaxStreams  = 256
	ManyStreams = 10_240

	streamWindow    = 512 << 10
	maxStreamWindow = 12 << 20
	connWindow      = 1 << 20
	maxConnWindow   = 16 << 20

	// Of a connection for many. What nobody reads fills its stream's window and that
	// part of the connection's, which so bounds the memory as well: two thousand streams
	// that are stuck do not hold up the others. A stream that is read quickly gets the
	// window of 320 Mbit/s at 100 ms.
	manyStreamWindow    = 32 << 10
	manyMaxStreamWindow = 4 << 20
	manyConnWindow      = 64 << 20
)

// Errors that callers match.
var (
	// ErrClosed is returned when the connection was closed by either end.
	ErrClosed = errors.New("transport: connection is closed")
	// ErrDead is returned when the peer was silent for MaxSilence.
	ErrDead = errors.New("transport: peer is silent")
)

// ResetError is returned by a stream that one end has given up.
type ResetError struct {
	Code   uint32 // chosen by whoever reset it
	Remote bool   // it was the peer
}

func (e *ResetError) Error() string {
	if e.Remote {
		return fmt.Sprintf("transport: stream was reset by the peer with code %d", e.Code)
	}
	return fmt.Sprintf("transport: stream was reset with code %d", e.Code)
}

// Packet is one place for ReadPackets to put a packet in.
type Packet struct {
	Buf  []byte // room, at least 1,452 bytes; owned by the transport
	Data []byte // set by ReadPackets: the packet, a part of Buf
}

// Packets is the sealed side: it carries packets of at most PacketSize bytes to
// the other end, or loses them. It is declared here because the transport is
// what needs it.
type Packets interface {
	// WritePackets sends the packets that p consists of, each size bytes long
	// and the last one maybe shorter. It does not keep p. It may be called from
	// several goroutines. An error ends the connection; a packet that is merely
	// lost is not an error.
	WritePackets(p []byte, size int) error
	// ReadPackets waits for at least one packet and fills the first n of pkts.
	// It is called from one goroutine. An error ends the connection.
	ReadPackets(pkts []Packet) (n int, err error)
	// Interrupt makes the waiting ReadPackets and every later one return an
	// error. It may be called more than once.
	Interrupt()
}

// Conn is one connection. Its methods may be called from any goroutine.
type Conn struct {
	quic      *quic.Conn
	transport *quic.Transport
	packets   *packetConn
	close     func()
}

// Load says what a connection is for.
type Load uint8

// The loads.
const (
	Few  Load = iota // a program or a copy: few streams, each as fast as it can be
	Many             // connections of others: thousands, of which one that is stuck holds up none
)

// Dial connects as the operator's end. secret is the session's exporter; both
// ends must have the same. It does not keep packets in use after an error.
func Dial(ctx context.Context, packets Packets, secret [32]byte, load Load) (*Conn, error) {
	id, err := newIdentities(secret)
	if err != nil {
		return nil, err
	}
	pc := newPacketConn(packets)
	t := &quic.Transport{Conn: pc.conn()}
	q, err := t.Dial(ctx, pc.peer, id.operatorTLS(), config(load))
	if err != nil {
		closeTransport(t, pc)
		return nil, fmt.Errorf("connecting the session's streams: %w", translate(err))
	}
	return newConn(q, t, pc), nil
}

// Accept connects as the agent's end: it waits for the one connection that the
// other end makes with Dial.
func Accept(ctx context.Context, packets Packets, secret [32]byte, load Load) (*Conn, error) {
	id, err := newIdentities(secret)
	if err != nil {
		return nil, err
	}
	pc := newPacketConn(packets)
	t := &quic.Transport{Conn: pc.conn(), DisableVersionNegotiationPackets: true}
	q, err := acceptOne(ctx, t, id, load)
	if err != nil {
		closeTransport(t, pc)
		return nil, fmt.Errorf("accepting the session's streams: %w", translate(err))
	}
	return newConn(q, t, pc), nil
}

func acceptOne(ctx context.Context, t *quic.Transport, id *identities, load Load) (*quic.Conn, error) {
	l, err := t.Listen(id.agentTLS(), config(load))
	if err != nil {
		return nil, err
	}
	q, err := l.Accept(ctx)
	if err != nil {
		return nil, err
	}
	// No second connection belongs to this session; closing the listener leaves
	// the accepted one alone.
	if err := l.Close(); err != nil {
		return nil, err
	}
	return q, nil
}

func config(load Load) *quic.Config {
	c := &quic.Config{
		Versions:                       []quic.Version{quic.Version1},
		HandshakeIdleTimeout:           HandshakeLimit,
		MaxIdleTimeout:                 MaxSilence,
		InitialStreamReceiveWindow:     streamWindow,
		MaxStreamReceiveWindow:         maxStreamWindow,
		InitialConnectionReceiveWindow: connWindow,
		MaxConnectionReceiveWindow:     maxConnWindow,
		MaxIncomingStreams:             MaxStreams,
		MaxIncomingUniStreams:          -1,
		InitialPacketSize:              PacketSize,
		DisablePathMTUDiscovery:        true,
		EnableDatagrams:                true,
	}
	if load == Many {
		c.MaxIncomingStreams = ManyStreams
		c.InitialStreamReceiveWindow, c.MaxStreamReceiveWindow = manyStreamWindow, manyMaxStreamWindow
		c.InitialConnectionReceiveWindow, c.MaxConnectionReceiveWindow = manyConnWindow, manyConnWindow
	}
	return c
}

func newConn(q *quic.Conn, t *quic.Transport, pc *packetConn) *Conn {
	c := &Conn{quic: q, transport: t, packets: pc}
	pc.backlog.conn.Store(q)
	c.close = sync.OnceFunc(func() {
		// 1. Tell the peer, and wake everybody who waits on a stream.
		_ = q.CloseWithError(0, "")
		// 2. End the read loop and wait for the library's goroutines.
		closeTransport(t, pc)
	})
	return c
}

// closeTransport ends the read loop: the library asks for that by a deadline,
// which packetConn turns into Interrupt.
func closeTransport(t *quic.Transport, pc *packetConn) {
	_ = t.Close()
	pc.release()
}

// Close ends the connection and returns when its goroutines are gone. Waiting
// calls return ErrClosed. It may be called more than once.
func (c *Conn) Close() error {
	c.close()
	return nil
}

// Done is closed when the connection has ended, whoever ended it.
func (c *Conn) Done() <-chan struct{} { return c.quic.Context().Done() }

// Err says why the connection has ended; nil while it lives.
func (c *Conn) Err() error {
	select {
	case <-c.Done():
		return translate(context.Cause(c.quic.Context()))
	default:
		return nil
	}
}

// Stats counts the packets of a connection.
type Stats struct {
	Sent uint64        // packets sent, repeats among them
	Lost uint64        // of them, those that were taken for lost and repeated
	RTT  time.Duration // smoothed round trip of streams, with the wait in queues
	// Latest is the round trip that the newest acknowledgement told.
	Latest time.Duration
}

// Stats returns the counts so far.
func (c *Conn) Stats() Stats {
	s := c.quic.ConnectionStats()
	return Stats{Sent: s.PacketsSent, Lost: s.PacketsLost, RTT: s.SmoothedRTT, Latest: s.LatestRTT}
}

// OpenStream opens a stream. It waits while the peer's limit is reached. The
// peer learns of the stream with its first byte.
func (c *Conn) OpenStream(ctx context.Context) (*Stream, error) {
	s, err := c.quic.OpenStreamSync(ctx)
	if err != nil {
		return nil, translate(err)
	}
	return &Stream{quic: s}, nil
}

// AcceptStream waits for the next stream of the peer.
func (c *Conn) AcceptStream(ctx context.Context) (*Stream, error) {
	s, err := c.quic.AcceptStream(ctx)
	if err != nil {
		return nil, translate(err)
	}
	return &Stream{quic: s}, nil
}

// SendDatagram sends p, at most MaxDatagram bytes, without any promise: it may
// be lost, doubled or overtaken. It does not keep p.
func (c *Conn) SendDatagram(p []byte) error {
	if len(p) > MaxDatagram {
		return fmt.Errorf("sending a datagram: %d bytes are more than %d", len(p), MaxDatagram)
	}
	return translate(c.quic.SendDatagram(p))
}

// Nudge sends a packet that the peer has to acknowledge, an empty datagram. After
// the path below was away the timer of what was lost may be a minute off, since it
// doubles each time; the acknowledgement of something newer tells at once what is
// missing, and is a round trip of now. It waits while the congestion window is
// full. The peer's end keeps 128 datagrams that nobody receives, and drops others.
func (c *Conn) Nudge() error { return c.SendDatagram(nil) }

// ReceiveDatagram waits for the next datagram, which then is the caller's.
func (c *Conn) ReceiveDatagram(ctx context.Context) ([]byte, error) {
	p, err := c.quic.ReceiveDatagram(ctx)
	return p, translate(err)
}

// translate keeps the library's errors from leaving the package.
func translate(err error) error {
	var reset *quic.StreamError
	var idle *quic.IdleTimeoutError
	var app *quic.ApplicationError
	switch {
	case err == nil, err == io.EOF:
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &reset):
		return &ResetError{Code: uint32(reset.ErrorCode), Remote: reset.Remote}
	case errors.As(err, &idle):
		return ErrDead
	case errors.As(err, &app), errors.Is(err, net.ErrClosed), errors.Is(err, quic.ErrTransportClosed), errors.Is(err, quic.ErrStreamClosed):
		return ErrClosed
	}
	return fmt.Errorf("transport: %v", err)
}
