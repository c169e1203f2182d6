package path

import (
	"fmt"
	"slices"
	"time"
)

// stream sends a datagram with data every gap from h, and the other end
// acknowledges each.
func (h *host) stream(gap time.Duration, size int) (stop func()) {
	on, id := true, 0
	h.w.every(gap, func() bool {
		id++
		if on && !h.stopped {
			h.data(id, size, true)
		}
		return on
	})
	return func() { on = false }
}

// gap is the longest pause between data that h received after since.
func (h *host) gap(since time.Time) time.Duration {
	longest, last := time.Duration(0), since
	for _, t := range h.gotOrder {
		if t.After(since) {
			longest, last = max(longest, t.Sub(last)), t
		}
	}
	return max(longest, h.w.now.Sub(last))
}

func (h *host) best() (Via, State) {
	v, _, s := h.m.Best(h.w.now)
	h.arm()
	return v, s
}

func (h *host) isDirect() bool { v, s := h.best(); return s == Good && v != Via{} && !v.Relayed() }

func (h *host) describe() string {
	s := ""
	for _, p := range h.m.Status() {
		s += fmt.Sprintf("\n  %s: %v chosen %t live %t validated %t srtt %v: %s", h.name, p.Via, p.Chosen, p.Live, p.Validated, p.SRTT, p.Why)
	}
	return s
}

// bothDirect lets the world go on until both ends use a direct path.
func (w *world) bothDirect(most time.Duration) time.Duration {
	w.t.Helper()
	took, ok := w.runUntil(func() bool { return w.op.isDirect() && w.ag.isDirect() }, most)
	if !ok {
		w.t.Fatalf("no direct path after %v%s%s", most, w.op.describe(), w.ag.describe())
	}
	return took
}

// checkAmplification compares with the rule, by the test's own books.
func (w *world) checkAmplification(t reporter) {
	t.Helper()
	for _, h := range []*host{w.op, w.ag} {
		for a, s := range h.sent {
			if !slices.Contains(h.peer.public, a) && !s.answered && s.outUnproven > amplification*s.in {
				t.Errorf("%s sent %d bytes to %v, from where %d came", h.name, s.outUnproven, a, s.in)
			}
		}
	}
}
