package path

import (
	"net/netip"
	"slices"
	"time"
)

// Frame takes a path frame of a datagram that came by v and opened. Frames of
// other types are ignored. An error is the peer's fault and ends the session:
// refusal.ProtocolError.
func (m *Manager) Frame(v Via, typ byte, body []byte, now time.Time) error {
	switch typ {
	case Challenge:
		return m.gotChallenge(v, body, now)
	case Response:
		return m.gotResponse(v, body, now)
	case Candidates:
		return m.gotList(v, body, now)
	case CandidatesSeen:
		sequence, err := parseSeen(body)
		if err == nil && sequence == m.local.sequence {
			m.seen = true
		}
		return err
	}
	return nil
}

// gotChallenge answers on the path that the challenge came by, and checks that
// path in turn. From an address that is unknown because something newer overtook
// the challenge, which under load is the rule, a challenge is enough to begin a
// check: nothing is switched by that, and what a copy that somebody held back and
// sent from a victim's address can cost the victim is three times its bytes.
func (m *Manager) gotChallenge(v Via, body []byte, now time.Time) error {
	token, err := parseChallenge(body)
	if err != nil {
		return err
	}
	p := m.find(v)
	if p == nil {
		if v != m.strange || v == (Via{}) {
			return nil
		}
		p = m.learn(v)
		p.heard, p.in, p.earned = now, uint64(m.strangeBytes), uint64(m.strangeBytes)
		m.strange = Via{}
		m.heardUnproven(p, false, now)
	}
	r := response{token: token}
	if !v.Relayed() {
		r.observed = v.Addr
	}
	m.reply(p, Response, r.append(), now)
	return nil
}

// reply queues an answer that goes back where the question came from.
func (m *Manager) reply(p *path, typ byte, body []byte, now time.Time) {
	if len(m.replies) >= maxReplies || !m.afford(p, datagramSize(len(body)), now) {
		return
	}
	p.out += uint64(datagramSize(len(body)))
	m.replies = append(m.replies, Probe{Via: p.via, Type: typ, Body: body})
	m.soon(now)
}

// gotResponse takes an answer by whatever path it came: the token shows that the
// peer got the challenge, and so that the path it was sent by leads there.
// Demanding the same path would let somebody who copies datagrams to us from
// another address, faster than they come themselves, make every path look dead.
func (m *Manager) gotResponse(v Via, body []byte, now time.Time) error {
	r, err := parseResponse(body)
	if err != nil {
		return err
	}
	for _, p := range m.paths {
		if p.pmtu.answered(r.token, p.rtt.smooth, now) {
			return nil
		}
		c, ok := p.find(r.token, now)
		if !ok {
			continue
		}
		p.answer(c, now)
		m.answeredAt = first(m.answeredAt, now)
		p.sampledAt = m.busyBytes
		if v == p.via {
			p.sample(now.Sub(c.sent), now)
			if p == m.best || v == m.askedVia {
				m.trips, m.trip = m.trips+1, now.Sub(c.sent)
			}
			if r.observed.Port() != 0 {
				p.observed = r.observed
			}
		}
		m.follow(p, now)
		m.touch(now)
		return nil
	}
	return nil // late, or of a path that is gone
}

// gotList takes the peer's addresses. The list of the sequence that is in force
// means that the peer looks for a path now, and that this end should, too: a NAT
// lets a challenge in only shortly after one went out.
func (m *Manager) gotList(v Via, body []byte, now time.Time) error {
	l, err := parseList(body)
	if err != nil {
		return err
	}
	if l.sequence < m.theirs {
		return nil
	}
	if p := m.find(v); p != nil {
		m.reply(p, CandidatesSeen, appendSeen(l.sequence), now)
	}
	if l.sequence == m.theirs {
		m.call(now)
		return nil
	}
	m.theirs = l.sequence
	m.setListed(l.candidates)
	if m.rounds.take(now, roundBurst, roundEvery) {
		m.startRound(now)
	}
	m.touch(now)
	return nil
}

// setListed replaces the announced paths. What was announced no longer and never
// answered is forgotten.
func (m *Manager) setListed(candidates []Candidate) {
	for _, p := range m.paths {
		p.listed = false
	}
	hosts := map[netip.Addr]int{}
	for _, c := range candidates {
		if !m.allowed(c.Addr) || hosts[c.Addr.Addr()] >= perHost {
			continue
		}
		hosts[c.Addr.Addr()]++
		v := Via{Addr: c.Addr}
		if c.Addr.Addr().Is6() {
			v.Socket = 1
		}
		p := m.find(v)
		if p == nil {
			p = m.add(v, c.Kind)
		}
		p.kind, p.listed = c.Kind, true
	}
	for _, p := range slices.Clone(m.paths) {
		if !p.via.Relayed() && !p.listed && !p.known && p.earned == 0 {
			m.remove(p)
		}
	}
	m.evict(maxLearned)
}

// datagramSize is the length of the sealed datagram that carries one frame with a
// body of n bytes: protocol 2.7.
func datagramSize(n int) int {
	const frameHead, padTo, overhead = 3, 64, 32
	return overhead + (frameHead+n+padTo-1)/padTo*padTo
}
