package transport

import (
	"io"
	"time"
)

// Stream is one ordered stream of bytes in each direction. One goroutine may
// read and another write at the same time; the other methods may be called from
// any goroutine. All fields but the first are guarded by the connection's lock.
type Stream struct {
	conn *Conn
	id   uint64
	gone bool // both halves are over

	taken     bool // AcceptStream has returned it
	queued    bool // in one of the connection's queues
	blocked   bool // waits for the connection's limit
	tellLimit bool // MAX_STREAM_DATA is to be sent
	tellStop  bool
	tellReset bool

	receiving
	sending
}

// sending is the half that this end writes.
type sending struct {
	out     buffer
	written uint64 // offset behind the last byte of Write
	next    uint64 // of the first byte that was never sent
	settled uint64 // everything before has arrived
	landed  spans  // what has arrived beyond
	missing spans  // what is to be sent again
	allowed uint64 // the peer's limit

	ended    bool  // CloseWrite
	endSent  bool  // and not lost since
	endKnown bool  // the peer has it
	cut      error // the half was reset, by whom
	cutCode  uint32
	cutKnown bool // the peer has it
	canWrite chan struct{}
	over     chan struct{} // see WriteDone; nil until asked for
	isOver   bool
}

// receiving is the half that the peer writes.
type receiving struct {
	in       buffer
	arrived  spans
	read     uint64 // offset of what Read gets next
	highest  uint64 // offset behind the last byte that is known of
	final    uint64 // length of the whole; valid if hasFinal
	hasFinal bool
	limit    uint64 // what the peer was allowed
	window   uint64
	windowAt time.Duration // when limit was raised
	refused  error         // Read's, after a reset or StopReading
	stopped  bool
	stopCode uint32
	canRead  chan struct{}
}

func newStream(c *Conn, id uint64) *Stream {
	s := &Stream{conn: c, id: id}
	first := c.windows.first
	s.limit, s.window, s.allowed = first, first, first
	s.canRead, s.canWrite = make(chan struct{}, 1), make(chan struct{}, 1)
	return s
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// ID is the number of the stream, the same at both ends and never used twice in
// one connection.
func (s *Stream) ID() uint64 { return s.id }

// Read reads what has arrived, in order. io.EOF follows the peer's CloseWrite, a
// *ResetError its Reset.
func (s *Stream) Read(p []byte) (int, error) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case s.refused != nil:
			return 0, s.refused
		case s.ready() > 0:
			return s.takeLocked(p), nil
		case s.hasFinal && s.read == s.final:
			return 0, io.EOF
		case c.err != nil:
			return 0, c.err
		case len(p) == 0:
			return 0, nil
		}
		c.waitLocked(s.canRead)
	}
}

// ready is how many bytes can be read.
func (s *Stream) ready() int {
	if len(s.arrived) == 0 || s.arrived[0].lo > s.read {
		return 0
	}
	return int(s.arrived[0].hi - s.read)
}

func (s *Stream) takeLocked(p []byte) int {
	c := s.conn
	n := min(s.ready(), len(p))
	s.in.read(p[:n], s.read)
	s.read += uint64(n)
	s.in.drop(s.read, &c.chunks)
	if s.read == s.arrived[0].hi {
		s.arrived = s.arrived[:copy(s.arrived, s.arrived[1:])]
		c.pieces--
	}
	if len(s.arrived) == 0 {
		s.in.free(s.read, &c.chunks) // thousands of streams are idle
		if cap(s.arrived) > fewChunks {
			s.arrived = nil
		}
	}
	c.consumedLocked(uint64(n))
	s.creditLocked()
	s.forgetLocked()
	return n
}

// creditLocked lets the peer send more, once it has used an eighth of the window, which
// grows while it is used up quickly: a long path holds much, and a sender that has to
// find its rate doubles each round trip and must not be waiting for us then.
func (s *Stream) creditLocked() {
	if s.hasFinal || s.stopped || s.limit-s.read > s.window-s.window/8 {
		return
	}
	now := s.conn.now()
	if now-s.windowAt < max(2*s.conn.rec.trip(), quickUse) {
		s.window = min(4*s.window, s.conn.windows.most)
	}
	s.windowAt = now
	s.limit = s.read + s.window
	s.tellLimit = true
	s.conn.activateLocked(s)
}

