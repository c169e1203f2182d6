package kept

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// stream is one joined session process, as the holder sees it.
type stream struct {
	framer
	first []byte        // earlier output; of play, once it runs
	sent  int64         // guarded by the holder's mu: up to where in the output
	gone  bool          // guarded by the holder's mu: nobody reads it
	late  *time.Timer   // guarded by the holder's mu: closes it when it has lost the shell
	done  chan struct{} // closed when it is sent nothing more
}

// serve reads one stream to its end.
func (h *Holder) serve(ctx context.Context, s *stream) {
	defer s.rw.Close()
	t, body, err := s.receive()
	at, ok := decode[Terminal](body)
	if err != nil || t != frameBegin || !ok {
		return
	}
	if err := h.begin(ctx, s, at); err != nil {
		e := &refusal.Error{Code: refusal.Unavailable, Detail: "the program cannot be started"}
		errors.As(err, &e)
		_ = s.sendJSON(frameRefused, no{e.Code, e.Detail[:min(len(e.Detail), 1<<10)]})
		return
	}
	var writer sync.WaitGroup
	writer.Go(func() { h.play(s) })
	defer writer.Wait()
	defer s.rw.Close() // whoever does not read must not hold the writer up
	defer h.leave(s)
	for {
		t, body, err := s.receive()
		if err != nil || !h.obey(s, t, body) {
			return
		}
	}
}

// leave notes that nobody reads s.
func (h *Holder) leave(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.gone = true
	if h.now == s {
		h.now = nil
	}
	if s.late != nil {
		s.late.Stop()
	}
	h.changed.Broadcast()
}

// obey does what one frame asks for; false ends the stream.
func (h *Holder) obey(s *stream, t frameType, body []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now != s || h.stopped {
		return true // it has lost the shell and does not know yet
	}
	switch t {
	case frameInput:
		return h.typed(body)
	case frameResize:
		size, ok := decode[process.Size](body)
		if ok {
			h.size = size.Clamp()
			_ = h.p.Resize(h.size)
		}
		return ok
	case frameSignal:
		_ = h.p.Signal(string(body))
		return true
	}
	return false
}

// typed passes input on. The terminal may take none while its program does not read:
// nobody must wait for the lock then, least of all the one who takes the shell over.
func (h *Holder) typed(body []byte) bool {
	h.input += int64(len(body))
	p := h.p
	h.mu.Unlock()
	defer h.mu.Lock()
	_, err := p.Stdin().Write(body)
	return err == nil
}

// play sends s the output until it loses the shell or the program ends.
func (h *Holder) play(s *stream) {
	defer close(s.done)
	if s.send(frameBegun, nil) != nil {
		return
	}
	for len(s.first) > 0 {
		n := min(len(s.first), maxData)
		if s.send(frameOutput, s.first[:n]) != nil {
			return
		}
		s.first = s.first[n:]
	}
	b := make([]byte, 0, maxData)
	for {
		var last frameType
		if b, last = h.next(s, b[:0]); len(b) > 0 {
			if s.send(frameOutput, b) != nil {
				return
			}
			continue
		}
		switch last {
		case frameExited:
			_ = s.sendJSON(frameExited, *h.exit) // set, and never changed
		case frameTaken:
			_ = s.send(frameTaken, nil)
			_ = s.rw.Close()
		}
		return
	}
}

// next waits for output that s does not have, and appends it to b; nothing and a
// type say that there will be none.
func (h *Holder) next(s *stream, b []byte) ([]byte, frameType) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case s.gone:
			return b, 0
		case h.now != s:
			return b, frameTaken
		case s.sent < h.back.written:
			b = append(b, h.back.from(s.sent, maxData)...)
			s.sent += int64(len(b))
			h.changed.Broadcast()
			return b, frameOutput
		case h.exit != nil:
			return b, frameExited
		}
		h.changed.Wait()
	}
}
