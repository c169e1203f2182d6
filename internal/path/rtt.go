package path

import "time"

// floorWindow is how long the shortest round trip counts at least, at most twice
// as long; our choice.
const floorWindow = 30 * time.Second

// rtt measures round trips by challenge and answer alone. A token is sent once,
// so no sample is ambiguous, as one of a repeated datagram would be.
type rtt struct {
	smooth, variation time.Duration // srtt and rttvar of RFC 6298
	least             time.Duration // ever

	// The shortest of this window and of the one before. Paths are compared by it
	// and not by smooth, because the queue that our own data makes would make the
	// busy path look worse than the idle one, then the other, and so on.
	window, before time.Duration
	began          time.Time
}

func (r *rtt) measured() bool { return r.smooth > 0 }

func (r *rtt) sample(d time.Duration, now time.Time) {
	d = max(d, time.Microsecond)
	if !r.measured() {
		*r = rtt{smooth: d, variation: d / 2, least: d, window: d, before: d, began: now}
		return
	}
	off := max(r.smooth-d, d-r.smooth)
	r.variation = (3*r.variation + off) / 4
	r.smooth = (7*r.smooth + d) / 8
	r.least = min(r.least, d)
	if now.Sub(r.began) >= floorWindow {
		r.before, r.window, r.began = r.window, d, now
	}
	r.window = min(r.window, d)
}

// floor is the shortest round trip of late.
func (r *rtt) floor() time.Duration { return min(r.window, r.before) }
