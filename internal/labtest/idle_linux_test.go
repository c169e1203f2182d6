package labtest

import (
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// What an idle session may cost on the operator's link, both ways together, in
// bytes of IP per second; 1.5 is for what a short look happens to see.
const (
	idleFor  = 30 * time.Second
	idleMost = 100 * 1.5
)

func TestIdleSessionIsQuiet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		nat    netlab.Behaviour
		relays int
	}{{"direct, one relay", netlab.PortRestricted, 1}, {"direct, two relays", netlab.PortRestricted, 2}, {"two relays", netlab.Symmetric, 2}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.relays)
			a, b := w.nats(c.nat, c.nat)
			w.place(a.Network, b.Network)
			s := w.open(talking)
			if c.nat == netlab.PortRestricted {
				s.untilDirect(patience)
			}
			s.hush()
			s.fed.Wait()
			eventually(t, "everything came back", func() bool { return s.got.Load() == s.sent.Load() })
			pass(5 * time.Second) // of acknowledgements and of the search for paths
			rate := quiet(t, w.laptop.Link)
			if rate > idleMost {
				t.Errorf("an idle session costs %.0f bytes/s, want %.0f at most", rate, idleMost)
			}
			s.finish()
		})
	}
}

// quiet looks again, twice at most, at a link that carried too much: on a machine so
// busy that answers come late, what is asked again is counted too. A session that
// talks without need does so whenever one looks.
func quiet(t *testing.T, l *netlab.Link) (rate float64) {
	for range 3 {
		before := carried(l)
		pass(idleFor)
		rate = float64(carried(l)-before) / idleFor.Seconds()
		t.Logf("%.0f bytes/s", rate)
		if rate <= idleMost {
			break
		}
	}
	return rate
}
