package link

import (
	"context"
	"slices"
	"sync"
)

// gate lets the ways of a race make their allocation, one at a time: it is made
// by a signed request, and there can be one only. It is shut while there is no
// credential to sign with. Then the best kind of all that wait goes first; later
// on whoever comes first, since a better kind than one that waits would have come
// before it.
type gate struct {
	mu      sync.Mutex
	open    bool      // guarded by mu; there is a credential
	busy    bool      // guarded by mu; somebody is behind it
	waiting []*ticket // guarded by mu
}

// ticket is one way before the gate.
type ticket struct {
	rank int           // lower goes first
	turn chan struct{} // closed when it may pass
}

// pass waits for this way's turn. Whoever has passed calls leave when it has not
// got its allocation.
func (g *gate) pass(ctx context.Context, rank int) error {
	t := &ticket{rank, make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, t)
	g.nextLocked()
	g.mu.Unlock()
	select {
	case <-t.turn:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.waiting, t); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	} else { // it became our turn in the same moment
		g.busy = false
		g.nextLocked()
	}
	return ctx.Err()
}

func (g *gate) nextLocked() {
	if !g.open || g.busy || len(g.waiting) == 0 {
		return
	}
	best := slices.MinFunc(g.waiting, func(a, b *ticket) int { return a.rank - b.rank })
	g.waiting = slices.DeleteFunc(g.waiting, func(t *ticket) bool { return t == best })
	g.busy = true
	close(best.turn)
}

// leave lets the next one pass.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy = false
	g.nextLocked()
}

// unlock says that there is a credential.
func (g *gate) unlock() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = true
	g.nextLocked()
}

// reached reports whether some way has got as far as the gate.
func (g *gate) reached() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.busy || len(g.waiting) > 0
}
