package labtest

import (
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// TestNATRebindingIsSurvived lets a router forget its mappings in the middle of a
// session that is direct: what comes next has another port, and answers to the old
// one vanish.
func TestNATRebindingIsSurvived(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(operator, machine *netlab.NAT)
	}{
		{"operator's", func(a, _ *netlab.NAT) { a.Rebind() }},
		{"machine's", func(_, b *netlab.NAT) { b.Rebind() }},
		{"both", func(a, b *netlab.NAT) { a.Rebind(); b.Rebind() }},
		{"operator's with a new address", func(a, _ *netlab.NAT) { a.Renumber() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			a, b := w.nats(netlab.PortRestricted, netlab.PortRestricted)
			w.place(a.Network, b.Network)
			s := w.open(talking)
			s.untilDirect(patience)
			s.pause()
			c.change(a, b)
			s.goesOn(gapMost)
			s.untilDirect(patience)
			t.Logf("longest pause %v", s.pause().Round(time.Millisecond))
			wantDirect(t, s.finish())
		})
	}
}

// TestRelayKilledAndStartedAgain has one relay only, which comes back: sessions
// wait for it.
func TestRelayKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	a, b := w.nats(netlab.Symmetric, netlab.Symmetric)
	w.place(a.Network, b.Network)
	s := w.open(copying)
	s.goesOn(gapMost)
	r := w.relays[0]
	r.proc.kill()
	pass(2 * time.Second)
	r.proc = w.serve(r.Host, "relaying on", "tucdesk-relay", "--config", w.path("relay0.toml"))
	t.Logf("goes on %v after the relay is back", s.goesOn(patience).Round(time.Millisecond))
	s.finish()
}

// TestUnpluggedForAWhile takes the operator's cable out and puts it in again.
func TestUnpluggedForAWhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	a, b := w.nats(netlab.PortRestricted, netlab.PortRestricted)
	w.place(a.Network, b.Network)
	s := w.open(talking)
	s.untilDirect(patience)
	w.laptop.Unplug()
	pass(6 * time.Second)
	s.alive()
	w.laptop.Plug()
	t.Logf("goes on after %v", s.goesOn(gapMost).Round(time.Millisecond))
	s.finish()
}
