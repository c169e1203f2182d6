package rate

import "sync"

// Places bounds what each key has under way at once. It holds a key only while
// something is, so its memory is bounded by what its callers bound: connections. It
// is safe for concurrent use.
type Places[K comparable] struct {
	each int

	mu    sync.Mutex // guards taken
	taken map[K]int
}

// NewPlaces makes places of which each key has so many.
func NewPlaces[K comparable](each int) *Places[K] {
	return &Places[K]{each: each, taken: map[K]int{}}
}

// Enter takes one of k's places and reports whether there was one. Whoever got one
// calls leave once.
func (p *Places[K]) Enter(k K) (leave func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken[k] >= p.each {
		return nil, false
	}
	p.taken[k]++
	return func() { p.leave(k) }, true
}

func (p *Places[K]) leave(k K) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken[k]--; p.taken[k] == 0 {
		delete(p.taken, k)
	}
}
