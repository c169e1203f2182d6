package link

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/sidebyside"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
	"go.uber.org/goleak"
)

// relay1 is the way by the first relay.
var relay1 = path.Via{Relay: 1}

// one is the allocation on the first relay.
func (l *Link) one() *allocation { return l.slots[0].current.Load() }

// by is the first relay's state.
func (l *Link) by() RelayState { return l.Relays()[0] }

// TestMain lets more tests run side by side than there are cores: those that say
// so wait for timers of seconds. Those that free a port and take it again do not.
func TestMain(m *testing.M) {
	sidebyside.Tests(16)
	goleak.VerifyTestMain(m)
}

const patience = 30 * time.Second // bounds every wait of a test

type testRelay struct {
	server   *relay.Server
	secret   credential.Secret
	udp, tcp string
}

func startRelay(t testing.TB) *testRelay {
	t.Helper()
	return startLimitedRelay(t, relay.Limits{ControlPerSecond: 1 << 20, ControlTotal: 1 << 20})
}

func startLimitedRelay(t testing.TB, limits relay.Limits) *testRelay {
	t.Helper()
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	secret := credential.NewSecret()
	s, err := relay.Start(t.Context(), relay.Config{UDP: loopback, TCP: loopback, Secret: secret, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("relay: %v", err)
		}
	})
	udp, tcp := s.Addr()
	return &testRelay{server: s, secret: secret, udp: udp.String(), tcp: tcp.String()}
}

// mint makes the credentials of one session for these endpoints.
func (r *testRelay) mint(endpoints ...wire.RelayEndpoint) (operator, agent wire.Relay) {
	o, a := credential.MintPair(r.secret, time.Now(), time.Hour)
	side := func(c credential.Credential) wire.Relay {
		return wire.Relay{Endpoints: endpoints, Username: c.Username, Password: c.Password, ExpiresAt: wire.At(c.ExpiresAt)}
	}
	return side(o), side(a)
}

func dial(t testing.TB, cred wire.Relay) *Link {
	t.Helper()
	return open(t, Config{Relay: cred})
}

func pair(t testing.TB, r *testRelay, o, a wire.RelayEndpoint) (operator, agent *Link) {
	t.Helper()
	co, _ := r.mint(o)
	ca := co
	name, err := credential.Parse(co.Username)
	if err != nil {
		t.Fatal(err)
	}
	c := credential.Mint(r.secret, name.Pair, credential.Agent, time.Now(), time.Hour)
	ca.Endpoints, ca.Username, ca.Password = []wire.RelayEndpoint{a}, c.Username, c.Password
	return dial(t, co), dial(t, ca)
}

// ready waits until what is sent to these ends arrives.
func ready(t testing.TB, links ...*Link) {
	t.Helper()
	until(t, "the channels", func() bool {
		for _, l := range links {
			if a := l.one(); a == nil || !a.bound.Load() {
				return false
			}
		}
		return true
	})
}

// segments builds n segments of size bytes with a number in each.
func segments(n, size int) []byte {
	b := make([]byte, n*size)
	for i := range n {
		binary.BigEndian.PutUint32(b[i*size+Headroom:], uint32(i))
	}
	return b
}

// receive reads until n datagrams have come.
func receive(t testing.TB, l *Link, n int) (got [][]byte) {
	t.Helper()
	for _, d := range receiveDatagrams(t, l, n) {
		got = append(got, d.B)
	}
	return got
}

func receiveDatagrams(t testing.TB, l *Link, n int) (got []Datagram) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for len(got) < n {
		batch, err := l.ReadBatch(ctx)
		if err != nil {
			t.Fatalf("after %d of %d datagrams: %v", len(got), n, err)
		}
		for _, d := range batch {
			got = append(got, Datagram{d.Via, bytes.Clone(d.B)})
		}
	}
	return got
}

