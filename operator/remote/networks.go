package remote

import (
	"sync"

	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/operator/account"
)

// networksFile keeps which way to a relay worked last in which network, so that
// the next session begins with it. It says nothing of the network but a hash.
const networksFile = "networks.json"

// networks is link.Memory in a file of the state folder. A damaged file is no
// memory, and is replaced. Of two processes that write at once one is forgotten,
// which costs one slower dial.
type networks struct {
	home account.Home
	mu   sync.Mutex // serialises what this process does to the file
}

func networksIn(home account.Home) *networks { return &networks{home: home} }

// Load returns "" for a network that it does not know.
func (n *networks) Load(network string) link.Kind {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.readLocked().Load(network)
}

// Store writes only what is new.
func (n *networks) Store(network string, kind link.Kind) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if list, changed := n.readLocked().With(network, kind); changed {
		_ = n.home.WriteJSON(networksFile, list) // a hint that is lost is learnt again
	}
}

func (n *networks) readLocked() link.Networks {
	var list link.Networks
	if n.home.ReadJSON(networksFile, link.MaxNetworksFile, &list) != nil {
		return nil
	}
	return list.Clean()
}
