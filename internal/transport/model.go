package transport

import "time"

// model is the congestion control: how fast to send, and how much at once. It
// follows the idea of BBR: the path is described by the highest rate that it
// delivered and the shortest round trip; the sender paces itself at that rate and
// probes now and then. A random loss, a late timer or jitter changes nothing in
// that, which is what a window that halves (Reno) or leaves slow start on a rise
// of the round trip (HyStart) cannot say. Only much loss bounds what is under way.
//
// Times are durations since the connection began; rates are bytes per second.
type model struct {
	phase     phase
	packet    int           // size of a packet
	window    int           // bytes that may be under way
	ceiling   int           // bytes under way at which a queue overflowed; 0 is none
	ceilingAt time.Duration // when it was set or raised last
	pacing    float64
	rate      rateFilter
	trip      time.Duration // shortest round trip of late; 0 is unknown
	tripAt    time.Duration // when it was measured

	round    uint64        // counts round trips
	roundEnd uint64        // delivered bytes at which the next one begins
	got      int           // bytes delivered in this round
	lost     int           // bytes lost in this round
	least    time.Duration // shortest round trip in this round; 0 is none
	longer   int           // rounds in a row whose shortest was too long for this path

	full      float64 // rate at the last growth in startup
	flat      int     // rounds since
	step      int     // of the probing cycle
	stepAt    time.Duration
	drainTill time.Duration
}

type phase byte

const (
	startup phase = iota // startupGain times as much each round trip
	drain                // giving back the queue that startup made
	cruise               // probing in a cycle
	refresh              // little under way, to see the shortest round trip
)

// Figures of the model, our choice unless said. The gains are BBR's: 2.77 is the least that doubles the
// rate in a round trip; the cycle probes for an eighth of the time.
const (
	startWindow  = 32 // packets
	leastWindow  = 8  // packets; our choice
	startupGain  = 2.77
	startupPace  = 2.0 // windows in a round trip
	windowGain   = 2.0
	growth       = 1.25                   // of the rate in a round trip, less is no growth; BBR's, as the next three
	flatRounds   = 3                      // without growth end the start
	tripAge      = 10 * time.Second       // a shortest round trip that is older is measured anew
	refreshTime  = 200 * time.Millisecond // with little under way, for that
	schedulerLag = 4 * time.Millisecond   // how late a busy machine handles packets
	heavyLoss    = 0.05                   // of a round: not chance any more
	heavyLeast   = 16                     // packets
	startRate    = 1e6                    // bytes in a second before anything is known; our choice
	ceilingLeast = 10 * time.Millisecond  // between two raises of the ceiling: where a round takes microseconds it would be forgotten before it has bounded anything
)

var cycle = [8]float64{1.25, 0.75, 1, 1, 1, 1, 1, 1}

// rateFilter is the highest rate of the last ten to twenty rounds, and at least of
// half a second, so that a pause of the scheduler is no new path.
type rateFilter struct {
	now, before float64
	round       uint64
	at          time.Duration
}

func (f *rateFilter) best() float64 { return max(f.now, f.before) }

func (f *rateFilter) add(rate float64, round uint64, now time.Duration) {
	if round >= f.round+10 && now >= f.at+500*time.Millisecond {
		f.before, f.now, f.round, f.at = f.now, 0, round, now
	}
	f.now = max(f.now, rate)
}

func newModel(packet int, now time.Duration) model {
	return model{
		packet: packet, window: startWindow * packet, pacing: startRate * startupGain, tripAt: now, stepAt: now,
		rate: rateFilter{at: now},
	}
}

// sample is what one acknowledgement says.
type sample struct {
	now       time.Duration
	trip      time.Duration // 0 is not measured
	rate      float64       // 0 is not measured
	limited   bool          // by the application
	acked     int           // bytes newly delivered
	lost      int           // bytes newly lost
	prior     uint64        // bytes delivered when the newest of them was sent
	delivered uint64        // bytes delivered by now
	flying    int           // bytes under way now
}

func (m *model) acknowledged(s sample) {
	m.got += s.acked
	m.lost += s.lost
	ended := s.acked > 0 && s.prior >= m.roundEnd
	if s.rate > 0 && (!s.limited || s.rate > m.rate.best()) {
		m.rate.add(s.rate, m.round, s.now)
	}
	old := s.now > m.tripAt+tripAge
	if s.trip > 0 && (m.least == 0 || s.trip < m.least) {
		m.least = s.trip
	}
	if s.trip > 0 && (m.trip == 0 || s.trip <= m.trip || old && m.phase == refresh) {
		m.trip, m.tripAt = s.trip, s.now
	}
	if ended {
		m.roundEnd = s.delivered
		m.round++
		m.endRound(s)
		m.got, m.lost, m.least = 0, 0, 0
	}
	m.advance(s, old)
	m.set(s)
}

