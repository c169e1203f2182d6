package judge

import (
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
)

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
