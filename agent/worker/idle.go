package worker

import (
	"sync"
	"time"
)

// idleLook is how late a session may end that was idle while its machine slept; our
// choice.
const idleLook = 5 * time.Second

// idleTimer ends a session without input for longer than the policy allows. Timers stand
// still while a machine sleeps, so it also looks at the time of day; a clock that is set
// back lengthens nothing.
type idleTimer struct {
	limit time.Duration // 0 is none
	end   func()

	mu    sync.Mutex  // guards the rest
	last  time.Time   // the last sign of the user
	timer *time.Timer // nil without a limit, and after stop
}

// newIdleTimer calls end, which may be called more than once, after limit.
func newIdleTimer(limit time.Duration, end func()) *idleTimer {
	t := &idleTimer{limit: limit, end: end}
	if limit > 0 {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.last = time.Now()
		t.timer = time.AfterFunc(min(limit, idleLook), t.look)
	}
	return t
}

// touch notes a sign of the user. One that comes too late is none: who opens the lid
// again goes on typing before anybody has looked.
func (t *idleTimer) touch() {
	if t.limit == 0 {
		return
	}
	now := time.Now()
	t.mu.Lock()
	late := t.timer != nil && t.leftLocked(now) <= 0
	if !late {
		t.last = now
	}
	t.mu.Unlock()
	if late {
		t.end()
	}
}

// look ends the session, or looks again.
func (t *idleTimer) look() {
	t.mu.Lock()
	rest := t.leftLocked(time.Now())
	if t.timer != nil && rest > 0 {
		t.timer.Reset(min(rest, idleLook))
	}
	late := t.timer != nil && rest <= 0
	t.mu.Unlock()
	if late {
		t.end()
	}
}

// leftLocked is the time left at now.
func (t *idleTimer) leftLocked(now time.Time) time.Duration {
	return left(t.limit, now.Sub(t.last), now.Round(0).Sub(t.last.Round(0)))
}

// left is what is left of a limit by the clock that has gone further: own stands still
// while a machine sleeps, and wall, the time of day, can be set back.
func left(limit, own, wall time.Duration) time.Duration { return limit - max(own, wall) }

func (t *idleTimer) stop() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
}
