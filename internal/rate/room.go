package rate

import "sync"

// Room bounds how much, in bytes, each key holds at once, and all of them together. It
// holds a key only while that has something, so its memory is bounded by its own size.
// It is safe for concurrent use.
type Room[K comparable] struct {
	all, each int64

	mu    sync.Mutex // guards the rest
	taken int64
	by    map[K]int64
}

// NewRoom makes room for so many bytes in all and of each key.
func NewRoom[K comparable](all, each int64) *Room[K] {
	return &Room[K]{all: all, each: each, by: map[K]int64{}}
}

// Enter takes n bytes, above 0, for k and reports whether they were free. Whoever got
// them calls leave once.
func (r *Room[K]) Enter(k K, n int64) (leave func(), ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n <= 0 || n > r.each-r.by[k] || n > r.all-r.taken {
		return nil, false
	}
	r.by[k] += n
	r.taken += n
	return func() { r.leave(k, n) }, true
}

// Taken is how many bytes are held now.
func (r *Room[K]) Taken() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}

func (r *Room[K]) leave(k K, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken -= n
	if r.by[k] -= n; r.by[k] == 0 {
		delete(r.by, k)
	}
}
