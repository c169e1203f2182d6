package path

import (
	"net/netip"
	"time"
)

// When a path is doubted and given up; our choice.
const (
	// doubtLeast is the shortest silence that means anything: the peer's transport
	// may take 25 ms to acknowledge, its process may have to wait for a processor.
	doubtLeast = 150 * time.Millisecond
	// doubtMargin is added to three round trips.
	doubtMargin = 50 * time.Millisecond
	// doubtMost bounds what a round trip that was measured badly can cost, but for a
	// path whose last answer took longer than half of it: that gets twice that time.
	doubtMost = 3 * time.Second
	// doubtUnknown stands for three round trips of a path that was not measured.
	doubtUnknown = time.Second
	// deadAfter is the silence after which a path has to answer a challenge again
	// before it is used; deadUnknown is that of a relay on which nobody answered yet,
	// since the first round trip may be one of ten seconds.
	deadAfter   = 3 * time.Second
	deadUnknown = 20 * time.Second
	// validFor is how long an answer, or anything heard, vouches for a direct
	// path: the address may belong to somebody else by then.
	validFor = 90 * time.Second
)

// Flap damping; our choice. A path that was left because it failed is not chosen
// again, while another works, for holdFirst, twice that the next time and so on.
// After calm without a failure it begins anew.
const (
	holdFirst = time.Second
	holdMost  = 64 * time.Second
	calm      = 2 * time.Minute
)

// outstanding challenges are remembered per path, the youngest ones, for
// tokenLife: what comes later tells nothing about the path as it is. A path of which
// nothing is known is asked once a second, so that many bridge a round trip of
// tokenLife.
const (
	outstanding = 24
	tokenLife   = 20 * time.Second
)

// path is what is known about one Via.
type path struct {
	via      Via
	kind     Kind           // zero for relays
	observed netip.AddrPort // where the peer sees us on this path, from its last answer

	up     bool // relays: the allocation works; direct: a socket exists
	proven bool // the peer answered here and was not silent since
	dead   bool // silent for deadAfter; cleared by an answer
	known  bool // was proven once in its life
	listed bool // in the peer's list
	fits   bool // a challenge as long as a datagram of data was answered; see Manager.full
	urgent bool // a challenge is wanted at once
	pmtu   pmtu
	rank   int // place among the paths that are not chosen, from 0

	heard, answered time.Time
	moved           time.Time // when the newest datagram came from here, unproven; zero is no

	// Since when the path owes us something; zero is not at all.
	unheard time.Time // first datagram that went out since something was heard
	asked   time.Time // first challenge that went out since one was answered

	tokens    [outstanding]challenge
	lastAsked time.Time
	tries     int // challenges since the last answer or the begin of the round

	doubt time.Duration // silence from which the path is doubted
	rtt   rtt

	in, out       uint64 // bytes of authentic datagrams
	sampledAt     uint64 // Manager.busyBytes at the last answer
	earned, spent uint64 // bytes in and out while not proven: the 3x rule
	budget        bucket

	challenges, unanswered uint64 // that went out; those of them that a younger one overtook

	losses   int
	lostAt   time.Time
	holdUpto time.Time
}

type challenge struct {
	token uint64
	sent  time.Time // zero is no challenge
	full  bool      // as long as a datagram of data
}

// suspectAt is when p will have owed us something for too long; zero is never.
func (p *path) suspectAt() time.Time {
	t := earliest(p.unheard, p.asked)
	if t.IsZero() {
		return t
	}
	return t.Add(p.doubt)
}

func (p *path) suspect(now time.Time) bool {
	t := p.suspectAt()
	return !t.IsZero() && !now.Before(t)
}

// deadAt is when p will have been silent for so long that it must be checked
// before it is used again; zero is never.
func (p *path) deadAt() time.Time {
	t, silence := earliest(p.unheard, p.asked), max(deadAfter, p.doubt+min(p.doubt, doubtMost))
	if p.via.Relayed() && !p.known {
		t, silence = p.unheard, deadUnknown // a peer that speaks but knows no challenges is not dead
	}
	if t.IsZero() || p.dead {
		return time.Time{}
	}
	return t.Add(silence)
}

