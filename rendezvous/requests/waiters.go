package requests

import (
	"sync"

	"github.com/tucdesk/tucdesk/crypto/key"
)

// waiters wakes calls that wait for a request to change. It holds an entry only
// while somebody waits.
type waiters struct {
	mu    sync.Mutex // guards calls
	calls map[key.Hash]map[chan struct{}]struct{}
}

func (w *waiters) wait(hash key.Hash) (changed <-chan struct{}, done func()) {
	ch := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls == nil {
		w.calls = map[key.Hash]map[chan struct{}]struct{}{}
	}
	if w.calls[hash] == nil {
		w.calls[hash] = map[chan struct{}]struct{}{}
	}
	w.calls[hash][ch] = struct{}{}
	return ch, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if delete(w.calls[hash], ch); len(w.calls[hash]) == 0 {
			delete(w.calls, hash)
		}
	}
}

func (w *waiters) wake(hash key.Hash) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.calls[hash] {
		select {
		case ch <- struct{}{}:
		default: // it is awake already
		}
	}
}

// WaitingForTest is how many requests somebody waits for.
func (q *Queue) WaitingForTest() int {
	q.waiting.mu.Lock()
	defer q.waiting.mu.Unlock()
	return len(q.waiting.calls)
}
