package agent

import (
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Limits on what operators may ask, our choice: enough for scripts that open one
// session after the other, too little to keep a small machine busy (attack H8).
const (
	openRate   = 10   // OPENs of one operator in a second, on average
	openBurst  = 40   // and at once
	maxPending = 32   // OPENs that are being judged at the same time, of all operators
	maxKnown   = 4096 // operators and waiting requests that are remembered
)

// rates is a token bucket for each operator. Only verified keys get one.
type rates struct {
	mu sync.Mutex
	m  map[key.ID]bucket // guarded by mu
}

type bucket struct {
	tokens float64
	at     time.Time
}

// take spends one token or refuses with RateLimited.
func (r *rates) take(kid key.ID, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m == nil || len(r.m) >= maxKnown {
		r.m = make(map[key.ID]bucket) // full again for everybody, which costs little and needs no order
	}
	b, ok := r.m[kid]
	if !ok {
		b = bucket{tokens: openBurst, at: now}
	}
	taken := b.take(now, openRate, openBurst)
	r.m[kid] = b
	if !taken {
		return refusal.New(refusal.RateLimited, "more than %d requests in a second", openRate)
	}
	return nil
}

// take spends one token, if there is one, after adding those of the time passed.
func (b *bucket) take(now time.Time, rate, burst float64) bool {
	if d := now.Sub(b.at); d > 0 {
		b.tokens = min(burst, b.tokens+rate*d.Seconds())
		b.at = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// waitingList remembers requests that were refused only for lack of approvals,
// until they expire: each may be offered once more, with what was missing.
type waitingList struct {
	mu    sync.Mutex
	m     map[key.Hash]time.Time // guarded by mu; when each expires
	swept time.Time              // guarded by mu; when those that had expired were last looked for
}

func (w *waitingList) add(hash key.Hash, expires, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m == nil {
		w.m = make(map[key.Hash]time.Time)
	}
	if len(w.m) >= maxKnown && now.Sub(w.swept) >= time.Second { // not for each of a flood
		w.swept = now
		for h, t := range w.m {
			if !now.Before(t) {
				delete(w.m, h)
			}
		}
	}
	if len(w.m) < maxKnown {
		w.m[hash] = expires
	}
}

// take reports whether hash was waiting, and forgets it.
func (w *waitingList) take(hash key.Hash, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	expires, ok := w.m[hash]
	delete(w.m, hash)
	return ok && now.Before(expires)
}
