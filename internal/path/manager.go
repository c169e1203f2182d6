package path

import (
	"net/netip"
	"slices"
	"time"
)

// Counts of paths; our choice.
const (
	// MaxRelays is the highest number of a relay.
	MaxRelays = 8
	// maxLearned addresses are kept that the peer did not announce: those that its
	// datagrams came from.
	maxLearned = 8
	// maxReplies wait for Poll at most.
	maxReplies = 64
)

// roamEvery is the shortest pause between two times that a new address of the
// peer makes data go out twice; our choice. Somebody who copies datagrams cannot
// double our traffic for longer than one check in that time.
const roamEvery = time.Second

// Config is what a Manager is made of.
type Config struct {
	// Operator is set at the operator's end, which keeps idle paths alive so that
	// not both have to.
	Operator bool
	// Token returns 64 random bits, never the same twice.
	Token func() uint64
	// Loopback allows direct paths to loopback addresses: test rigs.
	Loopback bool
	// Forbid, when set, names addresses that are never probed beside those that
	// this package refuses itself: the relays' own and local broadcast addresses.
	Forbid func(netip.AddrPort) bool
	// Now is the time at which the session begins.
	Now time.Time
}

// Probe is a frame that the caller seals, alone in a datagram, and sends.
type Probe struct {
	Via  Via
	Type byte   // frame type: Challenge, Response, Candidates, CandidatesSeen
	Body []byte // the caller's
	// Size is what the datagram is padded to in bytes, unless an aged key seals it; 0 is
	// as short as it may be. One of Wide or Large bytes must not be sent in parts.
	Size int
}

// Manager keeps the paths of one session. It is not safe for concurrent use.
// Times must not go backwards.
type Manager struct {
	cfg   Config
	paths []*path

	// Where datagrams came from and went lately, so that most need no search.
	lastIn, lastOut *path
	strange         Via // an unknown address that something not the newest came from
	strangeBytes    int

	// The choice; see choose.go.
	best       *path
	peer       *path   // by which the peer's newest data comes
	ranked     []*path // the others that data could go by
	state      State
	firstVia   Via
	secondVia  Via
	why        string
	switchedAt time.Time
	doubtSince time.Time // zero: best is not in doubt
	goneAt     time.Time // when the last path was lost
	roamAt     time.Time // when data began to go out twice because the peer moved
	dirty      bool      // the choice must be looked at again
	evalAt     time.Time // and at this time in any case; zero is never

	// Candidates and rounds; see probe.go.
	local      list
	seen       bool // the peer has our list
	announced  int  // times that it was sent
	announceAt time.Time
	theirs     uint32 // sequence of the peer's list
	roundAt    time.Time
	busyBytes  uint64 // data sent in all
	busyAt     uint64 // busyBytes at the last round
	rounds     bucket
	budget     bucket

	wokeAt     time.Time // zero: awake; see Waking
	answeredAt time.Time // when the first challenge since then was answered; zero: not yet
	heardAt    time.Time // when something was heard first since then; zero: not yet

	askedVia Via           // chosen when Ask was called
	trips    uint64        // round trips measured on it, or on the chosen path
	trip     time.Duration // the last of them

	polled  bool // Poll was called
	replies []Probe
	next    time.Time // of Poll; zero is never
}

// New returns a manager that knows no path yet.
func New(cfg Config) *Manager { return &Manager{cfg: cfg, roundAt: cfg.Now, seen: true} }

// SetRelay says that the allocation on the relay of v works, or no longer does.
// Data may go by a relay before the peer has answered there: it can lead to
// nobody else. Numbers beyond MaxRelays are ignored.
func (m *Manager) SetRelay(v Via, up bool, now time.Time) {
	if !v.Relayed() || v.Relay > MaxRelays {
		return
	}
	p := m.find(v)
	if p == nil {
		p = m.add(v, 0)
		p.up = false
	}
	if !up {
		p.up = false
		p.deadNow()
	} else if !p.up {
		p.up = true
		p.distrust(now)
		p.proven = false
	} else {
		p.urgent = true
	}
	m.touch(now)
}

// SetLocal replaces the addresses at which this end may be reached. They are
// announced to the peer, at most MaxCandidates, and addresses of a family that
// this end has none of are not probed.
func (m *Manager) SetLocal(local []Candidate, now time.Time) {
	next := m.announceable(local)
	if slices.Equal(next, m.local.candidates) {
		return
	}
	m.local = list{sequence: m.local.sequence + 1, candidates: next}
	m.seen, m.announced, m.announceAt = false, 0, now
	for _, p := range m.paths {
		if !p.via.Relayed() {
			p.up = m.reachable(p.via)
		}
	}
	m.startRound(now)
	m.touch(now)
}

// announceable drops what the peer would not probe, and puts what works most
// often first: what does not fit the list is cut off.
func (m *Manager) announceable(local []Candidate) []Candidate {
	var out []Candidate
	for _, c := range local {
		c.Addr = netip.AddrPortFrom(c.Addr.Addr().Unmap(), c.Addr.Port())
		if c.Kind < Host || c.Kind > Configured || !c.Addr.IsValid() || c.Addr.Port() == 0 || c.Addr.Addr().IsLoopback() && !m.cfg.Loopback ||
			slices.ContainsFunc(out, func(o Candidate) bool { return o.Addr == c.Addr }) {
			continue
		}
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b Candidate) int { return int(b.Kind) - int(a.Kind) })
	return out[:min(len(out), MaxCandidates)]
}

