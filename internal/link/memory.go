package link

import "sync"

// Memory keeps which kind of way to a relay worked last in which network, so that
// the next link begins with it. It is a hint: what it says is tried first, no
// more. Its methods are called from any goroutine.
type Memory interface {
	// Load returns "" for a network that it does not know.
	Load(network string) Kind
	// Store need not keep anything for ever.
	Store(network string, k Kind)
}

// maxNetworks is how many networks a memory holds; our choice.
const maxNetworks = 64

// NewMemory returns a Memory that lasts as long as the process.
func NewMemory() Memory { return &memory{kinds: make(map[string]Kind)} }

type memory struct {
	mu    sync.Mutex
	kinds map[string]Kind // guarded by mu
}

func (m *memory) Load(network string) Kind {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kinds[network]
}

func (m *memory) Store(network string, k Kind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.kinds[network]; !known && len(m.kinds) >= maxNetworks {
		clear(m.kinds) // it is learnt again by using it
	}
	m.kinds[network] = k
}

func (l *Link) lastKind() Kind {
	if l.cfg.Remember == nil {
		return ""
	}
	return l.cfg.Remember.Load(l.network.fingerprint())
}

func (l *Link) remember(k Kind) {
	if l.cfg.Remember != nil {
		l.cfg.Remember.Store(l.network.fingerprint(), k)
	}
}
