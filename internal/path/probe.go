package path

import "time"

// The search for paths; our choice unless said.
const (
	// probeFirst is the first gap between challenges to a path that has not
	// answered; each gap is twice the one before: 0, 20, 60, 140, 300 ms ...
	probeFirst = 20 * time.Millisecond
	// roundTries challenges make a round; the last goes out after 2.5 s.
	roundTries = 8
	// Relays that do not answer are asked with growing gaps up to these.
	relayGap     = time.Minute
	relayGapGone = 15 * time.Second
	// Most networks that go are back soon. So relays, and paths that have answered
	// once, are asked again after a gonePart of the time since the last path was
	// lost, and goneGap at first.
	goneGap  = time.Second
	gonePart = 20
	// A repeated challenge on a path that has answered before waits at most this, or
	// half of what makes it doubted: before that the first may well be answered.
	repeatMost = time.Second

	// roundIdle is the least time between rounds while relayed and idle, roundBusy
	// while data flows: more than busy bytes since the last round. With many
	// candidates rounds are rarer, so that they cost roundRate bytes/s at most.
	roundIdle = 45 * time.Second
	roundBusy = 30 * time.Second
	busy      = 32 << 10
	roundRate = 24
	// Without any path rounds follow each other faster, but in 24 hours all
	// challenges stay below what may be sealed under an aged key, 2^16.
	roundGone     = 15 * time.Second
	roundGoneEach = 4 * time.Second
)

// Keeping paths alive; our choice. Together with the above it is less than 100
// bytes/s of an idle session, see TestIdleTraffic. Only the operator asks; the
// agent, later, when it hears nothing. 25 s is short of the 30 s after which the
// shortest-lived NAT mappings go.
const (
	keepChosen, keepChosenAgent = 15 * time.Second, 40 * time.Second
	keepWarm, keepWarmAgent     = 25 * time.Second, 40 * time.Second
	keepCold, keepColdAgent     = 75 * time.Second, 85 * time.Second
	// warm paths beside the chosen one are kept ready, up to cold are kept at all.
	warm = 2
	cold = 4
	// While data flows, the chosen path is measured every sampleChosen, warm ones
	// every sampleWarm.
	sampleChosen = time.Second
	sampleWarm   = 5 * time.Second
	sampleBytes  = 8 << 10
)

// Repeating our candidates until the peer has them; our choice. A peer that does
// not know the frame never says so.
const (
	announceFirst = 100 * time.Millisecond
	announceMost  = 5 * time.Second
	announceTries = 10
)

// Poll returns what is to be sent now, in this order.
func (m *Manager) Poll(now time.Time) []Probe {
	m.Waking(now) // ends it, when it is time
	m.polled = true
	m.evaluate(now)
	if t := m.nextRound(); !t.IsZero() && !now.Before(t) {
		m.slowRound(now)
	}
	out := m.replies
	m.replies = nil
	if p := m.announce(now); p.Type != 0 {
		out = append(out, p)
	}
	for _, p := range m.paths {
		if t := m.due(p); t != never && !now.Before(t) {
			out = m.challenge(out, p, now)
		}
	}
	out = m.probeSizes(out, now)
	m.schedule(now)
	return out
}

// Next returns when Poll is to be called at the latest; the zero time is never.
// Every other call may change it.
func (m *Manager) Next() time.Time { return m.next }

// schedule sets the time of the next Poll.
func (m *Manager) schedule(now time.Time) {
	m.next = m.evalAt
	m.soon(m.wakeEnd())
	m.soon(m.nextRound())
	if !m.seen && m.state != Gone {
		m.soon(m.announceAt)
	}
	for _, p := range m.paths {
		m.soon(m.due(p))
		m.soon(p.deadAt())
		m.soon(p.expires())
	}
	if !m.next.IsZero() && m.next.Before(now) {
		m.next = now
	}
}

// challenge appends a challenge for p, if it may have one.
func (m *Manager) challenge(out []Probe, p *path, now time.Time) []Probe {
	size, padded := datagramSize(tokenSize), 0
	if m.full(p) {
		padded = p.confirm(now)
		size = padded
	}
	if !m.afford(p, size, now) {
		p.urgent, p.tries, p.lastAsked = false, roundTries, now
		return out
	}
	token := m.cfg.Token()
	p.remember(token, padded >= Size, now)
	p.out += uint64(size)
	if p == m.best {
		m.evalAt = earliest(m.evalAt, p.suspectAt())
	}
	return append(out, Probe{Via: p.via, Type: Challenge, Body: appendChallenge(token), Size: padded})
}

// full reports whether the next challenge of p is to be as long as data. A path,
// or somebody on it, that lets small datagrams pass and no large ones would
// otherwise answer every challenge and carry nothing, and never be doubted. To an
// address that has not answered at all challenges stay short: it may be somebody
// else's. So they do on idle paths.
func (m *Manager) full(p *path) bool {
	return (p.proven || p.via.Relayed()) && (!p.fits || m.busyBytes-p.sampledAt >= 2*Size)
}

