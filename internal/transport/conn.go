package transport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Sizes and times; our choice unless said otherwise.
const (
	// PacketSize is the largest packet given to Packets, in bytes (design 4.2), where
	// Packets does not take larger ones, of LargePacket bytes at most.
	PacketSize  = 1200
	LargePacket = 8893 // bytes
	// MaxStreams is how many streams the peer may have open at once. A stream
	// costs about half a KiB, and buffers only for what it holds.
	MaxStreams = 10_240

	quickUse = 10 * time.Millisecond // an eighth of a window used within it is quick, however short the path

	// maxGaps is how many separate pieces of a stream are kept. What comes beyond
	// is dropped, and repeated by the peer, but for what can be read at once.
	maxGaps = 4096
	// maxPieces is the same for all streams: a piece of one byte costs sixteen.
	maxPieces = 1 << 16

	// maxBatch packets, or bytes, go to one WritePackets: what one system call takes.
	maxBatch      = 48
	maxBatchBytes = 7 * LargePacket
	// Unsent bytes that Write may leave behind: enough to fill a batch, not so
	// much that a program's output is seconds ahead of a slow link.
	leastUnsent, mostUnsent = 32 << 10, 512 << 10
)

// ErrClosed is returned when the connection was closed by either end. Silence closes
// none: who carries the packets knows whether the network is gone or only asleep.
var ErrClosed = errors.New("transport: connection is closed")

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
	Buf  []byte // room, at least PacketRoom bytes; owned by the transport
	Data []byte // set by ReadPackets: the packet, a part of Buf
}

// PacketRoom is the room of a Packet, in bytes: a packet and what Packets seals
// around it.
const PacketRoom = 9 << 10

// Packets is the sealed side: it carries packets of at most PacketSize bytes to
// the other end, or loses them. It is declared here because the transport is
// what needs it.
type Packets interface {
	// PacketSize is how long a packet may be now: from PacketSize to LargePacket.
	PacketSize() int
	// WritePackets sends the packets that p consists of, each size bytes long
	// and the last one maybe shorter. It does not keep p. It is called from one
	// goroutine. An error ends the connection; a packet that is merely lost is not
	// an error.
	WritePackets(p []byte, size int) error
	// ReadPackets waits for at least one packet and fills the first n of pkts.
	// It is called from one goroutine. An error ends the connection.
	ReadPackets(pkts []Packet) (n int, err error)
	// Interrupt makes the waiting ReadPackets and every later one return an
	// error. It may be called more than once.
	Interrupt()
}

// Load says what a connection is for. Both ends must say the same.
type Load uint8

// The loads.
const (
	Few  Load = iota // a program or a copy: few streams, each as fast as it can be
	Many             // connections of others: thousands, of which one that is stuck holds up none
)

// windows are what the peer may send before it is read. Those of a stream begin at
// first and grow up to most while it is read quickly; whole is that of all streams,
// and so bounds the memory of a connection. A reader that is stuck fills the window of
// its stream and that part of the whole.
type windows struct{ first, most, whole uint64 }

func (l Load) windows() windows {
	if l == Many { // two thousand that are stuck hold up nobody; 320 Mbit/s at 100 ms
		return windows{32 << 10, 4 << 20, 64 << 20}
	}
	return windows{128 << 10, 8 << 20, 32 << 20} // 670 Mbit/s at 100 ms
}

// Conn is one connection. Its methods may be called from any goroutine.
type Conn struct {
	packets Packets
	windows windows
	side    uint64 // of the numbers of our streams: even for the operator's end
	began   time.Time
	wakeup  chan struct{} // cap 1: the sender is to look again
	done    chan struct{}
	met     chan struct{} // closed when the peer has acknowledged a packet
	metOnce sync.Once
	wg      sync.WaitGroup
	chunks  sync.Pool

	acceptable chan struct{} // cap 1

	mu    sync.Mutex // guards what follows
	err   error      // why the connection ended
	leave bool       // the farewell is to be sent

	rec   recovery
	arr   arrivals
	model model
	frame frame // the one being read

	streams     map[uint64]*Stream
	opened      uint64 // streams of ours, ever
	openLimit   uint64
	openable    chan struct{} // closed, and replaced, when openLimit grows
	accepted    uint64        // of the peer's, ever
	acceptLimit uint64
	closed      uint64    // of the peer's that are over
	waiting     []*Stream // for AcceptStream

	sentBytes, sendLimit             uint64 // of all streams
	settledBytes                     uint64 // of those sent, what has arrived or is not wanted any more
	pieces                           int    // of arrived, of all streams
	received, consumed, receiveLimit uint64

	outbound
}

