package labtest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// mappedWithin is how soon a session is direct that needs a router's help: routers
// are asked after two seconds.
const mappedWithin = 10 * time.Second

// TestRouterThatForwardsMakesSymmetricNATsDirect: one of the two is enough, and
// the ports are given back.
func TestRouterThatForwardsMakesSymmetricNATsDirect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name              string
		operator, machine bool // whose router forwards
	}{
		{"operator's", true, false},
		{"machine's", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			a, b := w.nats(netlab.Symmetric, netlab.Symmetric)
			if c.operator {
				a.Forwarding()
			}
			if c.machine {
				b.Forwarding()
			}
			w.place(a.Network, b.Network)
			s := w.open(talking)
			eventually(t, "a port is forwarded", func() bool { return a.Forwarded()+b.Forwarded() > 0 })
			t.Logf("direct %v after the prompt", s.untilDirect(patience).Round(time.Millisecond))
			if n := a.Forwarded() + b.Forwarded(); n != 1 {
				t.Errorf("%d ports are forwarded", n)
			}
			wantDirect(t, s.finish())
			eventually(t, "the port is given back", func() bool { return a.Forwarded()+b.Forwarded() == 0 })
		})
	}
}

// TestNoPortMappingAsksNoRouter at either end.
func TestNoPortMappingAsksNoRouter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	a, b := w.nats(netlab.Symmetric, netlab.Symmetric)
	a.Forwarding()
	b.Forwarding()
	w.agentFlags = []string{"--no-port-mapping"}
	w.place(a.Network, b.Network)
	p := launch(t, w.client(w.laptop, "ping", "--no-port-mapping", "--until-direct", "--timeout", mappedWithin.String(), machineName))
	if code, out, said := p.finish(); code != 1 || strings.Contains(out, "direct 198.") || a.Forwarded()+b.Forwarded() != 0 {
		t.Errorf("exit %d, %d ports: %s %s", code, a.Forwarded()+b.Forwarded(), out, said)
	}
}

// TestPortsThatAnAdministratorLetThroughMakeSymmetricNATsDirect: what the machine's owner
// has written into the router and told the agent. No router is asked.
func TestPortsThatAnAdministratorLetThroughMakeSymmetricNATsDirect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	a, b := w.nats(netlab.Symmetric, netlab.Symmetric)
	const first, last = 41000, 41003
	w.agentFlags = []string{"--no-port-mapping", "--direct-ports", fmt.Sprintf("%d-%d", first, last), "--direct-address", b.IPv4().String()}
	w.place(a.Network, b.Network)
	for port := uint16(first); port <= last; port++ {
		b.Forward(port, netip.AddrPortFrom(w.machine.IPv4(), port))
	}
	code, out, said := launch(t, w.client(w.laptop, "ping", "--no-port-mapping", "--until-direct", "--timeout", patience.String(), machineName)).finish()
	if code != 0 || !strings.Contains(out, "direct "+b.IPv4().String()+":4100") {
		t.Errorf("exit %d: %s %s", code, out, said)
	}
}
