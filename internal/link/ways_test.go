package link

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
	"github.com/tucdesk/tucdesk/relay/hop"
)

// startEverything is a relay with every transport.
func startEverything(t testing.TB, secret credential.Secret) (end wire.RelayEndpoint, stop func()) {
	t.Helper()
	id, err := hop.New()
	if err != nil {
		t.Fatal(err)
	}
	any := netip.MustParseAddrPort("127.0.0.1:0")
	s, err := relay.Start(t.Context(), relay.Config{
		UDP: any, TCP: any, TLS: any, DTLS: any, Identity: id, WebSocket: true, Secret: secret,
		Limits: relay.Limits{ControlPerSecond: 1 << 20, ControlTotal: 1 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("relay: %v", err)
		}
	})
	t.Cleanup(stop)
	a := s.Addrs()
	return wire.RelayEndpoint{
		UDP: a.UDP.String(), TCP: a.TCP.String(), TLS: a.TLS.String(), DTLS: a.DTLS.String(),
		WebSocket: a.TLS.String(), Key: key.Hash(id.Pin()),
	}, stop
}

func mint(secret credential.Secret, ends ...wire.RelayEndpoint) (operator, agent wire.Relay) {
	r := testRelay{secret: secret}
	return r.mint(ends...)
}

// only keeps one transport of an endpoint.
func only(k Kind, e wire.RelayEndpoint) wire.RelayEndpoint {
	out := wire.RelayEndpoint{Key: e.Key}
	switch k {
	case RelayUDP:
		out.UDP = e.UDP
	case RelayTCP:
		out.TCP = e.TCP
	case RelayTLS:
		out.TLS = e.TLS
	case RelayDTLS:
		out.DTLS = e.DTLS
	case RelayWebSocket:
		out.WebSocket = e.WebSocket
	}
	return out
}

func TestEveryKindOfWayToTheRelayCarriesData(t *testing.T) {
	secret := credential.NewSecret()
	end, _ := startEverything(t, secret)
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			co, ca := mint(secret, end)
			co.Endpoints = []wire.RelayEndpoint{only(k, end)}
			operator, agent := dial(t, co), dial(t, ca)
			if s := operator.Relays()[0]; s.Kind != k || !s.Up {
				t.Fatalf("relay is %v", s)
			}
			for _, dir := range [][2]*Link{{operator, agent}, {agent, operator}} {
				until(t, "the channel", dir[0].alloc().bound.Load)
				if err := dir[0].WriteSegments(first, segments(20, 1200), 1200); err != nil {
					t.Fatal(err)
				}
				seen := map[uint32]bool{}
				for _, d := range receive(t, dir[1], 20) {
					seen[binary.BigEndian.Uint32(d)] = len(d) == 1200-Headroom
				}
				if len(seen) != 20 {
					t.Errorf("%d of 20 came", len(seen))
				}
			}
		})
	}
}

// TestARelayThatIsKilledIsLeftAndFoundAgain: the other one carries on, and the
// lost one is dialled until it is back.
func TestARelayThatIsKilledIsLeftAndFoundAgain(t *testing.T) {
	secret := credential.NewSecret()
	one, stop := startEverything(t, secret)
	two, _ := startEverything(t, secret)
	co, ca := mint(secret, only(RelayTCP, one), only(RelayUDP, two))
	operator, agent := dial(t, co), dial(t, ca)
	second := path.Via{Relay: 2}
	up := func(want ...bool) func() bool {
		return func() bool {
			for _, l := range []*Link{operator, agent} {
				for i, s := range l.Relays() {
					if s.Up != want[i] {
						return false
					}
				}
			}
			return true
		}
	}
	until(t, "both relays", up(true, true))
	stop()
	until(t, "the loss to be noticed", up(false, true))
	if err := operator.WriteSegments(first, segments(1, 64), 64); err != nil {
		t.Errorf("writing to a relay that is gone: %v", err)
	}
	if err := operator.WriteSegments(second, segments(1, 64), 64); err != nil {
		t.Fatal(err)
	}
	if d := receive(t, agent, 1)[0]; len(d) != 60 {
		t.Errorf("%d bytes", len(d))
	}
}