// Dial connects as the operator's end: it sends one packet and waits until the
// other end has answered. It does not keep packets in use after an error.
func Dial(ctx context.Context, packets Packets, load Load) (*Conn, error) {
	c, err := join(ctx, packets, 0, load)
	if err != nil {
		return nil, fmt.Errorf("connecting the session's streams: %w", err)
	}
	return c, nil
}

// Accept connects as the agent's end.
func Accept(ctx context.Context, packets Packets, load Load) (*Conn, error) {
	c, err := join(ctx, packets, 1, load)
	if err != nil {
		return nil, fmt.Errorf("accepting the session's streams: %w", err)
	}
	return c, nil
}

// HandshakeLimit is how long connecting may take: two round trips of 10 s.
const HandshakeLimit = 20 * time.Second

func join(ctx context.Context, packets Packets, side uint64, load Load) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, HandshakeLimit)
	defer cancel()
	c := newConn(packets, side, load)
	c.wg.Go(c.send)
	c.wg.Go(c.receive)
	select {
	case <-c.met:
		return c, nil
	case <-c.done:
		err := c.Err()
		_ = c.Close()
		return nil, err
	case <-ctx.Done():
		_ = c.Close()
		return nil, ctx.Err()
	}
}

func newConn(packets Packets, side uint64, load Load) *Conn {
	w := load.windows()
	c := &Conn{
		packets: packets, windows: w, side: side, began: time.Now(),
		wakeup: make(chan struct{}, 1), done: make(chan struct{}), met: make(chan struct{}),
		acceptable: make(chan struct{}, 1), openable: make(chan struct{}),
		streams:   map[uint64]*Stream{},
		openLimit: MaxStreams, acceptLimit: MaxStreams, sendLimit: w.whole, receiveLimit: w.whole,
		chunks: sync.Pool{New: func() any { return new(chunk) }},
	}
	c.size = PacketSize
	c.tellPing, c.tokens = true, startWindow/2*PacketSize
	c.model = newModel(PacketSize, 0)
	c.rec.grow()
	c.rec.skip = 1 + draw(skipFirst)
	return c
}

// now is the time since the connection began.
func (c *Conn) now() time.Duration { return time.Since(c.began) }

// poke makes the sender look again.
func (c *Conn) poke() { wake(c.wakeup) }

// Close ends the connection and returns when its goroutines are gone. Waiting
// calls return ErrClosed. It may be called more than once.
func (c *Conn) Close() error {
	// 1. Wake everybody who waits; the sender says farewell and ends.
	c.mu.Lock()
	c.leave = c.leave || c.err == nil
	c.endLocked(ErrClosed)
	c.mu.Unlock()
	// 2. End reading.
	c.packets.Interrupt()
	// 3. Wait.
	c.wg.Wait()
	return nil
}

// endLocked ends the connection; the first reason stays.
func (c *Conn) endLocked(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	close(c.done)
	for _, s := range c.streams {
		s.finishLocked()
		wake(s.canRead)
	}
	c.poke()
}

// Done is closed when the connection has ended, whoever ended it.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection has ended; nil while it lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Stats counts the packets of a connection.
type Stats struct {
	Sent uint64        // packets sent, repeats among them
	Lost uint64        // of them, those that were taken for lost and repeated
	RTT  time.Duration // smoothed round trip of streams, with the wait in queues
}

// Stats returns the counts so far.
func (c *Conn) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{Sent: c.rec.sent, Lost: c.rec.lost, RTT: c.rec.srtt}
}

// OpenStream opens a stream. It waits while the peer's limit is reached. The
// peer learns of the stream with its first byte.
func (c *Conn) OpenStream(ctx context.Context) (*Stream, error) {
	for {
		c.mu.Lock()
		if c.err != nil {
			defer c.mu.Unlock()
			return nil, c.err
		}
		if c.opened < c.openLimit {
			defer c.mu.Unlock()
			s := newStream(c, 2*c.opened+c.side)
			c.opened++
			c.streams[s.id] = s
			return s, nil
		}
		more := c.openable
		c.mu.Unlock()
		select {
		case <-more:
		case <-c.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// AcceptStream waits for the next stream of the peer. Streams come in the order of
// their opening.
func (c *Conn) AcceptStream(ctx context.Context) (*Stream, error) {
	for {
		c.mu.Lock()
		if c.err != nil {
			defer c.mu.Unlock()
			return nil, c.err
		}
		if len(c.waiting) > 0 {
			defer c.mu.Unlock()
			s := c.waiting[0]
			c.waiting[0] = nil
			c.waiting = c.waiting[1:]
			if s.taken = true; s.gone {
				c.overLocked()
			}
			if len(c.waiting) > 0 {
				wake(c.acceptable)
			}
			return s, nil
		}
		c.mu.Unlock()
		select {
		case <-c.acceptable:
		case <-c.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
