package guard

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// Datagrams is to a connection that keeps the boundaries of what is written, such
// as DTLS, what Conn is to a stream: each Read returns one frame that the guard
// has accepted. What is refused is dropped and counted, like a datagram, but does
// not prolong the time limit. Reads are for one goroutine; deadlines for reading
// belong to Datagrams.
type Datagrams struct {
	net.Conn
	opt         Options
	first, idle time.Duration

	buf   []byte
	begun bool // a first frame has been handed out
}

// NewDatagrams puts the guard in front of conn, which it owns from then on. It
// fails if the options name no side.
func NewDatagrams(conn net.Conn, opt Options) (*Datagrams, error) {
	if err := opt.validate(); err != nil {
		return nil, err
	}
	return &Datagrams{Conn: conn, opt: opt, first: FirstFrameTimeout, idle: IdleTimeout}, nil
}

// Next returns the next accepted frame without copying it. It is valid until the
// next call of Next or Read. After any error the connection is of no more use.
func (d *Datagrams) Next() ([]byte, error) {
	limit := d.first
	if d.begun {
		limit = d.idle
	}
	if err := d.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return nil, err
	}
	if d.buf == nil {
		d.buf = make([]byte, MaxFrame)
	}
	for {
		n, err := d.Conn.Read(d.buf)
		if err != nil {
			return nil, d.failed(err)
		}
		if err := d.opt.Side.Check(d.buf[:n]); err != nil {
			d.opt.Stats.countErr(err)
			continue
		}
		d.begun = true
		return d.buf[:n], nil
	}
}

func (d *Datagrams) failed(err error) error {
	var late net.Error
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &late) && late.Timeout() {
		err = TooSlow
	}
	d.opt.Stats.countErr(err)
	return err
}

// Pending is false: nothing tells whether the next datagram holds a frame, and
// who waits for one that does not keeps what he has gathered.
func (d *Datagrams) Pending() bool { return false }

// Read copies the next accepted frame into p. It fails with io.ErrShortBuffer if
// p is too small.
func (d *Datagrams) Read(p []byte) (int, error) {
	frame, err := d.Next()
	if err != nil {
		return 0, err
	}
	if len(frame) > len(p) {
		return 0, io.ErrShortBuffer
	}
	return copy(p, frame), nil
}

// Write sends b, which holds one frame, or several as they lie on a stream: whole
// and padded to four bytes. Each leaves in a datagram of its own. It fails with
// BadLength at what is no frame.
func (d *Datagrams) Write(b []byte) (int, error) {
	sent := 0
	for sent < len(b) {
		n, err := frameSize(b[sent:])
		if err != nil {
			return sent, err
		}
		if n == 0 {
			return sent, BadLength
		}
		n = min(n, len(b)-sent) // a single frame may lack its padding
		if _, err := d.Conn.Write(b[sent : sent+n]); err != nil {
			return sent, err
		}
		sent += n
	}
	return sent, nil
}
