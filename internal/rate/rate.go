// Package rate counts how often somebody may do something, with a bucket of tokens
// for each key: a source network, an operator, an agent; and how much of it at once
// (Places, Room). Memory is bounded, and a clock that goes back gives nothing.
package rate

import (
	"net/netip"
	"sync"
	"time"
)

// Rate is a token bucket's filling: PerSecond tokens, at most Burst saved.
type Rate struct {
	PerSecond float64
	Burst     float64
}

// Limits of one limiter; our choice.
const (
	maxBuckets  = 65536       // distinct keys
	bucketSweep = time.Minute // between two clean-ups
)

// Limiter holds one token bucket for each key. Its memory is bounded: a bucket
// that is full again is forgotten, and when too many are in use at once newcomers
// are refused, which hurts only newcomers.
type Limiter[K comparable] struct {
	rate Rate

	mu      sync.Mutex // guards the rest
	buckets map[K]*Bucket
	swept   time.Time
}

// Bucket is the count of one key. It is not safe for concurrent use.
type Bucket struct {
	tokens float64
	at     time.Time
}

// NewBucket makes a full one.
func NewBucket(r Rate, now time.Time) *Bucket { return &Bucket{tokens: r.Burst, at: now} }

// New makes a limiter of one rate for all keys. It is safe for concurrent use.
func New[K comparable](r Rate) *Limiter[K] {
	return &Limiter[K]{rate: r, buckets: map[K]*Bucket{}}
}

// Allow takes one token of k's bucket and reports whether there was one.
func (l *Limiter[K]) Allow(k K, now time.Time) bool {
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
		b = NewBucket(l.rate, now)
		l.buckets[k] = b
	}
	return b.Take(l.rate, now)
}

// Spent reports whether k's bucket is empty. It takes nothing and remembers nobody, so
// it may be asked about what a stranger names: a table that strangers could fill would
// refuse newcomers.
func (l *Limiter[K]) Spent(k K, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[k]
	return b != nil && b.filled(l.rate, now) < 1
}

func (l *Limiter[K]) sweepLocked(now time.Time) {
	l.swept = now
	for k, b := range l.buckets {
		if b.filled(l.rate, now) >= l.rate.Burst {
			delete(l.buckets, k)
		}
	}
}

// Take takes a token and reports whether there was one.
func (b *Bucket) Take(r Rate, now time.Time) bool {
	b.tokens = b.filled(r, now)
	if now.After(b.at) {
		b.at = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// filled is what b holds by now. A clock that went back gives nothing.
func (b *Bucket) filled(r Rate, now time.Time) float64 {
	return min(r.Burst, b.tokens+max(0, now.Sub(b.at).Seconds())*r.PerSecond)
}

// Source is what an unauthenticated caller is counted by: an IPv4 address, or
// the /56 that one customer usually has of IPv6.
func Source(remote string) netip.Prefix {
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
