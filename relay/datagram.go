package relay

import (
	"errors"
	"net"
	"time"

	"github.com/tucdesk/tucdesk/internal/udp"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// receives is how many receives one system call may return; each is up to 64
// KiB of joined datagrams. Our choice: 1 MiB of buffers.
const receives = 16

// errorPause keeps a socket that only fails from taking a core.
const errorPause = time.Millisecond

// serveDatagrams is the one reader of the UDP socket.
func (s *Server) serveDatagrams() {
	msgs := make([]udp.Message, receives)
	for i := range msgs {
		msgs[i].Buf = make([]byte, udp.MaxBatch)
	}
	out := udp.NewCoalescer(s.sock, func(int, error) { s.metrics.count(evSendFailed) })
	for {
		n, err := s.sock.ReadBatch(msgs)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // concerns one datagram, not the socket
			if !s.pause(errorPause) {
				return
			}
			continue
		}
		now := time.Now()
		for i := range msgs[:n] {
			s.receive(&msgs[i], out, now)
		}
		out.Flush()
	}
}

func (s *Server) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.closed:
		return false
	case <-t.C:
		return true
	}
}

// receive splits one receive into runs of ChannelData, which are forwarded as
// they lie in the buffer, and other frames, which go to pion one by one.
func (s *Server) receive(m *udp.Message, out *udp.Coalescer, now time.Time) {
	a := s.table.tuple(m.Addr)
	size := m.SegmentSize
	if size == 0 {
		size = m.N
	}
	start, end := 0, 0 // the run gathered so far
	for frame := range m.Segments() {
		if s.isFast(frame, a, now) {
			end += len(frame)
			continue
		}
		if end > start {
			s.forward(a, m.Buf[start:end], size, out, now)
		}
		s.slow(frame, m, a, now)
		end += len(frame)
		start = end
	}
	if end > start {
		s.forward(a, m.Buf[start:end], size, out, now)
	}
}

// isFast reports whether frame may be forwarded without pion: whole ChannelData
// on the one channel, from a client that has bound it.
func (s *Server) isFast(frame []byte, a *allocation, now time.Time) bool {
	if a == nil || !guard.IsChannelData(frame) || s.cfg.Lab != nil || !a.isBound(now) {
		return false
	}
	channel, _, err := guard.ParseChannelData(frame)
	return err == nil && channel == guard.Channel
}

// slow hands a control message to pion, or drops it.
func (s *Server) slow(frame []byte, m *udp.Message, a *allocation, now time.Time) {
	if s.cfg.Lab == nil && guard.IsChannelData(frame) {
		s.metrics.count(evNotBound)
		return
	}
	frame = s.control(frame, m.Addr, a, now)
	if frame == nil {
		return
	}
	select {
	case s.front.in <- packet{frame, m.Addr}:
	default:
		s.metrics.count(evQueueFull)
	}
}
