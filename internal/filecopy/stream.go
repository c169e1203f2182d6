package filecopy

import (
	"bufio"
	"io"
	"sync"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// streamBuffer joins the messages of small files to writes of a channel's size.
const streamBuffer = 64 << 10

// Stream is messages on the two directions of a channel. One goroutine may call
// Next; the others may be called from any.
type Stream struct {
	r    *bufio.Reader
	body []byte // of the last message; Next's

	mu sync.Mutex
	w  *bufio.Writer // guarded by mu
	b  []byte        // guarded by mu: the message being written
}

// NewStream makes one of r and w, which stay the caller's.
func NewStream(r io.Reader, w io.Writer) *Stream {
	return &Stream{r: bufio.NewReaderSize(r, streamBuffer), w: bufio.NewWriterSize(w, streamBuffer)}
}

// Next waits for the next message. Its slices are valid until the next call.
// io.EOF is the end between two messages.
func (s *Stream) Next() (Message, error) {
	var head [5]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		return nil, err
	}
	n := be.Uint32(head[:4])
	if n == 0 || n > maxMessage {
		return nil, errMessage
	}
	if n--; int(n) > cap(s.body) {
		s.body = make([]byte, n, max(int(n), 4096))
	}
	s.body = s.body[:n]
	if _, err := io.ReadFull(s.r, s.body); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return parse(kind(head[4]), s.body)
}

// Send puts a message into the buffer, which is written when it is full and by
// Flush. It does not keep m.
func (s *Stream) Send(m Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := append(s.b[:0], 0, 0, 0, 0, byte(m.kind()))
	b = m.append(b)
	s.b = b
	if len(b)-4 > maxMessage {
		return refusal.New(refusal.TooLarge, "a message of a copy would have %d bytes", len(b)-4)
	}
	be.PutUint32(b, uint32(len(b)-4))
	_, err := s.w.Write(b)
	return err
}

// Flush writes what is in the buffer.
func (s *Stream) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Flush()
}

// Say is Send and Flush.
func (s *Stream) Say(m Message) error {
	if err := s.Send(m); err != nil {
		return err
	}
	return s.Flush()
}

// Buffered reports that the next message, or a part of it, is here already.
func (s *Stream) Buffered() bool { return s.r.Buffered() > 0 }
