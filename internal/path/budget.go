package path

import "time"

// What may be sent to addresses that have not answered yet; our choice. One
// challenge is a datagram of 96 bytes, 124 with the headers of IPv4 and UDP.
const (
	// amplification bounds what an address gets that is known only because
	// datagrams came from there, in bytes sent per byte received; protocol 2.7.
	amplification = 3
	// candidateBurst challenges go to one announced address; one more is earned
	// every candidateEvery. The first round needs roundTries.
	candidateBurst = 16
	candidateEvery = 12 * time.Second
	// allBurst and allEvery bound all announced addresses together, whatever lists
	// the peer announces one after the other: 124 bytes x 4/s is 500 bytes/s, less
	// than anybody gains from aiming us at a victim. Two full rounds fit the burst.
	allBurst = 2 * MaxCandidates * roundTries
	allEvery = 250 * time.Millisecond
	// perHost is how many announced addresses may differ only in the port, or a
	// list would be a port scan.
	perHost = 4
	// roundBurst full rounds may be asked for at once, by announcing other
	// candidates, and one more every roundEvery.
	roundBurst = 4
	roundEvery = 10 * time.Second
)

// bucket is a token bucket. The zero value is full.
type bucket struct {
	used float64
	at   time.Time
}

// take takes one token unless burst are in use; one comes back every period.
func (b *bucket) take(now time.Time, burst int, period time.Duration) bool {
	if !b.at.IsZero() {
		b.used = max(0, b.used-float64(now.Sub(b.at))/float64(period))
	}
	b.at = now
	if b.used+1 > float64(burst) {
		return false
	}
	b.used++
	return true
}

// afford reports whether a datagram of size bytes may go out by p, and books it.
// Relays forward to the peer alone, and a direct path that has answered leads to
// somebody who holds the session's keys; both are free, the path also when it has
// been silent since, as long as an answer vouches for it: or a network that is lost
// again and again would be noticed too late when it is back.
func (m *Manager) afford(p *path, size int, now time.Time) bool {
	if p.via.Relayed() || p.proven || p.known && now.Sub(later(p.heard, p.answered)) < validFor {
		return true
	}
	if p.spent+uint64(size) <= amplification*p.earned {
		p.spent += uint64(size)
		return true
	}
	if !p.listed && !p.known {
		return false
	}
	if !p.budget.take(now, candidateBurst, candidateEvery) {
		return false
	}
	if !m.budget.take(now, allBurst, allEvery) {
		p.budget.used-- // not spent
		return false
	}
	return true
}
