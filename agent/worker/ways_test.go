package worker

import (
	"slices"
	"testing"

	"github.com/tucdesk/tucdesk/internal/link"
)

func TestOnlyNewsOfWaysAreTold(t *testing.T) {
	var told []link.Kind
	w := &ways{Memory: link.NewMemory(), kind: link.RelayTLS, tell: func(k link.Kind) { told = append(told, k) }}
	if k := w.Load("home"); k != link.RelayTLS {
		t.Errorf("begins with %q", k)
	}
	if k := w.Load("elsewhere"); k != "" {
		t.Errorf("in another network with %q", k)
	}
	w.Store("home", link.RelayTLS)
	w.Store("elsewhere", link.RelayUDP)
	w.Store("elsewhere", link.RelayUDP)
	w.Store("home", link.RelayTCP)
	if want := []link.Kind{link.RelayUDP, link.RelayTCP}; !slices.Equal(told, want) || w.Load("home") != link.RelayTCP || w.Load("elsewhere") != link.RelayUDP {
		t.Errorf("told %v", told)
	}
	for range maxTold {
		w.Store("home", link.RelayUDP)
		w.Store("home", link.RelayTCP)
	}
	if len(told) != maxTold {
		t.Errorf("told %d times", len(told))
	}
}
