package labtest

import (
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// TestUDPBlockedAtOneEnd has a firewall that stops UDP before one end.
func TestUDPBlockedAtOneEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name              string
		operator, machine netlab.Firewall
	}{
		{"operator's", netlab.NoUDP, netlab.Anything},
		{"machine's", netlab.Anything, netlab.NoUDP},
		{"both", netlab.NoUDP, netlab.NoUDP},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			w.place(w.inet, w.inet)
			w.laptop.Allow(c.operator)
			w.machine.Allow(c.machine)
			s := w.open(talking)
			s.goesOn(gapMost)
			s.untilRelayed(patience)
			way := s.finish()
			t.Logf("prompt after %v by %s", s.opened().Sub(s.begun).Round(time.Millisecond), way)
			if !strings.HasPrefix(way, "relay-") || c.name != "machine's" && strings.HasPrefix(way, "relay-udp ") {
				t.Errorf("the client says %q", way)
			}
		})
	}
}
