// Package metrics counts what a server does, under names of our own: never under
// anything that a peer chose, of which there would be no end.
package metrics

import (
	"maps"
	"sync"
)

// Counters count since the start of the process. Their number is bounded by our code
// and by the closed set of refusal codes. The zero value is empty; all methods are
// safe for concurrent use.
type Counters struct {
	mu sync.Mutex // guards n
	n  map[string]uint64
}

// Count adds one to the counter called name.
func (c *Counters) Count(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]uint64{}
	}
	c.n[name]++
}

// Snapshot returns a copy, which is the caller's.
func (c *Counters) Snapshot() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		return map[string]uint64{}
	}
	return maps.Clone(c.n)
}
