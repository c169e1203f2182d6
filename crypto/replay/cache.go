package replay

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Cache remembers identifiers that may be used once: session ids and the jti of
// requests, proofs, approvals and registrations. Each principal (a key id, as a
// rule) has its own partition, so one that floods the cache pushes out and locks
// out only itself. It is safe for concurrent use.
type Cache struct {
	perPrincipal int // identifiers kept for each principal

	mu         sync.Mutex
	principals *simplelru.LRU[string, *partition] // guarded by mu
	floor      time.Time                          // guarded by mu; where a partition that is made anew begins
}

// partition is what is known of one principal; guarded by Cache.mu.
type partition struct {
	seen   *simplelru.LRU[[16]byte, entry]
	floor  time.Time // anything issued at or before is refused
	newest time.Time // latest issue time ever accepted
	until  time.Time // latest expiry ever accepted: after it there is nothing left to replay
}

type entry struct{ issued, expires time.Time }

// NewCache makes a cache for at most principals partitions of at most
// perPrincipal identifiers, both at least 1. Full, it takes about 200 bytes for
// each identifier.
func NewCache(perPrincipal, principals int) *Cache {
	return &Cache{perPrincipal: perPrincipal, principals: newLRU[string, *partition](principals)}
}

func newLRU[K comparable, V any](size int) *simplelru.LRU[K, V] {
	lru, err := simplelru.NewLRU[K, V](size, nil)
	if err != nil {
		panic("replay: internal error: cache of no size")
	}
	return lru
}

// Use takes id for principal, once. issued and expires come from the verified
// statement; expires includes the clock skew its reader allows, because until
// then a copy would still be taken for fresh.
//
// Refusals: Replay when id was used; ReplayPressure when the cache had to forget
// unexpired identifiers issued then or later, so that nobody can tell any more;
// Expired when expires has passed, as such an id could not be remembered.
func (c *Cache) Use(principal string, id [16]byte, issued, expires, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !now.Before(expires) {
		return refusal.New(refusal.Expired, "identifier is past its time")
	}
	p := c.partitionLocked(principal, now)
	if p.seen.Contains(id) {
		return refusal.New(refusal.Replay, "identifier was used before")
	}
	if !issued.After(p.floor) {
		return refusal.New(refusal.ReplayPressure, "too many unexpired identifiers; sign a new one")
	}
	p.makeRoom(c.perPrincipal, now)
	p.seen.Add(id, entry{issued, expires})
	p.newest, p.until = later(p.newest, issued), later(p.until, expires)
	return nil
}

// partitionLocked finds or makes the partition. Forgetting a principal is like
// forgetting identifiers: whoever comes back starts above what was forgotten.
func (c *Cache) partitionLocked(principal string, now time.Time) *partition {
	if p, ok := c.principals.Get(principal); ok {
		return p
	}
	_, oldest, _ := c.principals.GetOldest()
	p := &partition{seen: newLRU[[16]byte, entry](c.perPrincipal)}
	if c.principals.Add(principal, p) && now.Before(oldest.until) {
		c.floor = later(c.floor, oldest.newest)
	}
	p.floor = c.floor
	return p
}

// makeRoom drops the oldest identifiers, expired ones for free, a live one at
// the price of the floor.
func (p *partition) makeRoom(size int, now time.Time) {
	for {
		id, e, ok := p.seen.GetOldest()
		if !ok || (now.Before(e.expires) && p.seen.Len() < size) {
			return
		}
		if now.Before(e.expires) {
			p.floor = later(p.floor, e.issued)
		}
		p.seen.Remove(id)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
