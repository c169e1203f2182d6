package guard

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// Time limits of a stream. Our choice (protocol 6.3, slow or idle streams).
const (
	// FirstFrameTimeout is how long a new connection may take to its first
	// complete frame.
	FirstFrameTimeout = 5 * time.Second
	// IdleTimeout is how long it may take from one complete frame to the next.
	// An allocation is refreshed at least every five minutes, but endpoints send
	// path checks far more often.
	IdleTimeout = 90 * time.Second
)

// Sizes of the read buffer of a stream, in bytes. It starts small because most
// connections of a flood never send much, and grows once with traffic.
const (
	smallBuffer = 2 << 10
	largeBuffer = 32 << 10
)

// Options of NewConn and NewDatagrams.
type Options struct {
	// Side that reads here. Required.
	Side Side
	// Stats receives the count of refused frames. May be nil.
	Stats *Stats
}

func (o Options) validate() error {
	if o.Side != Server && o.Side != Client {
		return errors.New("guard: options: side is neither server nor client")
	}
	return nil
}

// Conn is a net.Conn whose Read returns exactly one complete frame that the
// guard has accepted, at most MaxFrame bytes, padding included. Framing errors
// end the connection: a stream that has lost its frames cannot find them again.
// A well-framed message with bad contents is dropped and counted like a
// datagram. Reads are for one goroutine; deadlines for reading belong to Conn.
type Conn struct {
	net.Conn
	opt         Options
	first, idle time.Duration

	buf        []byte // read, not yet handed out: buf[start:end]
	start, end int
	begun      bool // a first frame has been handed out
}

// NewConn puts the guard in front of a stream, which it owns from then on. It
// fails if the options name no side.
func NewConn(conn net.Conn, opt Options) (*Conn, error) {
	if err := opt.validate(); err != nil {
		return nil, err
	}
	return newConn(conn, opt, FirstFrameTimeout, IdleTimeout), nil
}

func newConn(conn net.Conn, opt Options, first, idle time.Duration) *Conn {
	return &Conn{Conn: conn, opt: opt, first: first, idle: idle}
}

// Read copies the next accepted frame into p. It fails with io.ErrShortBuffer if
// p is too small, with a Reason if the stream broke the rules, and otherwise
// with what the connection below returned; after any error but the first the
// connection is of no more use.
func (c *Conn) Read(p []byte) (int, error) {
	frame, err := c.Next()
	if err != nil {
		return 0, err
	}
	if len(frame) > len(p) {
		return 0, io.ErrShortBuffer
	}
	return copy(p, frame), nil
}

// Next returns the next accepted frame without copying. It is valid until the
// next call of Next or Read.
func (c *Conn) Next() ([]byte, error) {
	if err := c.startClock(); err != nil {
		return nil, err
	}
	for {
		n, err := c.fill()
		if err != nil {
			return nil, c.failed(err)
		}
		frame := c.buf[c.start : c.start+n]
		c.start += n
		if err := c.opt.Side.Check(frame); err != nil {
			c.opt.Stats.countErr(err)
			continue
		}
		c.begun = true
		return frame, nil
	}
}

// Pending reports whether Next would return a frame, or refuse one, without
// waiting for the network. It lets a forwarder gather what has arrived.
func (c *Conn) Pending() bool {
	n, err := frameSize(c.buf[c.start:c.end])
	return err != nil || n > 0 && n <= c.end-c.start
}

// startClock sets one deadline for the whole frame, not one per byte: a peer that
// drips bytes does not prolong it (attack M4). A frame that has arrived needs none.
func (c *Conn) startClock() error {
	if c.Pending() {
		return nil
	}
	limit := c.first
	if c.begun {
		limit = c.idle
	}
	return c.SetReadDeadline(time.Now().Add(limit))
}

func (c *Conn) failed(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = TooSlow
	}
	c.opt.Stats.countErr(err)
	return err
}

// fill reads until buf[start:] begins with a complete frame and returns its
// length.
func (c *Conn) fill() (int, error) {
	for {
		n, err := frameSize(c.buf[c.start:c.end])
		if err != nil {
			return 0, err
		}
		if n > 0 && n <= c.end-c.start {
			return n, nil
		}
		c.makeRoom()
		got, err := c.Conn.Read(c.buf[c.end:])
		c.end += got
		if err != nil && got == 0 {
			return 0, err
		}
	}
}

// makeRoom leaves at least one byte free behind end: a frame is shorter than the
// buffer, so once it has moved to the front there is room.
func (c *Conn) makeRoom() {
	if c.buf == nil {
		c.buf = make([]byte, smallBuffer)
	}
	full := c.end == len(c.buf)
	c.end = copy(c.buf, c.buf[c.start:c.end])
	c.start = 0
	if full && len(c.buf) < largeBuffer && c.begun {
		b := make([]byte, largeBuffer)
		copy(b, c.buf[:c.end])
		c.buf = b
	}
}

// frameSize returns the length on the stream of the frame that b begins with, 0
// if b is too short to tell, or a Reason if no frame may begin so. The sum is an
// int: in 16 bits it wraps, and a reader that believes it spins (probe T1).
func frameSize(b []byte) (int, error) {
	if len(b) < 4 {
		return 0, nil
	}
	n := int(binary.BigEndian.Uint16(b[2:4]))
	switch b[0] >> 6 {
	case 0:
		if len(b) >= 8 && binary.BigEndian.Uint32(b[4:8]) != magicCookie {
			return 0, BadType // a TLS or HTTP client at the wrong port
		}
		n += HeaderSize
	case 1:
		n = PaddedSize(n)
	default:
		return 0, BadType
	}
	if n > MaxFrame || n%4 != 0 {
		return 0, BadLength
	}
	return n, nil
}
