package transport

import "time"

// Acknowledging: one frame for ackEvery packets, or after a quarter of a round
// trip. Each costs a seal and a system call at both ends.
const ackEvery = 32

// arrivals is what has arrived and is to be acknowledged. The connection's lock
// guards it.
type arrivals struct {
	got     spans // packet numbers
	low     uint64
	count   int           // packets since the last acknowledgement
	newest  time.Duration // when the packet with the highest number came
	at      time.Duration // when the next one is due; 0 never
	instant bool          // it is due now
}

// known reports whether a packet was here already, or is of no interest.
func (a *arrivals) known(n uint64) bool { return n < a.low || a.got.has(n) }

// add books a packet. Only those that want an answer make one due.
func (a *arrivals) add(h header, eliciting bool, trip, now time.Duration) {
	next := uint64(0)
	if n := len(a.got); n > 0 {
		next = a.got[n-1].hi
	}
	a.got.add(span{h.number, h.number + 1})
	if h.low > a.low {
		a.low = h.low
		a.got.before(a.low)
	}
	if len(a.got) > maxRanges {
		a.got = a.got[:copy(a.got, a.got[1:])]
	}
	if h.number >= next {
		a.newest = now
	}
	if !eliciting {
		return
	}
	if a.count++; a.count == 1 {
		a.at = now + min(max(trip/4, timerLeast), ackDelayMost)
	}
	a.instant = a.instant || h.ackNow || a.count >= ackEvery || h.number != next
}

func (a *arrivals) due(now time.Duration) bool {
	return len(a.got) > 0 && (a.instant || a.at > 0 && now >= a.at)
}

func (a *arrivals) sent() { a.count, a.at, a.instant = 0, 0, false }
