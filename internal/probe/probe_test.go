package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/relay/guard"
)

var local = netip.MustParseAddr("127.0.0.1")

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
	cred := r.credential()
	for k, w := range r.ways {
		got, err := p.Probe(probeFor(t, patience), cred, w)
		if err != nil {
			t.Errorf("%s: %v", k, err)
			continue
		}
		own := k == link.RelayUDP
		if got.RTT <= 0 || (got.Connect > 0) == own || got.Mapped.Addr() != local || own != (got.Mapped.Port() == p.Port(local)) {
			t.Errorf("%s: %+v", k, got)
		}
	}
	until(t, "the places to be free", func() bool { return r.server.Snapshot().Allocations == 0 })
}

// A relay closes the connection of whoever had the place before: that must not look
// like a way that is blocked.
func TestProbesSideBySide(t *testing.T) {
	r := startRelay(t)
	p := newTestProber(t)
	cred := r.credential()
	place := NewPlace()
	var all sync.WaitGroup
	for _, k := range []link.Kind{link.RelayUDP, link.RelayTCP, link.RelayTCP, link.RelayDTLS, link.RelayTLS, link.RelayWebSocket} {
		all.Go(func() {
			w := r.ways[k]
			w.Place = place
			if _, err := p.Probe(probeFor(t, patience), cred, w); err != nil {
				t.Errorf("%s: %v", k, err)
			}
		})
	}
	all.Wait()
}

func wantLeg(t *testing.T, err error, leg Leg) {
	t.Helper()
	var failed *Error
	if !errors.As(err, &failed) || failed.Leg != leg {
		t.Errorf("got %v, want the leg %q", err, leg)
	}
}

func TestProbeNamesTheLegThatIsBlocked(t *testing.T) {
	r := startRelay(t)
	p := newTestProber(t)
	cred := r.credential()
	deaf, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	mute, err := net.Listen("tcp4", "127.0.0.1:0") // hears the question and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	unanswered, giveUp := context.WithCancel(t.Context())
	var hearing sync.WaitGroup
	hearing.Go(func() {
		defer giveUp()
		conn, err := mute.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 1))
		giveUp()
		_, _ = io.Copy(io.Discard, conn)
	})
	_, err = p.Probe(unanswered, cred, Way{Kind: link.RelayTCP, Addr: mute.Addr().String()})
	hearing.Wait()
	wantLeg(t, err, LegAllocate)
	busy, err := net.Dial("tcp4", mute.Addr().String()) // at its own address nobody listens, and nobody else can
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, err = p.Probe(probeFor(t, patience), cred, Way{Kind: link.RelayTCP, Addr: busy.LocalAddr().String()})
	wantLeg(t, err, LegConnect)
	_, err = p.Probe(probeFor(t, 300*time.Millisecond), cred, Way{Kind: link.RelayUDP, Addr: deaf.LocalAddr().String()})
	wantLeg(t, err, LegConnect)
	_, err = p.Probe(probeFor(t, patience), cred, Way{Kind: link.RelayUDP, Addr: "no port"})
	wantLeg(t, err, LegConnect)
	_, err = p.Probe(probeFor(t, patience), cred, Way{Kind: link.RelayTLS, Addr: r.ways[link.RelayTCP].Addr}) // nothing is pinned
	wantLeg(t, err, LegHandshake)

	wrong := cred
	wrong.Password = []byte("not the password of this user ..")
	_, err = p.Probe(probeFor(t, 2*time.Second), wrong, Way{Kind: link.RelayUDP, Addr: r.ways[link.RelayUDP].Addr})
	wantLeg(t, err, LegAllocate)
}

// Who knows neither the question nor the credential cannot make a way look good,
// nor tell us an address.
func TestForgedAnswersToAProbeCountForNothing(t *testing.T) {
	r := startRelay(t)
	forge := between(t, r.ways[link.RelayUDP].Addr, func(typ guard.Type, b []byte) bool {
		if typ == guard.AllocateSuccess {
			if v, ok := guard.Find(b, guard.AttrMappedAddress); ok {
				v[7] ^= 1
			}
		}
		return true
	})
	p := newTestProber(t)
	cred := r.credential()
	_, err := p.Probe(probeFor(t, patience), cred, Way{Kind: link.RelayUDP, Addr: forge})
	wantLeg(t, err, LegAllocate)

	stranger, err := net.Dial("udp4", netip.AddrPortFrom(local, p.Port(local)).String())
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	_, _ = stranger.Write(guard.NewMessage(guard.AllocateError, [12]byte{}))
	if _, err := p.Probe(probeFor(t, patience), cred, Way{Kind: link.RelayUDP, Addr: r.ways[link.RelayUDP].Addr}); err != nil {
		t.Errorf("after a stranger's datagram: %v", err)
	}
}

func TestLostQuestionsOfAProbeAreAskedAgain(t *testing.T) {
	r := startRelay(t)
	var mu sync.Mutex
	lost := map[guard.Type]bool{}
	lossy := between(t, r.ways[link.RelayUDP].Addr, func(typ guard.Type, _ []byte) bool { // the first answer of each kind is lost
		mu.Lock()
		defer mu.Unlock()
		first := !lost[typ]
		lost[typ] = true
		return !first
	})
	p := newTestProber(t)
	until(t, "the round trip of the try that was answered", func() bool { // which is long where the machine is busy
		mu.Lock()
		clear(lost)
		mu.Unlock()
		got, err := p.Probe(probeFor(t, patience), r.credential(), Way{Kind: link.RelayUDP, Addr: lossy})
		if err != nil {
			t.Fatalf("%+v, %v", got, err)
		}
		return got.RTT < resendFirst
	})
}