// never is no time at all.
var never = time.Time{}

// due is when p wants its next challenge.
func (m *Manager) due(p *path) time.Time {
	switch {
	case !p.up:
		return never
	case p.urgent:
		return p.lastAsked.Add(probeFirst)
	case p.proven && !p.asked.IsZero():
		return p.lastAsked.Add(min(p.doubt/2<<min(max(p.tries-1, 0), 8), max(repeatMost, p.doubt/2)))
	case p.proven:
		return m.keep(p)
	case p.via.Relayed():
		most := relayGap
		if m.state == Gone {
			most = m.goneEvery(p)
		}
		return p.lastAsked.Add(min(probeFirst<<min(p.tries, 16), most))
	case p.known && m.state == Gone && p.tries >= roundTries-1:
		return p.lastAsked.Add(m.goneEvery(p))
	case p.tries == 0 || p.tries >= roundTries:
		return never // until the next round
	}
	return p.lastAsked.Add(probeFirst << (p.tries - 1))
}

// goneEvery is the longest gap between challenges of p while no path works.
func (m *Manager) goneEvery(p *path) time.Duration {
	return min(max(p.lastAsked.Sub(m.goneAt)/gonePart, goneGap), relayGapGone)
}

// keep is when a path that has answered is asked again, to keep it alive, to
// measure it, or because it owes an answer to data.
func (m *Manager) keep(p *path) time.Time {
	if !p.unheard.IsZero() {
		return p.unheard.Add(p.doubt / 2)
	}
	operator, agent, sample := keepCold, keepColdAgent, keepCold
	switch {
	case p == m.best:
		operator, agent, sample = keepChosen, keepChosenAgent, sampleChosen
	case p.rank < warm:
		operator, agent, sample = keepWarm, keepWarmAgent, sampleWarm
	case p.rank >= cold:
		return never
	}
	idle := agent
	if m.cfg.Operator {
		idle = operator
	}
	t := later(p.heard, p.answered).Add(idle)
	if m.busyBytes-p.sampledAt >= sampleBytes {
		t = earliest(t, p.answered.Add(sample))
	}
	return t
}

// startRound asks every direct path that has not answered, often at first.
func (m *Manager) startRound(now time.Time) { m.round(now, 0) }

// slowRound asks each of them once, while relayed. The operator tells the agent
// to do the same at this moment.
func (m *Manager) slowRound(now time.Time) {
	m.round(now, roundTries-1)
	if m.cfg.Operator && m.local.sequence != 0 {
		m.seen, m.announced, m.announceAt = false, announceTries-1, now
	}
}

func (m *Manager) round(now time.Time, tries int) {
	m.roundAt, m.busyAt = now, m.busyBytes
	for _, p := range m.paths {
		if !p.via.Relayed() && !p.proven && (p.listed || p.known) {
			p.urgent, p.tries = true, tries
		}
	}
	m.soon(now)
}

// call joins a round that the peer has begun, unless there was one just now.
func (m *Manager) call(now time.Time) {
	if now.Sub(m.roundAt) >= roundIdle/4 {
		m.slowRound(now)
	}
}

// nextRound is when the next round begins: never while the chosen path is direct
// and works, or without anything to ask.
func (m *Manager) nextRound() time.Time {
	if m.best != nil && !m.best.via.Relayed() && m.best.proven {
		return never
	}
	theirs := 0
	for _, p := range m.paths {
		if !p.via.Relayed() && !p.proven && p.up && (p.listed || p.known) {
			theirs++
		}
	}
	if theirs == 0 {
		return never
	}
	ours := len(m.local.candidates)
	const headers = 32 // IPv4, UDP, ChannelData
	bytes := (ours+theirs)*(datagramSize(tokenSize)+headers) + datagramSize(sequenceSize+1+ours*candidateSize) + datagramSize(sequenceSize) + 2*headers
	gap := max(roundIdle, time.Duration(bytes)*time.Second/roundRate)
	switch {
	case m.state == Gone:
		gap = max(roundGone, time.Duration(theirs)*roundGoneEach)
	case m.busyBytes-m.busyAt >= busy:
		gap = roundBusy
	}
	if !m.cfg.Operator {
		gap += gap / 2 // the operator calls
	}
	return m.roundAt.Add(gap)
}

// announce returns our candidates when they are to be sent.
func (m *Manager) announce(now time.Time) Probe {
	if m.seen || m.state == Gone || m.best == nil || now.Before(m.announceAt) {
		return Probe{}
	}
	m.announceAt = now.Add(min(announceFirst<<m.announced, announceMost))
	if m.announced++; m.announced >= announceTries {
		m.seen = true // or not; the next round says it again
	}
	return Probe{Via: m.best.via, Type: Candidates, Body: m.local.append()}
}
