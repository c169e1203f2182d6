package path

import "time"

// Times of waking up; our choice.
const (
	// lateWake is how late a Poll may be before the process must have been stopped,
	// and everything known about paths with it.
	lateWake = 2 * time.Second
	// wakeLinger is how long data from before the pause may follow the first answer
	// from after it: the peer's transport may take 25 ms to acknowledge.
	wakeLinger = 30 * time.Millisecond
	// wakeMost is how long a peer is waited for that can be heard and answers no
	// challenge, or two round trips.
	wakeMost = 3 * time.Second
)

// Wake says that the machine slept: every path is asked at once, and data goes out
// twice until one has answered. Call it when the clock on the wall has gone further
// than the monotonic one; that the process was stopped is noticed here, because Poll
// comes much too late.
func (m *Manager) Wake(now time.Time) {
	for _, p := range m.paths {
		p.distrust(now)
		p.losses = 0
	}
	if m.best != nil && !m.best.usable() {
		m.best = nil
	}
	m.doubtSince = now
	m.seen, m.announced, m.announceAt = m.local.sequence == 0, 0, now
	m.startRound(now)
	m.next = now
	m.dirty = true
	m.wokeAt, m.answeredAt, m.heardAt = now, time.Time{}, time.Time{}
}

// wakeIfLate notices that the process was stopped. Inputs ask too, not only Poll:
// an answer that waited in a socket meanwhile must not count as a round trip. Before
// the first Poll nobody is late: a session that is being opened, on a busy machine or
// a long path, asks nothing yet, and to wait for answers then is to wait for ever.
func (m *Manager) wakeIfLate(now time.Time) {
	if m.polled && !m.next.IsZero() && now.Sub(m.next) > lateWake {
		m.Wake(now)
	}
}

// Waking reports whether this end slept and what arrives may still be older than
// that: in a socket, at a relay that slept as well, at a peer that slept. The
// transport must not see it. It would take the acknowledgement of a packet from
// before the pause for a round trip as long as the pause, and after minutes would
// send next to nothing for half a minute. The first answer to a challenge from
// after the pause ends it, a little later. Nor is data to be sent meanwhile: the
// peer may be about to wake and drop it.
func (m *Manager) Waking(now time.Time) bool {
	m.wakeIfLate(now)
	if m.wokeAt.IsZero() {
		return false
	}
	if end := m.wakeEnd(); end.IsZero() || now.Before(end) {
		return true
	}
	m.wokeAt = time.Time{}
	return false
}

// wakeEnd is when Waking ends; zero is not known, or it has.
func (m *Manager) wakeEnd() time.Time {
	switch {
	case m.wokeAt.IsZero():
		return never
	case !m.answeredAt.IsZero():
		return m.answeredAt.Add(wakeLinger)
	case !m.heardAt.IsZero():
		return m.heardAt.Add(max(wakeMost, 2*m.trip))
	}
	return never
}