// Received notes an authentic datagram of bytes length that came by v: newest
// when it carries the highest counter so far, data when it held a packet of the
// transport. Call it for every datagram that opened, before Frame for the frames
// in it.
func (m *Manager) Received(v Via, bytes int, newest, data bool, now time.Time) {
	m.wakeIfLate(now)
	p := m.lastIn
	if p == nil || p.via != v {
		if p = m.find(v); p == nil {
			if p = m.stranger(v, bytes, newest); p == nil {
				return
			}
		}
		m.lastIn = p
	}
	p.in += uint64(bytes)
	p.heard, p.unheard = now, time.Time{}
	if !m.wokeAt.IsZero() {
		m.heardAt = first(m.heardAt, now)
	}
	if !p.proven {
		p.earned += uint64(bytes)
		m.heardUnproven(p, newest, now)
	}
	if newest && data && m.peer != p {
		m.peerMoved(p, now)
	}
	if !m.doubtSince.IsZero() {
		m.dirty = true
	}
}

// stranger makes a path of an unknown address that the newest datagram came from.
// An older one may have been held back and sent from there by somebody else.
func (m *Manager) stranger(v Via, bytes int, newest bool) *path {
	if v.Relayed() || !m.allowed(v.Addr) {
		return nil
	}
	if !newest {
		m.strange, m.strangeBytes = v, bytes
		return nil
	}
	return m.learn(v)
}

// learn adds a path to an address that the peer did not announce.
func (m *Manager) learn(v Via) *path {
	m.evict(maxLearned - 1)
	return m.add(v, Peer)
}

// evict leaves at most n direct paths that the peer does not announce. Those that
// were heard longest ago go first, unproven ones before proven ones, or somebody
// who copies datagrams could push out the path in use.
func (m *Manager) evict(n int) {
	for {
		var worst *path
		count := 0
		for _, p := range m.paths {
			if p.via.Relayed() || p.listed {
				continue
			}
			count++
			if p != m.best && (worst == nil || worst.proven && !p.proven || worst.proven == p.proven && p.heard.Before(worst.heard)) {
				worst = p
			}
		}
		if count <= n || worst == nil {
			return
		}
		m.remove(worst)
	}
}

// heardUnproven checks a path by which something came: the peer is there, or
// somebody who copies its datagrams.
func (m *Manager) heardUnproven(p *path, newest bool, now time.Time) {
	if newest {
		p.moved = first(p.moved, now)
	}
	if p.up && now.Sub(p.lastAsked) >= probeFirst<<min(p.tries, 6) {
		p.urgent = true
		m.soon(now)
	}
}

// peerMoved notes that the peer's newest data comes another way than before. If
// that is not ours, it may be because ours has died, so ours is asked at once.
// If the way is new, the peer's address has probably changed, and until the check
// is over data goes out twice.
func (m *Manager) peerMoved(p *path, now time.Time) {
	m.peer = p
	b := m.best
	if b == nil || b == p {
		return
	}
	if now.Sub(b.lastAsked) >= b.doubt/2 {
		b.urgent = true
	}
	if !p.proven && !p.via.Relayed() && now.Sub(m.roamAt) >= roamEvery {
		m.roamAt = now
	}
	m.touch(now)
}

// Sent notes data of bytes length that went out by v.
func (m *Manager) Sent(v Via, bytes int, now time.Time) {
	p := m.lastOut
	if p == nil || p.via != v {
		if p = m.find(v); p == nil {
			return
		}
		m.lastOut = p
	}
	p.out += uint64(bytes)
	m.busyBytes += uint64(bytes)
	if p == m.best && p.pmtu.note(v, bytes, now) {
		m.soon(now)
	}
	if p.unheard.IsZero() {
		p.unheard = now
		m.soon(now.Add(p.doubt / 2))
		m.evalAt = earliest(m.evalAt, now.Add(p.doubt))
	}
}

// Ask has the chosen path challenged at the next Poll.
func (m *Manager) Ask(now time.Time) {
	if m.best != nil {
		m.best.urgent, m.askedVia = true, m.best.via
		m.soon(now)
	}
}

// Measured returns how many round trips have been measured on the chosen path, and
// on the one that Ask was about, and the last of them.
func (m *Manager) Measured() (n uint64, trip time.Duration) { return m.trips, m.trip }

// touch makes the choice and the timer be looked at again.
func (m *Manager) touch(now time.Time) {
	m.dirty = true
	m.soon(now)
}

// soon makes Poll be called at t at the latest.
func (m *Manager) soon(t time.Time) { m.next = earliest(m.next, t) }

func (m *Manager) find(v Via) *path {
	for _, p := range m.paths {
		if p.via == v {
			return p
		}
	}
	return nil
}

func (m *Manager) add(v Via, kind Kind) *path {
	p := &path{via: v, kind: kind, up: v.Relayed() || m.reachable(v), doubt: doubtUnknown, rank: unranked}
	m.paths = append(m.paths, p)
	return p
}

func (m *Manager) remove(p *path) {
	m.paths = slices.DeleteFunc(m.paths, func(o *path) bool { return o == p })
	for _, at := range []**path{&m.best, &m.peer, &m.lastIn, &m.lastOut} {
		if *at == p {
			*at = nil
		}
	}
	m.dirty = true
}

// reachable reports whether this end has an address of the family of v.
func (m *Manager) reachable(v Via) bool {
	return slices.ContainsFunc(m.local.candidates, func(c Candidate) bool { return c.Addr.Addr().Is4() == v.Addr.Addr().Is4() })
}