// endRound looks at what a whole round trip brought.
func (m *model) endRound(s sample) {
	heavy := m.lost > heavyLeast*m.packet && float64(m.lost) > heavyLoss*float64(m.lost+m.got)
	if heavy {
		bound := max(int(float64(s.flying+s.acked)*0.85), int(m.product(1)))
		m.ceiling = max(bound, leastWindow*m.packet)
		m.ceilingAt = s.now
	} else if m.ceiling > 0 && s.now >= m.ceilingAt+ceilingLeast {
		m.ceiling += m.ceiling / 32 // forgets: the other flow may have ended
		m.ceilingAt = s.now
		if m.ceiling > 2*m.target() {
			m.ceiling = 0
		}
	}
	m.notice(s.now)
	if m.phase != startup || s.limited {
		return
	}
	if m.rate.best() >= m.full*growth && !heavy {
		m.full, m.flat = m.rate.best(), 0
		return
	}
	if m.flat++; m.flat >= flatRounds || heavy {
		m.phase = drain
	}
}

// notice finds that the path has become another, longer one. Our own queue is at most
// what the window holds beyond the path; round trips that are longer than that make
// cannot be ours.
func (m *model) notice(now time.Duration) {
	if m.least <= time.Duration(startupGain*float64(m.trip))+2*schedulerLag {
		m.longer = 0
		return
	}
	if m.longer++; m.longer >= 2 {
		m.trip, m.tripAt, m.longer = m.least, now, 0
	}
}

// advance moves through the phases.
func (m *model) advance(s sample, old bool) {
	switch m.phase {
	case drain:
		// Not below the least window, which it could not fall to, and would stay here.
		if s.flying <= max(int(m.product(1)), leastWindow*m.packet) {
			m.phase, m.step, m.stepAt = cruise, 2, s.now
		}
	case cruise:
		m.turn(s)
		if old && m.trip > 0 {
			m.phase, m.drainTill = refresh, s.now+max(refreshTime, m.trip)
		}
	case refresh:
		if s.now >= m.drainTill {
			m.phase, m.step, m.stepAt, m.tripAt = cruise, 0, s.now, s.now
		}
	}
}

// turn moves the probing cycle on. A step takes a round trip; the one that drains
// ends early.
func (m *model) turn(s sample) {
	long := s.now-m.stepAt >= max(m.trip, schedulerLag)
	if long || cycle[m.step] < 1 && s.flying <= int(m.product(1)) {
		m.step, m.stepAt = (m.step+1)%len(cycle), s.now
	}
}

// product is the bytes that the path holds, times gain.
func (m *model) product(gain float64) float64 {
	return gain * m.rate.best() * m.trip.Seconds()
}

func (m *model) set(s sample) {
	if m.trip == 0 || m.rate.best() == 0 {
		return
	}
	gain := m.gain()
	// The pace never holds up the least window: a rate that was measured while
	// nothing got through would keep itself so low.
	rate := max(gain*m.rate.best(), float64(leastWindow*m.packet)/m.trip.Seconds())
	if m.phase == startup {
		// Rates that were measured while the window was the limit lag behind it.
		rate = max(rate, m.pacing, startupPace*float64(m.window)/m.trip.Seconds())
	}
	m.pacing = rate
	target := m.target()
	if m.ceiling > 0 {
		target = min(target, m.ceiling)
	}
	least := leastWindow
	if m.phase == startup {
		least = startWindow
	}
	grown := s.acked
	if m.phase == startup {
		// The target, startupGain times what the last round delivered, bounds a round as it
		// bounds a doubling: the same queue at the end, a round trip earlier.
		grown = int((startupGain - 1) * float64(s.acked))
	}
	m.window = max(min(m.window+grown, target), least*m.packet)
}

// target is the window that rate and round trip ask for. Where the round trip is next to
// nothing most of it is slack: one machine, whose processes take turns, delivers in
// bursts, and the rate of a burst is not that of the path. Then the ceiling alone knows
// how much the path holds.
func (m *model) target() int {
	slack := m.rate.best() * schedulerLag.Seconds()
	switch m.phase {
	case refresh:
		return int(m.product(0.5) + slack)
	case startup, drain:
		return int(m.product(startupGain)+slack) + 8*m.packet
	}
	return int(m.product(windowGain)+slack) + 8*m.packet
}

func (m *model) gain() float64 {
	switch m.phase {
	case startup:
		return startupGain
	case drain:
		return 1 / startupGain
	case cruise:
		return cycle[m.step]
	}
	return 1
}
