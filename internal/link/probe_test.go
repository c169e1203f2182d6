package link

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/guard"
)

func newTestProber(t *testing.T) *Prober {
	t.Helper()
	p, err := NewProber()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func probeFor(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestProbeTellsWhatWorksAndGivesThePlaceBack(t *testing.T) {
	r := startRelay(t)
	p := newTestProber(t)
	e := wire.RelayEndpoint{UDP: r.udp, TCP: r.tcp}
	cred, _ := r.mint(e)
	for k, port := range map[Kind]uint16{RelayUDP: p.Port(netip.MustParseAddr("127.0.0.1")), RelayTCP: 0} {
		got, err := p.Probe(probeFor(t, patience), cred, e, k)
		if err != nil {
			t.Fatalf("%s: %v", k, err)
		}
		if got.RTT <= 0 || (got.Connect > 0) != (k == RelayTCP) || got.Mapped.Addr() != netip.MustParseAddr("127.0.0.1") || port != 0 && got.Mapped.Port() != port {
			t.Errorf("%s: %+v", k, got)
		}
	}
	until(t, "the places to be free", func() bool { return r.server.Metrics()["allocations"] == 0 })
}

// Several at once take each other's place on the relay, and all of them tell that
// their way works.
func TestProbesSideBySide(t *testing.T) {
	r := startRelay(t)
	p := newTestProber(t)
	e := wire.RelayEndpoint{UDP: r.udp, TCP: r.tcp}
	cred, _ := r.mint(e)
	var all sync.WaitGroup
	for _, k := range []Kind{RelayUDP, RelayTCP, RelayTCP} {
		all.Go(func() {
			if _, err := p.Probe(probeFor(t, patience), cred, e, k); err != nil {
				t.Errorf("%s: %v", k, err)
			}
		})
	}
	all.Wait()
}

func wantLeg(t *testing.T, err error, leg Leg) {
	t.Helper()
	var failed *ProbeError
	if !errors.As(err, &failed) || failed.Leg != leg {
		t.Errorf("got %v, want the leg %q", err, leg)
	}
}

func TestProbeNamesTheLegThatIsBlocked(t *testing.T) {
	r := startRelay(t)
	p := newTestProber(t)
	cred, _ := r.mint()
	deaf, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	mute, err := net.Listen("tcp4", "127.0.0.1:0") // accepts by its backlog and says nothing
	if err != nil {
		t.Fatal(err)
	}
	closed := mute.Addr().String()
	_, err = p.Probe(probeFor(t, 300*time.Millisecond), cred, wire.RelayEndpoint{TCP: closed}, RelayTCP)
	wantLeg(t, err, LegAllocate)
	_ = mute.Close()
	_, err = p.Probe(probeFor(t, patience), cred, wire.RelayEndpoint{TCP: closed}, RelayTCP)
	wantLeg(t, err, LegConnect)
	_, err = p.Probe(probeFor(t, 300*time.Millisecond), cred, wire.RelayEndpoint{UDP: deaf.LocalAddr().String()}, RelayUDP)
	wantLeg(t, err, LegConnect)
	_, err = p.Probe(probeFor(t, patience), cred, wire.RelayEndpoint{UDP: "no port"}, RelayUDP)
	wantLeg(t, err, LegConnect)
	_, err = p.Probe(probeFor(t, patience), cred, wire.RelayEndpoint{TLS: r.tcp}, RelayTLS) // nothing is pinned
	wantLeg(t, err, LegHandshake)

	wrong := cred
	wrong.Password = wire.Bytes("not the password of this user ..")
	_, err = p.Probe(probeFor(t, 2*time.Second), wrong, wire.RelayEndpoint{UDP: r.udp}, RelayUDP)
	wantLeg(t, err, LegAllocate)
}

// Who knows neither the question nor the credential cannot make a way look good,
// nor tell us an address.
func TestForgedAnswersToAProbeCountForNothing(t *testing.T) {
	r := startRelay(t)
	forge := newProxy(t, r.udp, func(typ guard.Type, b []byte) bool {
		if typ == guard.AllocateSuccess {
			if v, ok := guard.Find(b, guard.AttrMappedAddress); ok {
				v[7] ^= 1
			}
		}
		return true
	})
	p := newTestProber(t)
	e := wire.RelayEndpoint{UDP: forge.addr}
	cred, _ := r.mint(e)
	_, err := p.Probe(probeFor(t, patience), cred, e, RelayUDP)
	wantLeg(t, err, LegAllocate)

	stranger, err := net.Dial("udp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p.Port(netip.MustParseAddr("127.0.0.1"))).String())
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	_, _ = stranger.Write(guard.NewMessage(guard.AllocateError, [12]byte{}))
	if _, err := p.Probe(probeFor(t, patience), cred, wire.RelayEndpoint{UDP: r.udp}, RelayUDP); err != nil {
		t.Errorf("after a stranger's datagram: %v", err)
	}
}

func TestLostQuestionsOfAProbeAreAskedAgain(t *testing.T) {
	r := startRelay(t)
	var mu sync.Mutex
	lost := map[guard.Type]bool{}
	lossy := newProxy(t, r.udp, func(typ guard.Type, _ []byte) bool { // the first answer of each kind is lost
		mu.Lock()
		defer mu.Unlock()
		first := !lost[typ]
		lost[typ] = true
		return !first
	})
	e := wire.RelayEndpoint{UDP: lossy.addr}
	cred, _ := r.mint(e)
	got, err := newTestProber(t).Probe(probeFor(t, patience), cred, e, RelayUDP)
	if err != nil || got.RTT >= resendFirst {
		t.Errorf("%+v, %v: the round trip is that of the try that was answered", got, err)
	}
}
