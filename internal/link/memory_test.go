package link

import (
	"encoding/json"
	"fmt"
	"testing"
)

func TestNetworksHoldTheNewest(t *testing.T) {
	var n Networks
	for i := range 2 * MaxNetworks {
		n, _ = n.With(fmt.Sprint("net ", i), RelayTCP)
	}
	if len(n) != MaxNetworks || n.Load("net 0") != "" || n.Load(fmt.Sprint("net ", 2*MaxNetworks-1)) != RelayTCP {
		t.Errorf("%d entries: %v", len(n), n[:2])
	}
	if _, changed := n.With(n[0].Network, RelayTCP); changed {
		t.Error("what is known would be written again")
	}
	n, changed := n.With(n[3].Network, RelayWebSocket)
	if !changed || n[0].Kind != RelayWebSocket || len(n) != MaxNetworks {
		t.Errorf("%v, %v", changed, n[0])
	}
	n, changed = n.With(n[MaxNetworks-1].Network, RelayTCP) // used, and the next to go
	if !changed || len(n) != MaxNetworks || n[0].Kind != RelayTCP {
		t.Errorf("%v, %v", changed, n[0])
	}
}

func FuzzNetworks(f *testing.F) {
	f.Add([]byte(`[{"network":"home","kind":"relay-ws"},{"network":"","kind":"pigeon"}]`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var n Networks
		if json.Unmarshal(text, &n) != nil {
			return
		}
		n = n.Clean()
		if len(n) > MaxNetworks {
			t.Errorf("%d entries", len(n))
		}
		for _, k := range n {
			if !k.Kind.Valid() {
				t.Errorf("%q", k.Kind)
			}
		}
		n, _ = n.With("here", RelayUDP)
		if n.Load("here") != RelayUDP {
			t.Error("what was put in is not there")
		}
	})
}

func TestCurrentNetworkIsWhatAMemoryIsAskedFor(t *testing.T) {
	if got, want := CurrentNetwork(), newNetwork(false).fingerprint(); got != want || got == "" {
		t.Errorf("%q, and the link says %q", got, want)
	}
}
