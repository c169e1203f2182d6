package session

import (
	"encoding/binary"
	"io"
	"sync"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/transport"
)

// Message types, from RFC 4254, section 9.
type messageType byte

const (
	msgOpen        messageType = 90
	msgConfirm     messageType = 91
	msgOpenFailure messageType = 92
	msgData        messageType = 94
	msgExtended    messageType = 95
	msgEOF         messageType = 96
	msgClose       messageType = 97
	msgRequest     messageType = 98
	msgSuccess     messageType = 99
	msgFailure     messageType = 100
)

// Sizes in bytes; our choice.
const (
	// MaxData is the longest piece of data in one message.
	MaxData = 32 << 10
	// maxMessage bounds any other message; the longest holds an argument vector,
	// which the signed request limits to 64 KiB in text form.
	maxMessage = 64 << 10
	// maxOpening bounds the first message of a stream, before anybody knows what the stream
	// is; the longest has a host name of 1,024 bytes.
	maxOpening = 2 << 10
	// firstPiece is what is allocated on the word of a length alone; as more arrives, as
	// much more again. Thousands of streams that say "64 KiB follow" and no more would
	// else hold as much memory (attack H4).
	firstPiece = 512
	// messageHead is length and type.
	messageHead = 5
)

var errMessage = refusal.New(refusal.ProtocolError, "malformed channel message")

// messageReader reads the messages of one stream. It belongs to one goroutine.
type messageReader struct {
	r       io.Reader
	opening bool // only the first message is read, by which the channel is opened
	buf     []byte
}

// next returns the type and body of the next message; body is valid until the
// next call. io.EOF only between messages. A length beyond the limit ends the
// channel before anything is read or allocated for it.
func (m *messageReader) next() (messageType, []byte, error) {
	var head [messageHead]byte
	if _, err := io.ReadFull(m.r, head[:]); err != nil {
		return 0, nil, cut(err)
	}
	t := messageType(head[4])
	n := int64(binary.BigEndian.Uint32(head[:4])) - 1
	limit := int64(maxMessage)
	switch {
	case m.opening:
		limit = maxOpening
	case t == msgData || t == msgExtended:
		limit = MaxData + 8
	}
	if n < 0 || n > limit {
		return 0, nil, errMessage
	}
	body, err := m.body(int(n))
	if err != nil {
		return 0, nil, err
	}
	return t, body, nil
}

// body reads n bytes into the buffer, which grows with what has arrived.
func (m *messageReader) body(n int) ([]byte, error) {
	for have := 0; have < n; {
		if have == cap(m.buf) {
			grown := make([]byte, min(n, max(2*have, firstPiece)))
			copy(grown, m.buf[:have])
			m.buf = grown
		}
		piece := m.buf[have:min(n, cap(m.buf))]
		if _, err := io.ReadFull(m.r, piece); err != nil {
			if err == io.EOF {
				err = errMessage
			}
			return nil, cut(err)
		}
		have += len(piece)
	}
	return m.buf[:n], nil
}

// pass hands data of the last message over, and goes on with other memory.
func (m *messageReader) pass(data []byte, to *handoff) {
	if len(data) > 0 {
		m.buf = to.give(piece{data, m.buf})
	}
}

// lastOf checks that nothing follows the close message. Reading to the end also
// lets the stream go.
func lastOf(r *messageReader) error {
	_, _, err := r.next()
	switch err {
	case io.EOF:
		return nil
	case nil:
		return errMessage
	}
	return err
}

// cut: a stream that ends inside a message was not ended by our own code.
func cut(err error) error {
	if err == io.ErrUnexpectedEOF {
		return errMessage
	}
	return err
}

// messageWriter writes messages to one stream, from any goroutine.
type messageWriter struct {
	mu     sync.Mutex
	s      *transport.Stream // guarded by mu for writing
	head   [messageHead]byte // guarded by mu
	closed bool              // guarded by mu
}

// write sends one message whose body is made of parts.
func (w *messageWriter) write(t messageType, parts ...[]byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return io.ErrClosedPipe
	}
	n := 1
	for _, p := range parts {
		n += len(p)
	}
	binary.BigEndian.PutUint32(w.head[:], uint32(n))
	w.head[4] = byte(t)
	return w.s.WriteAll(w.head[:], parts...)
}

// finish sends the last messages and ends the writing direction.
func (w *messageWriter) finish(types ...messageType) error {
	for _, t := range types {
		if err := w.write(t); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	return w.s.CloseWrite()
}

// dataWriter is an io.Writer that sends data of one kind.
type dataWriter struct {
	w      *messageWriter
	stderr bool
}

func (d dataWriter) Write(p []byte) (int, error) {
	sent := 0
	for len(p) > 0 {
		part := p[:min(len(p), MaxData)]
		if err := d.send(part); err != nil {
			return sent, err
		}
		sent += len(part)
		p = p[len(part):]
	}
	return sent, nil
}

func (d dataWriter) send(part []byte) error {
	var size [8]byte
	binary.BigEndian.PutUint32(size[4:], uint32(len(part)))
	if d.stderr {
		binary.BigEndian.PutUint32(size[:4], extendedStderr)
		return d.w.write(msgExtended, size[:], part)
	}
	return d.w.write(msgData, size[4:], part)
}

// extendedStderr is the data type code of standard error (RFC 4254, section 5.2).
const extendedStderr = 1

// parseData returns the bytes of a data or extended message, a part of body.
func parseData(t messageType, body []byte) (data []byte, stderr bool, err error) {
	p := parser{b: body}
	if t == msgExtended {
		if p.uint32() != extendedStderr {
			return nil, false, errMessage
		}
		stderr = true
	}
	data = p.bytes(MaxData)
	return data, stderr, p.end()
}

// parser reads the fields of one body. After the first fault every field is
// empty and end reports it.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) take(n int) []byte {
	if p.bad || n < 0 || n > len(p.b) {
		p.bad = true
		return nil
	}
	out := p.b[:n]
	p.b = p.b[n:]
	return out
}

func (p *parser) byte() byte {
	if b := p.take(1); b != nil {
		return b[0]
	}
	return 0
}

// bool takes 0 and 1 only: one value has one spelling.
func (p *parser) bool() bool {
	b := p.byte()
	p.bad = p.bad || b > 1
	return b == 1
}

func (p *parser) uint32() uint32 {
	if b := p.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (p *parser) uint64() uint64 {
	if b := p.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// bytes takes a string of at most limit bytes, as a part of the body.
func (p *parser) bytes(limit int) []byte {
	n := p.uint32()
	if int64(n) > int64(limit) {
		p.bad = true
		return nil
	}
	return p.take(int(n))
}

func (p *parser) string(limit int) string { return string(p.bytes(limit)) }

func (p *parser) end() error {
	if p.bad || len(p.b) != 0 {
		return errMessage
	}
	return nil
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}
