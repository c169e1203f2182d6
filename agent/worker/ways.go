package worker

import (
	"sync"

	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/internal/link"
)

// maxTold is how many ways are told at most; our choice, below what the supervisor
// bears with.
const maxTold = 32

// ways remembers, as long as the process, what the link has found out, begins with
// what the supervisor knows of the network that the session begins in, and tells it
// what is new there: this process has no right to write it down.
type ways struct {
	link.Memory
	tell func(link.Kind)

	mu   sync.Mutex
	home string    // guarded by mu; the first network
	kind link.Kind // guarded by mu; what is known of the first network
	told int       // guarded by mu
}

func (w *worker) ways() *ways {
	return &ways{Memory: link.NewMemory(), kind: link.Kind(w.job.Way), tell: func(k link.Kind) {
		_ = w.pair.Send(pair.FrameWay, []byte(k)) // a pair that has ended ends the session
	}}
}

// Load is link.Memory's.
func (w *ways) Load(network string) link.Kind {
	if k := w.Memory.Load(network); k != "" {
		return k
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.home == "" {
		w.home = network
	}
	if w.home == network {
		return w.kind
	}
	return ""
}

// Store is link.Memory's. What was known already is not told.
func (w *ways) Store(network string, k link.Kind) {
	if !w.isNew(network, k) {
		return
	}
	w.Memory.Store(network, k)
	w.tell(k)
}

func (w *ways) isNew(network string, k link.Kind) bool {
	known := w.Load(network) == k
	w.mu.Lock()
	defer w.mu.Unlock()
	if known || w.told >= maxTold {
		return false
	}
	w.told++
	return true
}