// TestRecheckNoticesARelayThatForgotUs: over UDP nothing else would.
func TestRecheckNoticesARelayThatForgotUs(t *testing.T) {
	secret := credential.NewSecret()
	end, stop := startEverything(t, secret)
	co, _ := mint(secret, only(RelayUDP, end))
	l := dial(t, co)
	stop()
	l.Recheck(first)
	until(t, "the loss to be noticed", func() bool { return !l.Relays()[0].Up })
	addr := netip.MustParseAddrPort(end.UDP)
	s, err := relay.Start(t.Context(), relay.Config{UDP: addr, Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	until(t, "the relay's return", func() bool { return l.Relays()[0].Up })
}

func direct(t testing.TB, cred wire.Relay) *Link {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l, err := Open(ctx, Config{Relay: cred, Direct: true, Fixed: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:99")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestDirectDatagramsAndCandidates: what is announced can be reached, and the
// relay sees the same socket.
func TestDirectDatagramsAndCandidates(t *testing.T) {
	secret := credential.NewSecret()
	end, _ := startEverything(t, secret)
	co, ca := mint(secret, only(RelayUDP, end))
	operator, agent := direct(t, co), direct(t, ca)
	list := agent.Candidates()
	at := slices.IndexFunc(list, func(c path.Candidate) bool { return c.Addr.Addr() == netip.MustParseAddr("127.0.0.1") })
	if at < 0 || !slices.Contains(list, path.Candidate{Kind: path.Configured, Addr: netip.MustParseAddrPort("192.0.2.9:99")}) {
		t.Fatalf("candidates %v", list)
	}
	if seen := agent.alloc().reflexive.Load(); seen == nil || seen.Port() != list[at].Addr.Port() {
		t.Errorf("the relay sees %v, we announce %v", seen, list[at])
	}
	b := segments(70, 1248)
	for seg := range slices.Chunk(b, 1248) {
		seg[Headroom+4] = 0xd8 // behind the number; the first byte is what counts
		copy(seg[Headroom:], []byte{0xd8, seg[Headroom+1], seg[Headroom+2], seg[Headroom+3]})
	}
	if err := operator.WriteSegments(path.Via{Addr: list[at].Addr}, b, 1248); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	seen := map[byte]bool{}
	for len(seen) < 70 {
		batch, err := agent.ReadBatch(ctx)
		if err != nil {
			t.Fatalf("after %d of 70: %v", len(seen), err)
		}
		for _, d := range batch {
			if d.Via.Relayed() || d.Via.Addr.Port() != operator.hosts[0].conn.LocalAddr().Port() || len(d.B) != 1244 {
				t.Fatalf("%d bytes by %v", len(d.B), d.Via)
			}
			seen[d.B[3]] = true
		}
	}
}

// TestT3StrangersToADirectSocket: only what looks like a sealed datagram passes,
// and nothing from a stranger reaches the parser of control messages.
func TestT3StrangersToADirectSocket(t *testing.T) {
	secret := credential.NewSecret()
	end, _ := startEverything(t, secret)
	co, _ := mint(secret, only(RelayUDP, end))
	l := direct(t, co)
	stranger, err := net.Dial("udp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), l.hosts[0].conn.LocalAddr().Port()).String())
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	stun := guard.NewMessage(guard.DataIndication, [12]byte{1})
	bad := [][]byte{stun, {0x40, 0, 0, 4, 1, 2, 3, 4}, make([]byte, 31), make([]byte, 40), append([]byte{0xd8}, make([]byte, 1500)...), append([]byte{0xe0}, make([]byte, 40)...)}
	for _, b := range bad {
		if _, err := stranger.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the drops", func() bool { return l.Drops()["wrong_source"] == uint64(len(bad)) })
	if _, err := stranger.Write(append([]byte{0xd8}, make([]byte, 40)...)); err != nil {
		t.Fatal(err)
	}
	if d := receive(t, l, 1)[0]; len(d) != 41 {
		t.Errorf("%d bytes came first", len(d))
	}
}

// memory remembers for a test.
type memory struct {
	mu sync.Mutex
	m  map[string]Kind
}

func (m *memory) Load(n string) Kind     { m.mu.Lock(); defer m.mu.Unlock(); return m.m[n] }
func (m *memory) Store(n string, k Kind) { m.mu.Lock(); defer m.mu.Unlock(); m.m[n] = k }

// TestTheKindThatWorkedIsTriedFirst: without UDP the second link does not wait for
// it again.
func TestTheKindThatWorkedIsTriedFirst(t *testing.T) {
	secret := credential.NewSecret()
	end, _ := startEverything(t, secret)
	end.UDP = deaf(t)
	m := &memory{m: map[string]Kind{}}
	var took [2]time.Duration
	for i := range took {
		co, _ := mint(secret, end)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		began := time.Now()
		l, err := Open(ctx, Config{Relay: co, Remember: m})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		took[i] = time.Since(began)
		if s := l.Relays()[0]; s.Kind != RelayTCP {
			t.Errorf("relay is %v", s)
		}
		l.Close()
	}
	if took[0] < stagger || took[1] >= stagger {
		t.Errorf("took %v and %v; a lead is %v", took[0], took[1], stagger)
	}
}

// TestUDPThatSpokeIsWaitedFor: a relay whose answers over UDP are slow is not
// asked over TCP as well, which would throw the first allocation out.
func TestUDPThatSpokeIsWaitedFor(t *testing.T) {
	r := startRelay(t)
	slow := newProxy(t, r.udp, func(typ guard.Type, _ []byte) bool {
		if typ == guard.AllocateSuccess {
			<-time.After(3 * stagger)
		}
		return true
	})
	cred, _ := r.mint(wire.RelayEndpoint{UDP: slow.addr, TCP: r.tcp})
	if s := dial(t, cred).Relays()[0]; s.Kind != RelayUDP {
		t.Errorf("relay is %v", s)
	}
	if n := r.server.Snapshot().Allocations; n != 1 {
		t.Errorf("%d allocations", n)
	}
}