// expires is when an unused direct path must be checked again; zero is never.
func (p *path) expires() time.Time {
	if !p.proven || p.via.Relayed() {
		return time.Time{}
	}
	return later(p.answered, p.heard).Add(validFor)
}

// eligible reports whether data may go by p alone.
func (p *path) eligible(now time.Time) bool { return p.up && p.proven && p.fits && !p.suspect(now) }

// usable reports whether data may go by p when there is nothing better: a relay
// that nobody answered on yet, too, since it can only lead to the peer.
func (p *path) usable() bool { return p.up && !p.dead && (p.proven && p.fits || p.via.Relayed()) }

// remember notes a challenge that goes out.
func (p *path) remember(token uint64, full bool, now time.Time) {
	oldest := 0
	for i := range p.tokens {
		if p.tokens[i].sent.Before(p.tokens[oldest].sent) {
			oldest = i
		}
	}
	p.tokens[oldest] = challenge{token, now, full}
	p.lastAsked, p.urgent = now, false
	p.tries++
	p.challenges++
	p.asked = first(p.asked, now)
	p.unheard = first(p.unheard, now)
}

// find returns the challenge of token that went out by p.
func (p *path) find(token uint64, now time.Time) (c challenge, ok bool) {
	for _, c := range p.tokens {
		if c.token == token && !c.sent.IsZero() && now.Sub(c.sent) < tokenLife {
			return c, true
		}
	}
	return challenge{}, false
}

// deadNow gives p up until it answers.
func (p *path) deadNow() {
	p.proven, p.fits, p.dead = false, false, true
	p.pmtu.fail(p.lastAsked)
	p.unheard, p.asked, p.moved = time.Time{}, time.Time{}, time.Time{}
}

// answer notes that the peer answered a challenge of p: it can be reached there,
// and if the challenge was full, by data as well. If not, that is asked next. Older
// challenges that were not answered are taken for lost.
func (p *path) answer(c challenge, now time.Time) {
	for _, o := range p.tokens {
		if !o.sent.IsZero() && o.sent.Before(c.sent) {
			p.unanswered++
		}
	}
	p.proven, p.dead, p.known = true, false, true
	p.fits = p.fits || c.full
	p.urgent = !p.fits
	p.answered, p.asked, p.unheard = now, time.Time{}, time.Time{}
	p.tries, p.earned, p.spent = 0, 0, 0
	p.tokens = [outstanding]challenge{}
}

// distrust makes p prove itself anew. What was heard or answered lately counts
// until the path is doubted; a relay leads to the peer in any case. What it carries is
// asked anew: the same address may be reached by another network now.
func (p *path) distrust(now time.Time) {
	p.pmtu.forget(now)
	if now.Sub(later(p.heard, p.answered)) >= deadAfter {
		p.proven = false
	}
	p.dead, p.urgent, p.tries = false, true, 0
	p.unheard, p.asked = time.Time{}, time.Time{}
	p.tokens = [outstanding]challenge{}
}

// lose holds p back for a while because it failed in use.
func (p *path) lose(now time.Time) {
	if now.Sub(p.lostAt) > calm {
		p.losses = 0
	}
	p.lostAt, p.fits = now, false
	p.pmtu.fail(now)
	p.holdUpto = now.Add(min(holdFirst<<min(p.losses, 10), holdMost))
	p.losses++
}

// sample takes the round trip of a challenge that was answered on its own path.
func (p *path) sample(d time.Duration, now time.Time) {
	p.rtt.sample(d, now)
	p.doubt = min(max(doubtLeast, 3*p.rtt.smooth+doubtMargin, p.rtt.smooth+4*p.rtt.variation+doubtMargin), max(doubtMost, 2*d))
}

// first returns t unless it is zero.
func first(t, now time.Time) time.Time {
	if t.IsZero() {
		return now
	}
	return t
}

// earliest returns the earlier time that is not zero, or zero.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
