package path

import (
	"cmp"
	"slices"
	"time"
)

// How paths are compared; our choice. Costs are round trips.
const (
	// directMargin is by how much a relay must be faster than a direct path to be
	// preferred: it may fail, it costs its owner traffic, it sees sizes and times.
	directMargin = 30 * time.Millisecond
	// A path is left for another only for a gain of gainLeast or an eighth of its
	// own round trip, and settle after the last change unless from relay to direct.
	gainLeast = 5 * time.Millisecond
	gainPart  = 8
	settle    = 5 * time.Second
	// fresh is how old the last answer of a path may be to go there.
	fresh = 5 * time.Second
	// unmeasured is the cost of a path whose answer came another way.
	unmeasured = time.Second / 3
	// unranked is the rank of a path that data cannot go by.
	unranked = 1 << 10
)

// State says how sure the sending path is.
type State uint8

// The states.
const (
	Gone     State = iota // no path is known to work
	Doubtful              // data goes to both paths that Best returned
	Good                  // data goes to the first path
)

func (s State) String() string { return [...]string{"gone", "doubtful", "good"}[min(s, Good)] }

// Best returns where data goes: first, and when the state is Doubtful second as
// well, unless it is the zero Via. In state Good, second is the path that would
// be next. In state Gone both are zero. Call it for each batch; look at Next after it.
func (m *Manager) Best(now time.Time) (first, second Via, state State) {
	m.wakeIfLate(now)
	if m.dirty || !m.evalAt.IsZero() && !now.Before(m.evalAt) {
		m.evaluate(now)
		m.soon(now)
	}
	return m.firstVia, m.secondVia, m.state
}

// evaluate chooses.
func (m *Manager) evaluate(now time.Time) {
	m.dirty, m.evalAt = false, time.Time{}
	m.bury(now)
	m.order(now)
	b := m.best
	switch {
	case b == nil || !b.usable():
		m.replace(now)
	case !b.eligible(now):
		m.doubt(now)
	case m.doubtSince.IsZero():
		m.improve(now)
	case !later(b.heard, b.answered).Before(m.doubtSince):
		m.doubtSince = time.Time{}
	default:
		m.firstAnswer(now)
	}
	m.settleState(now)
}

// bury takes note of paths that were silent or unused for too long.
func (m *Manager) bury(now time.Time) {
	for i := len(m.paths) - 1; i >= 0; i-- { // from behind, as paths are removed
		p := m.paths[i]
		if t := p.deadAt(); !t.IsZero() && !now.Before(t) {
			if p == m.best {
				p.lose(now)
			}
			p.deadNow()
		}
		if t := p.expires(); !t.IsZero() && !now.Before(t) {
			p.proven = false
		}
		if !p.via.Relayed() && !p.listed && !p.proven && now.Sub(p.heard) >= validFor && now.Sub(p.answered) >= validFor {
			m.remove(p)
		}
	}
}