func TestBothEndsExchangeDatagramsOverEveryTransport(t *testing.T) {
	r := startRelay(t)
	overUDP, overTCP := wire.RelayEndpoint{UDP: r.udp}, wire.RelayEndpoint{TCP: r.tcp}
	for _, tc := range []struct {
		name  string
		o, a  wire.RelayEndpoint
		kindO Kind
		kindA Kind
	}{
		{"udp-udp", overUDP, overUDP, RelayUDP, RelayUDP},
		{"tcp-udp", overTCP, overUDP, RelayTCP, RelayUDP},
		{"udp-tcp", overUDP, overTCP, RelayUDP, RelayTCP},
		{"tcp-tcp", overTCP, overTCP, RelayTCP, RelayTCP},
	} {
		t.Run(tc.name, func(t *testing.T) {
			operator, agent := pair(t, r, tc.o, tc.a)
			ready(t, operator, agent)
			if k := operator.by().Kind; k != tc.kindO {
				t.Errorf("operator's path is %s", k)
			}
			if k := agent.by().Kind; k != tc.kindA {
				t.Errorf("agent's path is %s", k)
			}
			for _, dir := range [][2]*Link{{operator, agent}, {agent, operator}} {
				for round := range 3 {
					if err := dir[0].WriteSegments(relay1, segments(8, 256), 256); err != nil {
						t.Fatal(err)
					}
					missing := map[uint32]bool{0: true, 1: true, 2: true, 3: true, 4: true, 5: true, 6: true, 7: true}
					for _, d := range receive(t, dir[1], 8) {
						if n := binary.BigEndian.Uint32(d); len(d) != 252 || !missing[n] {
							t.Fatalf("round %d, number %d: %d bytes", round, n, len(d))
						} else {
							delete(missing, n)
						}
					}
				}
			}
		})
	}
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
		<-time.After(time.Millisecond)
	}
}