// Write hands p over for sending. It waits while the peer's window is full and
// does not keep p.
func (s *Stream) Write(p []byte) (n int, err error) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.writeLocked(p)
}

// WriteAll is Write of head and parts as if they were one piece: where there is room
// they leave in one packet. No other Write may run at the same time.
func (s *Stream) WriteAll(head []byte, parts ...[]byte) error {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	_, err := s.writeLocked(head)
	for i := 0; i < len(parts) && err == nil; i++ {
		_, err = s.writeLocked(parts[i])
	}
	return err
}

func (s *Stream) writeLocked(p []byte) (n int, err error) {
	c := s.conn
	for {
		switch {
		case s.cut != nil:
			return n, s.cut
		case c.err != nil:
			return n, c.err
		case s.ended:
			return n, ErrClosed
		}
		k := min(len(p), c.roomLocked()-int(s.written-s.next))
		if k > 0 {
			s.out.write(p[:k], s.written, &c.chunks)
			s.written += uint64(k)
			p, n = p[k:], n+k
			c.activateLocked(s)
		}
		if len(p) == 0 {
			return n, nil
		}
		c.waitLocked(s.canWrite)
	}
}

// CloseWrite says that nothing more will be written; what has been written
// still arrives. No Write may run at the same time.
func (s *Stream) CloseWrite() error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.cut != nil {
		return s.cut
	}
	if c.err != nil {
		return c.err
	}
	if !s.ended {
		s.ended = true
		s.finishLocked()
		c.activateLocked(s)
	}
	return nil
}

// Reset gives up both directions at once: the peer's calls return a
// *ResetError, and what has not arrived never will.
func (s *Stream) Reset(code uint32) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.stopLocked(code)
	s.cutLocked(code, false)
}

// StopReading asks the peer to stop sending; what still arrives is dropped. A
// stream whose receiving half is neither read to the end nor stopped stays in
// memory.
func (s *Stream) StopReading(code uint32) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.stopLocked(code)
}

func (s *Stream) stopLocked(code uint32) {
	if s.stopped || s.refused != nil || s.hasFinal && s.read == s.final {
		return
	}
	s.stopped, s.stopCode = true, code
	s.refuseLocked(&ResetError{Code: code})
	if !s.hasFinal {
		s.tellStop = true
		s.conn.activateLocked(s)
	}
	s.forgetLocked()
}

// refuseLocked drops what has arrived and makes Read fail.
func (s *Stream) refuseLocked(err error) {
	s.refused = err
	s.conn.consumedLocked(s.highest - s.read)
	s.read = s.highest
	s.conn.pieces -= len(s.arrived)
	s.arrived = nil
	s.in.free(s.read, &s.conn.chunks)
	wake(s.canRead)
}

// cutLocked ends the sending half: by our Reset, or because the peer stopped
// reading.
func (s *Stream) cutLocked(code uint32, remote bool) {
	if s.cut != nil || s.endKnown && s.settled == s.written {
		return
	}
	s.cut, s.cutCode = &ResetError{Code: code, Remote: remote}, code
	s.missing, s.landed = nil, nil
	s.conn.settledLocked(s.next - s.settled)
	s.out.free(s.written, &s.conn.chunks)
	s.tellReset = true
	s.finishLocked()
	s.conn.activateLocked(s)
}

// finishLocked closes what WriteDone returns.
func (s *Stream) finishLocked() {
	if !s.isOver {
		s.isOver = true
		if s.over != nil {
			close(s.over)
		}
	}
	wake(s.canWrite)
}

// WriteDone is closed when nothing can be written any more: after CloseWrite or
// Reset, when the peer stopped reading, or when the connection has ended.
func (s *Stream) WriteDone() <-chan struct{} {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.over == nil {
		s.over = make(chan struct{})
		if s.isOver || s.conn.err != nil {
			s.isOver = true
			close(s.over)
		}
	}
	return s.over
}

// forgetLocked takes the stream out of the connection when both halves are over.
func (s *Stream) forgetLocked() {
	if s.gone {
		return
	}
	sent := s.cut != nil && s.cutKnown || s.cut == nil && s.endKnown && s.settled == s.written
	received := s.hasFinal && (s.stopped || s.refused != nil || s.read == s.final)
	if !sent || !received {
		return
	}
	s.gone = true
	s.in.free(s.read, &s.conn.chunks)
	s.conn.removeLocked(s)
}