// order ranks the paths that are not chosen, cheapest first, but a relay at the
// head when the chosen path is direct: it fails for other reasons.
func (m *Manager) order(now time.Time) {
	m.ranked = m.ranked[:0]
	for _, p := range m.paths {
		p.rank = unranked
		if p != m.best && p.eligible(now) {
			m.ranked = append(m.ranked, p)
		}
	}
	relayFirst := m.best != nil && !m.best.via.Relayed()
	slices.SortStableFunc(m.ranked, func(a, b *path) int {
		if a.via.Relayed() != b.via.Relayed() && relayFirst {
			if a.via.Relayed() {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.cost(), b.cost())
	})
	for i, p := range m.ranked {
		p.rank = i
	}
}

// cost is what paths are compared by.
func (p *path) cost() time.Duration {
	c := p.rtt.floor()
	if !p.rtt.measured() {
		c = unmeasured
	}
	if p.via.Relayed() {
		c += directMargin
	}
	return c
}

// cheapest returns the cheapest of the ranked paths that want allows, or nil.
func (m *Manager) cheapest(want func(*path) bool) *path {
	var best *path
	for _, p := range m.ranked {
		if want(p) && (best == nil || p.cost() < best.cost()) {
			best = p
		}
	}
	return best
}

// replace chooses when there is no chosen path: what works, or a relay that may.
func (m *Manager) replace(now time.Time) {
	p := m.cheapest(func(p *path) bool { return !now.Before(p.holdUpto) })
	if p == nil {
		p = m.cheapest(func(*path) bool { return true })
	}
	if p == nil {
		for _, o := range m.paths {
			if o.usable() && (p == nil || o.heard.After(p.heard)) {
				p = o
			}
		}
	}
	if p == nil {
		m.lost(now)
		return
	}
	switch {
	case !p.proven:
		m.choose(p, "the first to work", now)
	case m.state == Gone:
		m.choose(p, "the first to answer", now)
	default:
		m.choose(p, "the path before failed", now)
	}
	if now.Sub(p.answered) >= fresh {
		m.ask(now)
	}
}

// lost notes that no path is left and begins to look for one at once.
func (m *Manager) lost(now time.Time) {
	m.best, m.doubtSince = nil, time.Time{}
	if m.state == Gone {
		return
	}
	m.goneAt = now
	for _, p := range m.paths {
		p.tries, p.urgent = 0, p.up && p.via.Relayed()
	}
	m.startRound(now)
}

// ask begins a doubt: every path that may work is challenged, and the first to
// answer has it.
func (m *Manager) ask(now time.Time) {
	m.doubtSince = now
	for _, p := range m.paths {
		if p.up && (p.proven || p.via.Relayed()) {
			p.urgent, p.tries = true, 0
		}
	}
	m.soon(now)
}

// doubt keeps the chosen path, which has owed us something for too long, until
// another one answers.
func (m *Manager) doubt(now time.Time) {
	if m.doubtSince.IsZero() {
		m.ask(now)
	}
	m.firstAnswer(now)
}

// firstAnswer goes to a path that has answered since the doubt began.
func (m *Manager) firstAnswer(now time.Time) {
	p := m.cheapest(func(p *path) bool { return p.answered.After(m.doubtSince) })
	if p == nil {
		return
	}
	if m.best.suspect(now) && m.best.proven {
		m.best.lose(now)
	}
	m.choose(p, "the first to answer", now)
	m.doubtSince = time.Time{}
}

// improve goes to a path that is better by enough. The operator sticks to its own
// choice, the agent to the operator's, so that among equals both use the same:
// then data of one end vouches for the path of the other.
func (m *Manager) improve(now time.Time) {
	anchor := m.best
	if !m.cfg.Operator && m.peer != nil && m.peer.eligible(now) {
		anchor = m.peer
	}
	to := m.best
	for _, p := range m.ranked {
		switch upgrade := m.best.via.Relayed() && !p.via.Relayed(); {
		case p.weight(anchor, upgrade) >= to.weight(anchor, upgrade):
		case now.Before(p.holdUpto):
			m.evalAt = earliest(m.evalAt, p.holdUpto)
		case !upgrade && now.Sub(m.switchedAt) < settle:
			m.evalAt = earliest(m.evalAt, m.switchedAt.Add(settle))
		case now.Sub(p.answered) >= fresh:
			if p.asked.IsZero() {
				p.urgent = true // go there when it has answered
				m.soon(now)
			}
		default:
			to = p
		}
	}
	if to != m.best {
		m.choose(to, reason(m.best, to, anchor), now)
	}
}

// weight is cost, less what an anchor is ahead of others by. It is ahead of no
// direct path while it is a relay: that is settled by directMargin.
func (p *path) weight(anchor *path, upgrade bool) time.Duration {
	if p != anchor || upgrade && p.via.Relayed() {
		return p.cost()
	}
	return p.cost() - max(gainLeast, p.rtt.floor()/gainPart)
}

func reason(from, to, anchor *path) string {
	switch {
	case from.via.Relayed() && !to.via.Relayed():
		return "direct"
	case to == anchor:
		return "the peer uses it"
	}
	return "the shorter round trip"
}

// follow goes to a path that has just answered if the peer's newest data comes
// from there and nothing by the chosen path since: the peer's address, or its
// NAT's, has changed.
func (m *Manager) follow(p *path, now time.Time) {
	b, moved := m.best, p.moved
	p.moved = time.Time{}
	if b == nil || b == p || moved.IsZero() || m.peer != p || b.via.Relayed() || p.via.Relayed() || b.via.Socket != p.via.Socket ||
		later(b.heard, b.answered).After(moved.Add(b.rtt.smooth/2)) { // half a round trip: stragglers
		return
	}
	p.fits = p.fits || b.fits // the same way but for a number; if not, data will tell
	m.choose(p, "the peer's address changed", now)
	m.roamAt, m.doubtSince = time.Time{}, time.Time{}
}

func (m *Manager) choose(p *path, why string, now time.Time) {
	if p != m.best {
		m.best, m.why, m.switchedAt = p, why, now
		m.order(now)
		m.soon(now)
	}
}

// settleState sets what Best returns, and when it must be looked at again.
func (m *Manager) settleState(now time.Time) {
	m.firstVia, m.secondVia, m.state = Via{}, Via{}, Gone
	b := m.best
	if b == nil {
		return
	}
	m.firstVia, m.state = b.via, Good
	if s := m.reserve(); s != nil {
		m.secondVia = s.via
	}
	roaming := !m.roamAt.IsZero() && b.answered.Before(m.roamAt) && now.Before(m.roamAt.Add(b.doubt))
	if !m.doubtSince.IsZero() || !b.eligible(now) || roaming {
		m.state = Doubtful
	}
	if roaming {
		m.evalAt = earliest(m.evalAt, m.roamAt.Add(b.doubt))
	}
	if t := b.suspectAt(); now.Before(t) {
		m.evalAt = earliest(m.evalAt, t)
	}
	m.evalAt = earliest(m.evalAt, b.deadAt())
}

// reserve is the path that data goes by as well while the chosen one is in doubt.
func (m *Manager) reserve() *path {
	if len(m.ranked) > 0 {
		return m.ranked[0]
	}
	for _, p := range m.paths {
		if p != m.best && p.usable() {
			return p
		}
	}
	return nil
}
