package labtest

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// directWithin is how soon after the prompt a session is direct where it can be.
const directWithin = time.Second

func TestBehindConesDirectWithinASecondOfThePrompt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name              string
		operator, machine netlab.Behaviour
	}{
		{"restricted and restricted", netlab.RestrictedCone, netlab.RestrictedCone},
		{"restricted and port-restricted", netlab.RestrictedCone, netlab.PortRestricted},
		{"port-restricted and port-restricted", netlab.PortRestricted, netlab.PortRestricted},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			a, b := w.nats(c.operator, c.machine)
			w.place(a.Network, b.Network)
			w.directSoon(directWithin)
		})
	}
}

// directSoon opens a session and wants it direct so soon after the prompt.
func (w *world) directSoon(limit time.Duration) {
	w.t.Helper()
	s := w.openDirect(limit)
	w.leavesTheRelay(s)
	wantDirect(w.t, s.finish())
}

// leavesTheRelay looks for a second at what passes the relay, challenges and a doubt;
// data would, four times. It looks again, four times at most: on a busy machine answers
// come so late that there are doubts and the relay carries a copy of all for a while. A
// session that goes by the relay does so whenever one looks.
func (w *world) leavesTheRelay(s *stream) {
	w.t.Helper()
	for range 5 {
		s.untilDirect(patience)
		relayed, got := w.relayed(), s.got.Load()
		pass(time.Second)
		n, moved := w.relayed()-relayed, s.got.Load()-got
		if n <= uint64(moved) {
			return
		}
		w.t.Logf("%d bytes passed the relay while %d came back", n, moved)
	}
	w.t.Error("the relay carries the data, although the path is direct")
}

// openDirect opens a session that is direct so soon after the prompt. These tests
// load the machine themselves, and a session or two may be late for that.
func (w *world) openDirect(limit time.Duration) *stream {
	w.t.Helper()
	for range 3 {
		s := w.open(talking)
		took := s.untilDirect(patience)
		w.t.Logf("prompt after %v, direct %v later", s.opened().Sub(s.begun).Round(time.Millisecond), took.Round(time.Millisecond))
		if took <= limit {
			return s
		}
		s.finish()
	}
	w.t.Fatalf("three sessions were not direct within %v of the prompt", limit)
	return nil
}

// TestIPv6DirectWhereIPv4CannotBe has two routers that translate IPv4 so that no
// direct path is possible, and let answers in by IPv6.
func TestIPv6DirectWhereIPv4CannotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	a, b := w.nats(netlab.Symmetric, netlab.Symmetric)
	a.RouteIPv6()
	b.RouteIPv6()
	w.place(a.Network, b.Network)
	way := w.openDirect(directWithin).finish()
	if at, err := netip.ParseAddrPort(strings.TrimPrefix(way, "direct ")); err != nil || at.Addr() != w.machine.IPv6() {
		t.Errorf("the client says %q, want direct %v", way, w.machine.IPv6())
	}
}

func TestOneNetworkIsDirectWithoutHairpin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	a := w.inet.NAT(netlab.Symmetric)
	w.place(a.Network, a.Network)
	w.directSoon(directWithin)
}

// TestSymmetricNAT wants a session that works, and direct where one side keeps its
// port for all destinations: its peer learns the other's port from a challenge.
func TestSymmetricNAT(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name              string
		operator, machine netlab.Behaviour
		direct            bool
	}{
		{"operator's, machine's full cone", netlab.Symmetric, netlab.FullCone, true},
		{"operator's, machine's restricted", netlab.Symmetric, netlab.RestrictedCone, true},
		{"machine's, operator's restricted", netlab.RestrictedCone, netlab.Symmetric, true},
		{"operator's, machine's port-restricted", netlab.Symmetric, netlab.PortRestricted, false},
		{"both", netlab.Symmetric, netlab.Symmetric, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			a, b := w.nats(c.operator, c.machine)
			w.place(a.Network, b.Network)
			if c.direct {
				w.directSoon(gapMost) // the operator's side has to find the port first
				return
			}
			s := w.open(talking)
			s.untilRelayed(patience)
			pass(2 * time.Second) // of searching in vain
			s.goesOn(gapMost)
			if way := s.finish(); !strings.HasPrefix(way, "relay-udp ") {
				t.Errorf("the client says %q, want relay-udp", way)
			}
		})
	}
}

// TestDirectPathIsCutAndMended closes UDP between the two routers but not to the
// relay, and opens it again.
func TestDirectPathIsCutAndMended(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	a, b := w.nats(netlab.PortRestricted, netlab.PortRestricted)
	w.place(a.Network, b.Network)
	s := w.open(talking)
	s.untilDirect(patience)
	s.pause()
	a.Allow(w.relayOnly())
	s.goesOn(gapMost)
	s.untilRelayed(patience)
	t.Logf("cut: longest pause %v", s.pause().Round(time.Millisecond))
	a.Allow(netlab.Anything)
	start := time.Now()
	s.untilDirect(directAgain)
	t.Logf("mended: direct after %v, longest pause %v", time.Since(start).Round(time.Millisecond), s.pause().Round(time.Millisecond))
	wantDirect(t, s.finish())
}

// directAgain bounds the time to a direct path after it has become possible: one
// slow round of challenges while data flows, with room.
const directAgain = 40 * time.Second
