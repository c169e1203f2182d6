package relay

import (
	"net/netip"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/relay/guard"
)

// Bounds of the memory about sources. Our choice.
const (
	maxSources    = 32 << 10        // per generation; two are kept
	sourceLife    = 2 * time.Minute // a source not seen for so long is forgotten
	burstSeconds  = 4               // of its rate that a source may use at once
	maxCredit     = 4 << 10         // bytes of answers a source can save up
	creditPercent = 150             // of the bytes received may be answered (protocol 6.3)
	keeperSeconds = 5               // in which an allocation earns what a source earns in one
)

// sources limits the control messages of each network, before anything is
// parsed, and the bytes of answers to each that has not proved its address.
//
// Behind one address may be a whole site, and any machine there can use up what the
// address has. So whoever has an allocation is counted by its 5-tuple alone, from an
// account of its own and a total of its own: what strangers send, from the same
// address or from invented ones, keeps nobody from refreshing. A place earns less
// than a source, so that all places of one site (Limits.AllocationsPerSource) leave
// the total to others, but can save up as much, for the data that goes in Send
// indications before the channel is bound.
//
// Answers: a spoofed flood must not make the relay send a victim more than one
// and a half times what the attacker sent. A source earns credit with what it
// sends; an answer is sent only if the credit covers it. A client that pads its
// first request (guard.PadRequest) is answered at once, another one after its
// retransmissions.
type sources struct {
	rate, total float64 // messages per second

	mu        sync.Mutex // guards everything below
	young     map[netip.Prefix]*source
	old       map[netip.Prefix]*source
	turned    time.Time // when young became young
	strangers bucket    // of all sources
	keepers   bucket    // of all allocations
}

// bucket counts control messages. Its lock is that of the sources.
type bucket struct {
	tokens float64
	last   time.Time
}

func (b *bucket) take(rate, burst float64, now time.Time) bool {
	return refill(&b.tokens, &b.last, rate, burst, now)
}

type source struct {
	bucket
	credit int // bytes
}

func newSources(l Limits) *sources {
	return &sources{
		rate: float64(l.ControlPerSecond), total: float64(l.ControlTotal),
		young:     make(map[netip.Prefix]*source),
		strangers: bucket{tokens: float64(l.ControlTotal)}, keepers: bucket{tokens: float64(l.ControlTotal)},
	}
}

// takeOf asks for one control message of an allocation.
func (s *sources) takeOf(a *allocation, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	burst := s.rate * burstSeconds
	if a.control.last.IsZero() {
		a.control = bucket{burst, now}
	}
	return a.control.take(s.rate/keeperSeconds, burst, now) && s.keepers.take(s.total, s.total, now)
}

// take asks for one control message of n bytes from addr, which has no allocation,
// and books its credit.
func (s *sources) take(addr netip.Addr, n int, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	src := s.findLocked(guard.SourceKey(addr), now)
	// The source first: a flood from one must not eat everybody's share.
	if !src.take(s.rate, s.rate*burstSeconds, now) || !s.strangers.take(s.total, s.total, now) {
		return false
	}
	src.credit = min(maxCredit, src.credit+n*creditPercent/100)
	return true
}

// spend asks to send an answer of n bytes to addr.
func (s *sources) spend(addr netip.Addr, n int, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	src := s.findLocked(guard.SourceKey(addr), now)
	if src.credit < n {
		return false
	}
	src.credit -= n
	return true
}

// refill adds what the bucket has earned since last and takes one token.
func refill(tokens *float64, last *time.Time, rate, burst float64, now time.Time) bool {
	if d := now.Sub(*last); d > 0 {
		*tokens = min(burst, *tokens+rate*d.Seconds())
		*last = now
	}
	if *tokens < 1 {
		return false
	}
	*tokens--
	return true
}

// findLocked keeps two generations, so that memory stays bounded under a flood
// of invented sources without a scan. A forgotten source starts with a full
// bucket, which the total rate bounds, and without credit.
func (s *sources) findLocked(key netip.Prefix, now time.Time) *source {
	if src, ok := s.young[key]; ok {
		return src
	}
	if len(s.young) >= maxSources || now.Sub(s.turned) > sourceLife {
		s.old, s.young, s.turned = s.young, make(map[netip.Prefix]*source), now
	}
	src, ok := s.old[key]
	if !ok {
		src = &source{bucket: bucket{s.rate * burstSeconds, now}}
	}
	s.young[key] = src
	return src
}
