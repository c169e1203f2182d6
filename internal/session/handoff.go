package session

import (
	"io"
	"sync"
)

// handoff takes data from the reader of a channel to whoever reads it. Pieces change
// hands as they lie in memory, which comes back for the next one once it was read: while
// one is being written somewhere the next arrives, and nothing is copied for that. More
// than these two there never are, so the stream's window stays the only buffer that
// matters.
//
// One goroutine gives and finishes, one other reads; close is anybody's.
type handoff struct {
	given chan piece    // whoever receives a piece gives its memory back
	back  chan []byte   // has room for both
	over  chan struct{} // closed by close
	once  sync.Once
	err   error // Read's last; written before over is closed

	lent int   // pieces whose memory is not back; the giver's
	held piece // the reader's
}

// piece is a part of a buffer.
type piece struct {
	data []byte // not read yet
	buf  []byte
}

func newHandoff() *handoff {
	return &handoff{given: make(chan piece), back: make(chan []byte, 2), over: make(chan struct{})}
}

// give waits until p has a reader, and returns memory to go on with: nil when there is
// none yet. After close it drops p.
func (h *handoff) give(p piece) []byte {
	select {
	case <-h.over:
		return p.buf
	default:
	}
	select {
	case h.given <- p:
		h.lent++
	case <-h.over:
		return p.buf
	}
	select {
	case b := <-h.back:
		h.lent--
		return b
	default:
		return nil
	}
}

// finish is the end of the data: it waits until all was read.
func (h *handoff) finish() {
	for h.lent > 0 {
		select {
		case <-h.back:
			h.lent--
		case <-h.over:
			return
		}
	}
	h.close(io.EOF)
}

// close ends giver and reader; the reader gets err when it has read what it holds. The
// first call counts.
func (h *handoff) close(err error) {
	h.once.Do(func() {
		h.err = err
		close(h.over)
	})
}

// Read implements io.Reader.
func (h *handoff) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if err := h.hold(); err != nil {
		return 0, err
	}
	n := copy(b, h.held.data)
	h.used(n)
	return n, nil
}

// WriteTo implements io.WriterTo.
func (h *handoff) WriteTo(w io.Writer) (all int64, err error) {
	for {
		if err := h.hold(); err == io.EOF {
			return all, nil
		} else if err != nil {
			return all, err
		}
		n, err := w.Write(h.held.data)
		all += int64(n)
		h.used(n)
		if err != nil {
			return all, err
		}
	}
}

// hold waits until there is something to read.
func (h *handoff) hold() error {
	if len(h.held.data) > 0 {
		return nil
	}
	select {
	case h.held = <-h.given:
		return nil
	case <-h.over:
		return h.err
	}
}

// used books n bytes that were read.
func (h *handoff) used(n int) {
	if h.held.data = h.held.data[n:]; len(h.held.data) == 0 {
		h.back <- h.held.buf
		h.held = piece{}
	}
}
