package worker

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// idleFor makes a timer whose last sign of the user was that long ago by the time of
// day, of which its own clock has seen nothing: the machine slept.
func idleFor(limit, slept time.Duration, ended *atomic.Int32) *idleTimer {
	t := newIdleTimer(limit, func() { ended.Add(1) })
	t.mu.Lock()
	t.last = time.Now().Round(0).Add(-slept)
	t.mu.Unlock()
	return t
}

// What a session may be idle is over while its machine sleeps, too, though timers stand
// still; and the first key after that is too late.
func TestIdleTimeCountsWhileTheMachineSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, look := range map[string]func(*idleTimer){
			"nobody comes":   func(*idleTimer) { time.Sleep(idleLook); synctest.Wait() },
			"somebody types": func(i *idleTimer) { i.touch() },
		} {
			var ended atomic.Int32
			i := idleFor(15*time.Minute, 8*time.Hour, &ended)
			if look(i); ended.Load() == 0 {
				t.Errorf("%s: it goes on", name)
			}
			i.stop()
		}
	})
}

func TestIdleTimeEndsAfterTheLastSign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int32
		i := newIdleTimer(time.Minute, func() { ended.Add(1) })
		for range 10 {
			time.Sleep(50 * time.Second)
			i.touch()
		}
		if ended.Load() != 0 {
			t.Error("it ended while somebody typed")
		}
		time.Sleep(time.Minute - time.Millisecond)
		if synctest.Wait(); ended.Load() != 0 {
			t.Error("it ended early")
		}
		time.Sleep(time.Millisecond)
		if synctest.Wait(); ended.Load() != 1 {
			t.Errorf("it ended %d times", ended.Load())
		}
		i.stop()
	})
}

// A clock that is set back while nobody types lengthens nothing, and one that stands
// still while the machine sleeps does not either. No time can be made of which the two
// clocks say different things, so it is what they say that is given here.
func TestIdleTimeIsNoLongerWhenTheClockIsSetBack(t *testing.T) {
	for name, c := range map[string]struct{ own, wall, left time.Duration }{
		"awake":    {20 * time.Second, 20 * time.Second, 40 * time.Second},
		"set back": {2 * time.Minute, -time.Hour, -time.Minute},
		"asleep":   {time.Second, time.Hour, -59 * time.Minute},
	} {
		if got := left(time.Minute, c.own, c.wall); got != c.left {
			t.Errorf("%s: %v are left, not %v", name, got, c.left)
		}
	}
}
