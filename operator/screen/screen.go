package screen

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Mode says when typed keys are shown before their echo.
type Mode uint8

const (
	// Adaptive shows them when the round trip is long enough to be felt, or an
	// echo was late.
	Adaptive Mode = iota
	// Always shows them whenever they can be predicted.
	Always
	// Never leaves the program's output alone. Notices are drawn nevertheless.
	Never
)

// modeNames are the modes as the flag --predict has them.
var modeNames = [...]string{Adaptive: "adaptive", Always: "always", Never: "never"}

// String is the mode's name.
func (m *Mode) String() string { return modeNames[*m] }

// Set reads a mode by its name, as a flag.Value.
func (m *Mode) Set(name string) error {
	for i, n := range modeNames {
		if name == n {
			*m = Mode(i)
			return nil
		}
	}
	return fmt.Errorf("the prediction mode %q is none of adaptive, always, never", name)
}

// Config is what a Screen works with.
type Config struct {
	// Out is the person's terminal, in raw mode. It must be at the beginning of
	// a line, and from New to Close nobody else may write to it.
	Out io.Writer
	// Columns and Rows are its size. A size without sense turns overlays off.
	Columns, Rows int
	// Mode says when predictions are shown.
	Mode Mode
	// RTT returns the smoothed round trip of the session, 0 while unknown. It is
	// called for each key and must be quick.
	RTT func() time.Duration
}

// Screen is the terminal of one session. Its methods may be called from any
// goroutine.
type Screen struct {
	cfg  Config
	wake chan struct{} // holds a token when Run has to look at the clock anew

	mu        sync.Mutex // also serialises writes to Out
	scan      scanner
	model     *model
	keys      keys
	predictor predictor
	drawn     overlay
	notice    []byte // wanted, nil if none
	says      []byte // wanted between two sequences of the program
	held      bool
	begun     bool // the part of the screen below the cursor is ours
	closed    bool
	err       error  // of Out; nothing is written after it
	buf       []byte // reused
}

// maxAhead is the longest write of the program that is copied behind what takes
// our overlay off, so that the terminal gets both at once and does not flicker.
// Our choice.
const maxAhead = 8 << 10

// New returns a Screen. The caller runs Run and calls Close at the end.
func New(cfg Config) *Screen {
	return &Screen{cfg: cfg, wake: make(chan struct{}, 1), model: newModel(cfg.Columns, cfg.Rows)}
}

// Write takes what the remote program wrote and passes it to the terminal
// unchanged, with our overlay taken off before and drawn again after it. The
// error is that of the terminal.
func (s *Screen) Write(p []byte) (int, error) { return s.write(p, time.Now()) }

func (s *Screen) write(p []byte, now time.Time) (int, error) {
	rtt := s.cfg.RTT()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.undo(s.begin())
	n, err := s.pass(out, p)
	if err != nil {
		return n, err
	}
	before := s.model.mark()
	s.scan.feed(s.model, p)
	s.predictor.tune(rtt)
	s.predictor.seen(s.model, before, now)
	s.flush(s.draw(s.speak(s.buf[:0])))
	s.nudge()
	return len(p), s.err
}

// begin erases what is below the cursor before the first output. At a shell it
// is empty already; now it is so for certain, and predictions need not wait
// until the program has filled a screen.
func (s *Screen) begin() []byte {
	out := s.buf[:0]
	if !s.begun && s.cfg.Mode != Never && !s.model.broken {
		out = append(out, "\x1b[J"...)
		s.model.eraseBelow()
	}
	s.begun = true
	return out
}

// pass writes out and then p.
func (s *Screen) pass(out, p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if len(p) <= maxAhead && len(out) > 0 {
		s.flush(append(out, p...))
		if s.err != nil {
			return 0, s.err
		}
		return len(p), nil
	}
	s.flush(out)
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.cfg.Out.Write(p)
	s.err = err
	return n, err
}

