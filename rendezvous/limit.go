package rendezvous

import (
	"net/netip"
	"sync"
	"time"
)

// rate is a token bucket's filling: perSecond tokens, at most burst saved.
type rate struct {
	perSecond float64
	burst     float64
}

// Rates; our choice, never written to. An operator who scripts all day stays below
// its own; one who floods is refused and takes nothing from others (attack B18).
var (
	rateOperator = rate{perSecond: 20, burst: 100}      // calls per operator key
	rateSessions = rate{perSecond: 2, burst: 20}        // sessions opened per operator key
	rateSource   = rate{perSecond: 5, burst: 60}        // logins, set-ups and channels per source network
	rateLarge    = rate{perSecond: 0.1, burst: 3}       // large bodies without a token per source network
	rateOffers   = rate{perSecond: 0.1, burst: 10}      // rosters without a login per source network and team
	rateFrames   = rate{perSecond: 20, burst: 200}      // frames per control channel
	rateArrivals = rate{perSecond: 0.1, burst: 20}      // registrations per agent key
	rateAlarms   = rate{perSecond: 1.0 / 600, burst: 5} // audit entries for displaced channels per agent key
	rateRefused  = rate{perSecond: 0.2, burst: 20}      // audit entries for refusals per operator key
)

const (
	maxBuckets  = 65536       // distinct keys of one limiter
	bucketSweep = time.Minute // between two clean-ups
)

// limiter holds one token bucket for each key. Its memory is bounded: a bucket
// that is full again is forgotten, and when too many are in use at once newcomers
// are refused, which hurts only newcomers.
type limiter[K comparable] struct {
	rate rate

	mu      sync.Mutex // guards the rest
	buckets map[K]*bucket
	swept   time.Time
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newLimiter[K comparable](r rate) *limiter[K] {
	return &limiter[K]{rate: r, buckets: map[K]*bucket{}}
}

// allow takes one token of k's bucket and reports whether there was one.
func (l *limiter[K]) allow(k K, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.swept) > bucketSweep {
		l.sweepLocked(now)
	}
	b := l.buckets[k]
	if b == nil {
		if len(l.buckets) >= maxBuckets {
			return false
		}
		b = &bucket{tokens: l.rate.burst, at: now}
		l.buckets[k] = b
	}
	return b.take(l.rate, now)
}

func (l *limiter[K]) sweepLocked(now time.Time) {
	l.swept = now
	for k, b := range l.buckets {
		if b.tokens+now.Sub(b.at).Seconds()*l.rate.perSecond >= l.rate.burst {
			delete(l.buckets, k)
		}
	}
}

func (b *bucket) take(r rate, now time.Time) bool {
	if passed := now.Sub(b.at).Seconds(); passed > 0 { // a clock that went back gives nothing
		b.tokens = min(r.burst, b.tokens+passed*r.perSecond)
		b.at = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// sourceOf is what an unauthenticated caller is counted by: an IPv4 address, or
// the /56 that one customer usually has of IPv6.
func sourceOf(remote string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	a := ap.Addr().Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 56
	}
	p, _ := a.Prefix(bits)
	return p
}
