package transport

import (
	"time"

	"github.com/quic-go/quic-go"
)

// Stream is one ordered stream of bytes in each direction. One goroutine may
// read and another write at the same time; the other methods may be called from
// any goroutine.
type Stream struct{ quic *quic.Stream }

// ID is the number of the stream, the same at both ends and never used twice in
// one connection.
func (s *Stream) ID() uint64 { return uint64(s.quic.StreamID()) }

// Read reads what has arrived, in order. io.EOF follows the peer's CloseWrite, a
// *ResetError its Reset.
func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.quic.Read(p)
	return n, translate(err)
}

// Write hands p over for sending. It waits while the peer's window is full and
// does not keep p.
func (s *Stream) Write(p []byte) (int, error) {
	n, err := s.quic.Write(p)
	return n, translate(err)
}

// CloseWrite says that nothing more will be written; what has been written
// still arrives. No Write may run at the same time.
func (s *Stream) CloseWrite() error { return translate(s.quic.Close()) }

// Reset gives up both directions at once: the peer's calls return a
// *ResetError, and what has not arrived never will.
func (s *Stream) Reset(code uint32) {
	s.quic.CancelRead(quic.StreamErrorCode(code))
	s.quic.CancelWrite(quic.StreamErrorCode(code))
}

// StopReading asks the peer to stop sending; what still arrives is dropped. A
// stream whose receiving half is neither read to the end nor stopped stays in
// memory.
func (s *Stream) StopReading(code uint32) { s.quic.CancelRead(quic.StreamErrorCode(code)) }

// WriteDone is closed when nothing can be written any more: after CloseWrite or
// Reset, when the peer stopped reading, or when the connection has ended.
func (s *Stream) WriteDone() <-chan struct{} { return s.quic.Context().Done() }

// SetReadDeadline makes Read fail with os.ErrDeadlineExceeded from t on; the
// zero time means never.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.quic.SetReadDeadline(t) }

// SetWriteDeadline does the same for Write.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.quic.SetWriteDeadline(t) }
