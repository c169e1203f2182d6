package remote

import (
	"slices"
	"sync"

	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/operator/account"
)

// networksFile keeps which way to a relay worked last in which network, so that
// the next session begins with it. It says nothing of the network but a hash.
const (
	networksFile    = "networks.json"
	maxNetworksFile = 16 << 10
	maxNetworks     = 64 // entries; our choice
)

// networks is link.Memory in a file of the state folder. A damaged file is no
// memory, and is replaced. Of two processes that write at once one is forgotten,
// which costs one slower dial.
type networks struct {
	home account.Home
	mu   sync.Mutex // serialises what this process does to the file
}

// known is one entry; the first of the file was used last.
type known struct {
	Network string    `json:"network"`
	Kind    link.Kind `json:"kind"`
}

func networksIn(home account.Home) *networks { return &networks{home: home} }

// Load returns "" for a network that it does not know.
func (n *networks) Load(network string) link.Kind {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, k := range n.readLocked() {
		if k.Network == network {
			return k.Kind
		}
	}
	return ""
}

// Store writes only what is new, or would soon be forgotten although it is used.
func (n *networks) Store(network string, kind link.Kind) {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.readLocked()
	if i := slices.IndexFunc(list, func(k known) bool { return k.Network == network }); i >= 0 {
		if list[i].Kind == kind && i < maxNetworks/2 {
			return
		}
		list = slices.Delete(list, i, i+1)
	}
	list = slices.Insert(list, 0, known{network, kind})
	_ = n.home.WriteJSON(networksFile, list[:min(len(list), maxNetworks)]) // a hint that is lost is learnt again
}

func (n *networks) readLocked() []known {
	var list []known
	if n.home.ReadJSON(networksFile, maxNetworksFile, &list) != nil || len(list) > maxNetworks {
		return nil
	}
	return slices.DeleteFunc(list, func(k known) bool {
		switch k.Kind {
		case link.RelayUDP, link.RelayTCP, link.RelayTLS, link.RelayDTLS, link.RelayWebSocket:
			return false
		}
		return true
	})
}