// deaf is a UDP socket that swallows everything, as a firewall does.
func deaf(t testing.TB) string {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

// refusing is an address of TCP where nobody listens, and nobody can as long as the test
// runs: it is that of a connection. One that was closed may be another program's soon.
func refusing(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

func TestTCPTakesOverWhenUDPDoesNotAnswer(t *testing.T) {
	r := startRelay(t)
	cred, _ := r.mint(wire.RelayEndpoint{UDP: deaf(t), TCP: r.tcp})
	began := time.Now()
	l := dial(t, cred)
	if l.by().Kind != RelayTCP {
		t.Errorf("path is %v", l.by())
	}
	if d := time.Since(began); d < shortStart || d > perRelay {
		t.Errorf("took %v", d)
	}
}

// On a busy machine the answer by UDP can be later than its head start, and nothing
// is wrong then; it is not so every time.
func TestUDPWinsWhenBothAnswer(t *testing.T) {
	r := startRelay(t)
	until(t, "UDP to win", func() bool {
		cred, _ := r.mint(wire.RelayEndpoint{UDP: r.udp, TCP: r.tcp})
		s := dial(t, cred).by()
		if s.Kind == RelayTCP && s.Name == r.tcp {
			return false
		}
		if s.Kind != RelayUDP || s.Name != r.udp {
			t.Fatalf("path is %v", s)
		}
		return true
	})
}

func TestSecondRelayServesWhenTheFirstRefuses(t *testing.T) {
	first, second := startRelay(t), startRelay(t) // the first has another secret
	cred, _ := second.mint(wire.RelayEndpoint{UDP: first.udp}, wire.RelayEndpoint{UDP: second.udp})
	l := dial(t, cred)
	var s []RelayState
	until(t, "the reason", func() bool { s = l.Relays(); return s[0].Err != nil && !s[0].Up && s[1].Up }) // and then it is tried again
	if len(s) != 2 || s[1].Name != second.udp || s[1].Via != (path.Via{Relay: 2}) {
		t.Errorf("relays are %+v", s)
	}
}

func TestNoRelayIsNamedInTheRefusal(t *testing.T) {
	r := startRelay(t)
	cred, _ := r.mint(wire.RelayEndpoint{UDP: r.udp})
	cred.Password = make([]byte, 32)
	_, err := Open(t.Context(), Config{Relay: cred})
	if refusal.Of(err) != refusal.RelayFailed || !bytes.Contains([]byte(err.Error()), []byte("udp "+r.udp)) {
		t.Errorf("got %v", err)
	}
	for _, n := range []int{0, wire.MaxRelayEndpoints + 1} {
		cred.Endpoints = make([]wire.RelayEndpoint, n)
		if _, err := Open(t.Context(), Config{Relay: cred}); refusal.Of(err) != refusal.RelayFailed {
			t.Errorf("%d endpoints: %v", n, err)
		}
	}
}

// TestARelayThatNeverGrantsIsSaidToHaveBeenSilent: it challenges, so the wait for it ends by
// our own clock, and what a person reads must not be that we canceled something.
func TestARelayThatNeverGrantsIsSaidToHaveBeenSilent(t *testing.T) {
	t.Parallel()
	r := startRelay(t)
	p := newProxy(t, r.udp, func(t guard.Type, _ []byte) bool { return t == guard.AllocateError })
	cred, _ := r.mint(wire.RelayEndpoint{UDP: p.addr})
	_, err := Open(t.Context(), Config{Relay: cred})
	if refusal.Of(err) != refusal.RelayFailed || !strings.Contains(err.Error(), "no answer") || strings.Contains(err.Error(), "cancel") {
		t.Errorf("got %v", err)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	r := startRelay(t)
	cred, _ := r.mint(wire.RelayEndpoint{UDP: deaf(t)})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := Open(ctx, Config{Relay: cred}); err != context.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
	if d := time.Since(began); d >= perRelay {
		t.Errorf("took %v", d)
	}
}

func TestCloseFreesTheAllocationAndEndsReading(t *testing.T) {
	r := startRelay(t)
	cred, _ := r.mint(wire.RelayEndpoint{UDP: r.udp})
	l := dial(t, cred)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := l.ReadBatch(context.Background()); err != net.ErrClosed {
			t.Errorf("reading: %v", err)
		}
	})
	for range 2 {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	wg.Wait()
	if err := l.WriteSegments(relay1, make([]byte, 64), 64); err != net.ErrClosed {
		t.Errorf("writing: %v", err)
	}
	until(t, "the relay to forget", func() bool { return r.server.Snapshot().Allocations == 0 })
}

// probeT3 is a Data indication with an empty address, which panics the STUN library.
func probeT3() []byte {
	probe := append([]byte{0, 0x17, 0, 12, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...)
	return append(probe, 0, 0x13, 0, 4, 0, 0, 0, 0, 0, 0x12, 0, 0)
}

func TestT3ProbesAndStrangersAreDropped(t *testing.T) {
	r := startRelay(t)
	operator, agent := pair(t, r, wire.RelayEndpoint{UDP: r.udp}, wire.RelayEndpoint{UDP: r.udp})
	ready(t, operator, agent)
	port := operator.socks[0].port()
	stranger, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	channel := []byte{0x40, 0, 0, 4, 'e', 'v', 'i', 'l'}
	for _, b := range [][]byte{probeT3(), channel} {
		if _, err := stranger.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "two drops", func() bool { return operator.stats.Snapshot()["wrong_source"] == 2 })
	if err := agent.WriteSegments(relay1, segments(1, 64), 64); err != nil {
		t.Fatal(err)
	}
	if d := receive(t, operator, 1)[0]; len(d) != 60 {
		t.Errorf("%d bytes came first", len(d))
	}
}

// The chosen relay is not to be trusted with pion's parser either.
func TestT3ProbesOfTheRelayItselfAreDropped(t *testing.T) {
	r := startRelay(t)
	p := newProxy(t, r.udp, nil)
	operator, agent := pair(t, r, wire.RelayEndpoint{UDP: p.addr}, wire.RelayEndpoint{UDP: r.udp})
	ready(t, operator, agent)
	p.mu.Lock()
	client := p.client
	p.mu.Unlock()
	if _, err := p.near.WriteTo(probeT3(), client); err != nil {
		t.Fatal(err)
	}
	until(t, "one drop", func() bool { return operator.stats.Snapshot()["bad_attribute"] == 1 })
	if err := agent.WriteSegments(relay1, segments(1, 64), 64); err != nil {
		t.Fatal(err)
	}
	if d := receive(t, operator, 1)[0]; len(d) != 60 {
		t.Errorf("%d bytes came first", len(d))
	}
}

func TestSegmentsThatTheLinkCannotCarryAreRefused(t *testing.T) {
	l := &Link{}
	for _, c := range [][2]int{{64, 0}, {64, Headroom}, {64, 62}, {70, 64}, {2000, guard.MaxFrame + 4}} {
		if l.WriteSegments(relay1, make([]byte, c[0]), c[1]) == nil {
			t.Errorf("%d bytes in segments of %d were taken", c[0], c[1])
		}
	}
}
