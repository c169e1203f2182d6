package link

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/carrier"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// Sizes and limits of connections to a relay; our choice.
const (
	tcpWriteBuffer = 256 << 10 // more would only queue: the streams above have their own control
	connWriteLimit = 10 * time.Second
	// queueBytes wait for a connection at most; what comes on top is lost, as in a
	// network: a relay that has stalled must not hold up the other paths.
	queueBytes = 256 << 10
	// farewellLimit is how long the last words may take.
	farewellLimit = 200 * time.Millisecond
)

// reader hands out checked frames: guard.Conn of a stream, guard.Datagrams of a
// connection that keeps boundaries.
type reader interface {
	net.Conn
	Next() ([]byte, error)
	Pending() bool
}

// connLeg is a connection of its own to one relay.
type connLeg struct {
	conn   reader        // read by the allocation's reader only
	wake   chan struct{} // cap 1: something is queued
	stream bool          // the boundaries of datagrams are not the system's

	mu    sync.Mutex
	queue []byte // guarded by mu; whole frames
	spare []byte // guarded by mu; the buffer that write is not busy with
}

func newConnLeg(conn net.Conn, kind carrier.Kind, stats *guard.Stats) (*connLeg, error) {
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetWriteBuffer(tcpWriteBuffer) // only a hint
	}
	opt := guard.Options{Side: guard.Client, Stats: stats}
	var r reader
	var err error
	if kind.Stream() {
		r, err = guard.NewConn(conn, opt)
	} else {
		r, err = guard.NewDatagrams(conn, opt)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &connLeg{conn: r, wake: make(chan struct{}, 1), stream: kind.Stream()}, nil
}

// read is the allocation's reader. The guard ends a stream whose lengths are
// impossible, or that stops inside a frame or for good (attack A18).
func (a *allocation) read(c *connLeg) {
	home := newBatches(streamBatches, 1)
	for b := <-home; b != nil; {
		if err := c.receive(a, b); err != nil {
			a.fail(err)
			return
		}
		b = a.link.next(b)
	}
}

// receive waits for one frame and takes what else has arrived.
func (c *connLeg) receive(a *allocation, b *batch) error {
	room := b.msgs[0].Buf
	for first := true; first || c.conn.Pending() && len(room) >= guard.MaxFrame; first = false {
		frame, err := c.conn.Next()
		if errors.Is(err, net.ErrClosed) {
			return errDone
		}
		if err != nil {
			return fmt.Errorf("receiving from the relay: %w", err)
		}
		n := copy(room, frame)
		a.sort(b, room[:n:n], time.Now())
		room = room[n:]
	}
	return nil
}

func (c *connLeg) segments(b []byte, _ int) error { return c.frame(b) }

// whole: a stream carries any length; a record over UDP may go on in parts.
func (c *connLeg) whole(b []byte) {
	if c.stream {
		_ = c.frame(b)
	}
}

// frame queues whole frames, or loses them.
func (c *connLeg) frame(b []byte) error {
	c.mu.Lock()
	if len(c.queue)+len(b) <= queueBytes {
		c.queue = append(c.queue, b...)
	}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// write is the connection's one writer, a child of the allocation. It ends the
// connection when it cannot write everything: the rest of a frame would be taken
// for the next one.
func (c *connLeg) write(a *allocation) {
	for {
		select {
		case <-c.wake:
		case <-a.done:
			return
		}
		c.mu.Lock()
		b := c.queue
		c.queue, c.spare = c.spare[:0], b
		c.mu.Unlock()
		_ = c.conn.SetWriteDeadline(time.Now().Add(connWriteLimit))
		if _, err := c.conn.Write(b); err != nil {
			_ = c.conn.Close()
			a.fail(fmt.Errorf("sending to the relay: %v", err))
			return
		}
	}
}

// close sends what is queued, the farewell among it, if the connection takes it at
// once.
func (c *connLeg) close() {
	c.mu.Lock()
	b := c.queue
	c.queue = nil
	c.mu.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(farewellLimit))
	if len(b) > 0 {
		_, _ = c.conn.Write(b)
	}
	_ = c.conn.Close()
}
