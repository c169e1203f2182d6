package kept

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Our choices.
const (
	// maxLag is how far a stream may be behind the program before the program waits: a
	// slow reader holds up what it reads, as in every session (attack H4). Without a
	// stream the program never waits.
	maxLag = 64 << 10
	// pokeFor is how long a terminal has another height than the other end, so that a
	// program which draws the whole screen draws it anew.
	pokeFor = 100 * time.Millisecond
	// lastWords is how long a stream may take to hear that it lost the shell, or how
	// the program ended.
	lastWords = 5 * time.Second
)

// Terminal is what is at the other end of a stream.
type Terminal struct {
	Term  string         `json:"term"`
	Size  process.Size   `json:"size"`
	Modes []process.Mode `json:"modes"`
}

// Exit is how the program ended.
type Exit struct {
	Code   int    `json:"code"`
	Signal string `json:"signal"`
	Core   bool   `json:"core"`
}

// no is why the program does not run.
type no struct {
	Code   refusal.Code `json:"code"`
	Detail string       `json:"detail"`
}

// Holder has one program.
type Holder struct {
	// Start starts the program, on the first terminal that begins.
	Start func(Terminal) (*process.Process, error)
	// Started is told that it runs.
	Started func(*process.Process)
	// Failed is told why it did not start. Run ends then.
	Failed func(*refusal.Error)
	// Exited is told how it ended, and how many bytes went in and came out.
	Exited func(e Exit, in, out int64)

	tasks sync.WaitGroup
	over  chan struct{} // closed when the program has ended or cannot start
	once  sync.Once     // closes over

	mu      sync.Mutex
	changed *sync.Cond       // of mu: output, streams, the program's end
	back    *scrollback      // guarded by mu
	now     *stream          // guarded by mu; the one that has the shell, or nil
	p       *process.Process // guarded by mu; nil before the start
	exit    *Exit            // guarded by mu; set at the end, when no more output comes
	size    process.Size     // guarded by mu; of the terminal
	input   int64            // guarded by mu; bytes
	stopped bool             // guarded by mu
}

// Run serves streams until the program has ended and the stream that has it has
// heard so, or until ctx ends, which ends the program. It closes door.
func (h *Holder) Run(ctx context.Context, door *Door) {
	h.changed, h.back, h.over = sync.NewCond(&h.mu), newScrollback(Scrollback), make(chan struct{})
	h.tasks.Go(func() {
		for {
			rw, err := door.Next()
			if err != nil {
				return
			}
			s := &stream{framer: framer{rw: rw, holder: true}, done: make(chan struct{})}
			h.tasks.Go(func() { h.serve(ctx, s) })
		}
	})
	select {
	case <-h.over:
	case <-ctx.Done():
	}
	// 1. no new streams, 2. the program ends, 3. who has it hears so, 4. all are let go
	_ = door.Close()
	s := h.stop()
	if s != nil {
		late := time.AfterFunc(lastWords, func() { _ = s.rw.Close() })
		<-s.done
		late.Stop()
		_ = s.rw.Close()
	}
	h.tasks.Wait()
}

// stop ends the program and returns the stream that has it.
func (h *Holder) stop() *stream {
	h.mu.Lock()
	h.stopped = true
	p, s := h.p, h.now
	h.changed.Broadcast()
	h.mu.Unlock()
	if p != nil {
		p.End()
	}
	return s
}

func (h *Holder) end() { h.once.Do(func() { close(h.over) }) }

// begin gives the shell to s, and starts it if it is the first.
func (h *Holder) begin(ctx context.Context, s *stream, at Terminal) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped || h.exit != nil {
		return refusal.New(refusal.NotFound, "the shell has ended")
	}
	if h.p == nil {
		p, err := h.Start(at)
		if err != nil {
			h.fail(err)
			return err
		}
		h.p, h.size = p, at.Size.Clamp()
		h.Started(p)
		h.tasks.Go(h.collect)
	} else {
		s.first, s.sent = h.back.replay(), h.back.written
		h.fit(ctx, at.Size.Clamp())
	}
	if old := h.now; old != nil {
		old.late = time.AfterFunc(lastWords, func() { _ = old.rw.Close() })
	}
	h.now = s
	h.changed.Broadcast()
	return nil
}

func (h *Holder) fail(err error) {
	e := &refusal.Error{Code: refusal.Unavailable, Detail: "the program cannot be started"}
	errors.As(err, &e)
	h.Failed(e)
	h.stopped = true
	h.end()
}

// fit gives the terminal a size. Where that is no news, a program on the second
// screen hears of another one first.
func (h *Holder) fit(ctx context.Context, size process.Size) {
	poke := size == h.size && h.back.alternate()
	h.size = size
	if !poke {
		_ = h.p.Resize(size)
		return
	}
	_ = h.p.Resize(process.Size{Columns: size.Columns, Rows: max(size.Rows-1, 2-size.Rows)})
	h.tasks.Go(func() {
		pause := time.NewTimer(pokeFor)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		_ = h.p.Resize(h.size) // which may be another one by now
	})
}

// collect reads the program's output to its end. Without a stream it is kept and
// nothing waits.
func (h *Holder) collect() {
	defer h.end()
	b := make([]byte, maxData)
	for {
		n, err := h.p.Stdout().Read(b)
		h.mu.Lock()
		h.back.add(b[:n])
		h.changed.Broadcast()
		for !h.stopped && h.now != nil && h.back.written-h.now.sent > maxLag {
			h.changed.Wait()
		}
		h.mu.Unlock()
		if err != nil {
			break
		}
	}
	x := h.p.Wait()
	e := Exit{Code: x.Code, Signal: x.Signal, Core: x.Core}
	h.mu.Lock()
	in := h.input
	h.mu.Unlock()
	h.Exited(e, in, h.p.OutputBytes()) // first, or a session that ends because of it would pass for one that left
	h.mu.Lock()
	defer h.mu.Unlock()
	h.exit = &e
	h.changed.Broadcast()
}

// decode reads a JSON body.
func decode[T any](body []byte) (v T, ok bool) { return v, json.Unmarshal(body, &v) == nil }
