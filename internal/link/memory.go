package link

import (
	"slices"
	"sync"
)

// Memory keeps which kind of way to a relay worked last in which network, so that
// the next link begins with it. It is a hint: what it says is tried first, no
// more. Its methods are called from any goroutine.
type Memory interface {
	// Load returns "" for a network that it does not know.
	Load(network string) Kind
	// Store need not keep anything for ever.
	Store(network string, k Kind)
}

// MaxNetworks is how many networks a memory holds; our choice.
const MaxNetworks = 64

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
	if _, known := m.kinds[network]; !known && len(m.kinds) >= MaxNetworks {
		clear(m.kinds) // it is learnt again by using it
	}
	m.kinds[network] = k
}

// Known is one entry of Networks.
type Known struct {
	Network string `json:"network"`
	Kind    Kind   `json:"kind"`
}

// Networks is what a Memory holds in a file, the network that was used last first. A
// file may hold anything: Clean comes first.
type Networks []Known

// MaxNetworksFile is how many bytes of such a file there may be; our choice.
const MaxNetworksFile = 16 << 10

// Clean returns n without what is no kind of way, nil if there is too much of it.
func (n Networks) Clean() Networks {
	if len(n) > MaxNetworks {
		return nil
	}
	return slices.DeleteFunc(n, func(k Known) bool { return !k.Kind.Valid() })
}

// Valid reports whether k is one of the kinds.
func (k Kind) Valid() bool { return slices.Contains(order[:], k) }

// Load returns "" for a network that is not in n.
func (n Networks) Load(network string) Kind {
	if i := n.find(network); i >= 0 {
		return n[i].Kind
	}
	return ""
}

func (n Networks) find(network string) int {
	return slices.IndexFunc(n, func(k Known) bool { return k.Network == network })
}

// With returns n with an entry, and whether it is worth writing: when it is new, or
// would soon be forgotten although it is used. n itself may be changed.
func (n Networks) With(network string, kind Kind) (Networks, bool) {
	if i := n.find(network); i >= 0 {
		if n[i].Kind == kind && i < MaxNetworks/2 {
			return n, false
		}
		n = slices.Delete(n, i, i+1)
	}
	n = slices.Insert(n, 0, Known{network, kind})
	return n[:min(len(n), MaxNetworks)], true
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