// Typed tells which input is about to be sent to the program.
func (s *Screen) Typed(p []byte) { s.typed(p, time.Now()) }

func (s *Screen) typed(p []byte, now time.Time) {
	if s.cfg.Mode == Never || len(p) == 0 {
		return
	}
	rtt := s.cfg.RTT()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.predictor.tune(rtt)
	if len(p) > maxTyped {
		s.keys = keys{}
		s.predictor.end()
	} else {
		for _, b := range p {
			if k, ok := s.keys.next(b); ok {
				s.predictor.typed(s.model, k, now)
			}
		}
	}
	s.redraw()
	s.nudge()
}

// Resize tells the new size of the terminal.
func (s *Screen) Resize(columns, rows int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The terminal has wrapped its lines anew already, ours with them: there is
	// nothing left that could be put back. Programs draw a new screen for a size.
	s.drawn.predicted, s.drawn.bar = false, nil
	s.predictor.drop()
	s.predictor.input = nil
	s.model.broken = false
	s.model.resize(columns, rows)
	s.redraw()
}

// Notice shows one line about the connection until ClearNotice. It is escaped,
// and cut where it does not fit. Calling it again changes the text.
func (s *Screen) Notice(text string) { s.setNotice(barText(text)) }

// ClearNotice takes the notice off.
func (s *Screen) ClearNotice() { s.setNotice(nil) }

func (s *Screen) setNotice(bar []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || string(bar) == string(s.notice) {
		return
	}
	s.notice = bar
	s.redraw()
}

// Hold tells that the connection is gone, or back: while it is gone, no echo can
// come, and predictions wait for it.
func (s *Screen) Hold(gone bool) { s.hold(gone, time.Now()) }

func (s *Screen) hold(gone bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held && !gone {
		for i := range s.predictor.steps {
			s.predictor.steps[i].at = now
		}
	}
	s.held = gone
	s.nudge()
}

// Say writes lines of our own, such as help that the person asked for, between
// those of the program. Lines end with a line feed. Text from elsewhere must be
// escaped.
func (s *Screen) Say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.says = append(s.says, "\r\n"+strings.ReplaceAll(text, "\n", "\r\n")...)
	out := s.undo(s.buf[:0])
	s.flush(s.draw(s.speak(out)))
}

// speak appends what is to be said, once the program's output allows it.
func (s *Screen) speak(out []byte) []byte {
	if len(s.says) == 0 || !s.scan.whole() {
		return out
	}
	s.predictor.drop()
	s.scan.feed(s.model, s.says)
	out = append(out, s.says...)
	s.says = nil
	return out
}

// draw draws the overlay. Nothing of it is on the terminal.
func (s *Screen) draw(out []byte) []byte {
	if s.closed {
		return out
	}
	return s.drawPrediction(s.drawNotice(out))
}

func (s *Screen) redraw() { s.flush(s.draw(s.undo(s.buf[:0]))) }

// flush writes out, and keeps its memory.
func (s *Screen) flush(out []byte) {
	if s.buf = out[:0]; len(out) == 0 || s.err != nil {
		return
	}
	_, s.err = s.cfg.Out.Write(out)
}

func (s *Screen) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run takes predictions off whose echo does not come. It ends with ctx.
func (s *Screen) Run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := s.tick(time.Now())
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-s.wake:
		}
	}
}

// tick does what is due and says how long there is nothing to do.
func (s *Screen) tick(now time.Time) time.Duration {
	rtt := s.cfg.RTT()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.predictor.tune(rtt)
	if !s.held && !s.closed && s.predictor.expire(s.model, now, rtt) {
		s.redraw()
	}
	due := s.predictor.due(rtt)
	if due.IsZero() || s.held || s.closed {
		return time.Hour
	}
	return max(due.Sub(now), time.Millisecond)
}

// Close takes our overlay off. Output may still be written; it passes through.
// Close may be called more than once.
func (s *Screen) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.notice = nil
	s.predictor.drop()
	s.redraw()
	s.closed = true
}
