package link

import (
	"slices"

	"github.com/tucdesk/tucdesk/internal/wire"
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

// order is the kinds that lead to a relay, the one that worked here last first.
func (l *Link) order(e wire.RelayEndpoint) []Kind {
	var order []Kind
	for _, k := range kinds {
		if k.address(e) != "" {
			order = append(order, k)
		}
	}
	if l.cfg.Remember == nil {
		return order
	}
	if i := slices.Index(order, l.cfg.Remember.Load(l.network.name())); i > 0 {
		k := order[i]
		order = slices.Insert(slices.Delete(order, i, i+1), 0, k)
	}
	return order
}

func (l *Link) remember(k Kind) {
	if l.cfg.Remember != nil {
		l.cfg.Remember.Store(l.network.name(), k)
	}
}
