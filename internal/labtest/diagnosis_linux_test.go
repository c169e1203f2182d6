package labtest

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// TestPingFindsTheDirectPathBehindCones runs ping as scripts do, and takes what
// it prints for what it means.
func TestPingFindsTheDirectPathBehindCones(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name              string
		operator, machine netlab.Behaviour
		direct            bool
	}{
		{"cones", netlab.RestrictedCone, netlab.PortRestricted, true},
		{"symmetric", netlab.Symmetric, netlab.Symmetric, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 0)
			a, b := w.nats(c.operator, c.machine)
			w.place(a.Network, b.Network)
			args := []string{"ping", machineName, "--until-direct", "--json"}
			if !c.direct {
				args = append(args, "--timeout", "10s") // time for an answer by the relay, and to find that there is no more
			}
			p := launch(t, w.client(w.laptop, args...))
			code, out, said := p.finish()
			if c.direct != (code == 0) || !c.direct && code != 1 {
				t.Errorf("exit %d: %s", code, said)
			}
			var replies, summaries int
			var direct bool
			for line := range strings.Lines(out) {
				var l struct {
					Type, Kind        string
					Answered          any // a reply: whether; the summary: how many
					Direct            bool
					RTTMillis         float64
					SetupMillis       float64
					DirectAfterMillis float64
				}
				if err := json.Unmarshal([]byte(line), &l); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				switch l.Type {
				case "reply":
					replies++
					direct = l.Direct
					if l.Answered == true && l.RTTMillis < 2*float64(halfTrip.Milliseconds()) || l.Direct != (l.Kind == "direct") {
						t.Errorf("a reply that cannot be: %s", line)
					}
				case "summary":
					summaries++
					if l.Direct != c.direct || c.direct != (l.DirectAfterMillis > 0) || l.SetupMillis <= 0 {
						t.Errorf("a summary that cannot be: %s", line)
					}
				}
			}
			if replies == 0 || summaries != 1 || direct != c.direct {
				t.Errorf("%d replies, %d summaries, direct %v:\n%s", replies, summaries, direct, out)
			}
		})
	}
}

// TestNetcheckNamesTheBlockedLeg has firewalls that drop without a word.
func TestNetcheckNamesTheBlockedLeg(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		wall    netlab.Firewall
		blocked map[string]string // kind: leg; what is missing works
	}{
		{"open", netlab.Anything, nil},
		{"UDP blocked", netlab.NoUDP, map[string]string{"relay-udp": "connect", "relay-dtls": "handshake"}},
		{"only TCP 443", netlab.OnlyTCP443, map[string]string{"relay-udp": "connect", "relay-tcp": "connect", "relay-tls": "connect", "relay-dtls": "handshake"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 0)
			w.laptop = w.inet.NAT(netlab.PortRestricted).Host("laptop")
			w.laptop.Set(netlab.WAN{Delay: halfTrip})
			w.laptop.Allow(c.wall)
			p := launch(t, w.client(w.laptop, "netcheck", "--json"))
			code, out, said := p.finish()
			var report struct {
				Server struct{ Reachable bool }
				IPv4   struct {
					Tried, Works bool
					Mapping      string
				}
				Ways []struct {
					Kind, Leg, Error string
					Works            bool
				}
			}
			if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 {
				t.Fatalf("exit %d, %v: %s", code, err, said)
			}
			kinds := map[string]bool{}
			for _, way := range report.Ways {
				kinds[way.Kind] = true
				leg, blocked := c.blocked[way.Kind]
				if way.Works == blocked || way.Leg != leg || blocked == (way.Error == "") {
					t.Errorf("%s: works %v, leg %q, %q; want leg %q", way.Kind, way.Works, way.Leg, way.Error, leg)
				}
			}
			if len(kinds) != 5 || !report.Server.Reachable || !report.IPv4.Tried || report.IPv4.Works != (c.blocked == nil) {
				t.Errorf("%s", out)
			}
		})
	}
}
