package link

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// counts are datagrams by relay; 0 is the direct path.
type counts struct {
	n [wire.MaxRelayEndpoints + 1]atomic.Int64
}

func (c *counts) by(relay int) int64 { return c.n[relay].Load() }

var allKinds = []Kind{RelayUDP, RelayTCP, RelayTLS, RelayDTLS, RelayWebSocket}

func TestEveryKindCarriesDatagrams(t *testing.T) {
	r := startFull(t, credential.NewSecret())
	for _, k := range allKinds {
		t.Run(string(k), func(t *testing.T) {
			operator, agent := pair(t, &r.testRelay, r.only(k), r.only(RelayUDP))
			ready(t, operator, agent)
			if got := operator.by().Kind; got != k {
				t.Errorf("kind is %s", got)
			}
			for _, way := range [][2]*Link{{operator, agent}, {agent, operator}} {
				if err := way[0].WriteSegments(relay1, segments(10, 1252), 1252); err != nil {
					t.Fatal(err)
				}
				for _, d := range receive(t, way[1], 10) {
					if len(d) != 1248 {
						t.Errorf("%d bytes", len(d))
					}
				}
				// Records of DTLS may be sent on in parts, so they cannot show what a path carries.
				var want []int
				if way[0].by().Kind != RelayDTLS {
					want = append(want, path.Wide)
				}
				want = append(want, 60)
				way[0].WriteWhole(relay1, segments(1, path.Wide+Headroom))
				if err := way[0].WriteSegments(relay1, segments(1, 64), 64); err != nil {
					t.Fatal(err)
				}
				for i, d := range receive(t, way[1], len(want)) {
					if len(d) != want[i] {
						t.Errorf("%d bytes instead of %d", len(d), want[i])
					}
				}
			}
		})
	}
}

// TestKilledRelayLeavesTheOther: what goes by the second does not stop, and the
// first is used again when it is back, though it knows nobody any more.
func TestKilledRelayLeavesTheOther(t *testing.T) {
	secret := credential.NewSecret()
	first, second := startFull(t, secret), startFull(t, secret)
	for _, k := range allKinds {
		t.Run(string(k), func(t *testing.T) {
			co, ca := first.mint(first.only(k), second.only(RelayUDP))
			operator, agent := dial(t, co), dial(t, ca)
			came := drain(t, agent)
			drain(t, operator)
			both := func() {
				for v := range 2 {
					for _, l := range []*Link{operator, agent} {
						if err := l.WriteSegments(path.Via{Relay: uint8(v + 1)}, segments(1, 64), 64); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			writing(t, "both relays", func() bool { return came.by(1) > 0 && came.by(2) > 0 }, both)
			until(t, "the grant", operator.slots[0].isGranted)
			again := operator.one().again() // longer where a round trip met a busy machine
			first.kill()
			before := came.by(2)
			took := writing(t, "the loss to be noticed", func() bool { s := operator.Relays(); return !s[0].Up && s[0].Err != nil && s[1].Up }, both)
			if took > suspectAfter+askPauses*again+slack {
				t.Errorf("noticed after %v", took)
			}
			writing(t, "more from the second", func() bool { return came.by(2) > before }, both)
			first.start()
			before = came.by(1)
			writing(t, "the first to be back", func() bool { return came.by(1) > before }, both)
		})
	}
}

// TestLossRightAfterADoubtIsNoticedAsSoon: the other end was silent for a moment,
// the relay said that it was there, and then it is killed.
func TestLossRightAfterADoubtIsNoticedAsSoon(t *testing.T) {
	t.Parallel()
	r := startFull(t, credential.NewSecret())
	p := newProxy(t, r.udp, nil)
	operator, agent := pair(t, &r.testRelay, wire.RelayEndpoint{UDP: p.addr}, r.only(RelayUDP))
	ready(t, operator, agent)
	came := drain(t, operator)
	drain(t, agent)
	both := func() {
		operator.WriteSegments(relay1, segments(1, 64), 64)
		agent.WriteSegments(relay1, segments(1, 64), 64)
	}
	until(t, "the grant", operator.slots[0].isGranted)
	again := operator.one().again() // longer where a round trip met a busy machine
	poke(operator.one().doubt)
	until(t, "the question", func() bool { return p.count(guard.RefreshRequest) > 0 })
	<-time.After(50 * time.Millisecond) // the answer
	before := came.by(1)
	writing(t, "data", func() bool { return came.by(1) > before }, both)
	r.kill()
	if took := writing(t, "the loss to be noticed", func() bool { return !operator.by().Up }, both); took > suspectAfter+askPauses*again+slack {
		t.Errorf("noticed after %v", took)
	}
}

// TestRestartedRelayIsDialledAgain: it is up all the time as far as anybody can
// see, but knows nobody.
func TestRestartedRelayIsDialledAgain(t *testing.T) {
	r := startFull(t, credential.NewSecret())
	co, ca := r.mint(r.only(RelayUDP))
	operator, agent := dial(t, co), dial(t, ca)
	came := drain(t, agent)
	drain(t, operator)
	write := func() {
		operator.WriteSegments(relay1, segments(1, 64), 64)
		agent.WriteSegments(relay1, segments(1, 64), 64)
	}
	writing(t, "data", func() bool { return came.by(1) > 0 }, write)
	r.kill()
	r.start()
	before := came.by(1)
	if took := writing(t, "data again", func() bool { return came.by(1) > before }, write); took > suspectAfter+askPauses*askLeast+slack {
		t.Errorf("after %v", took)
	}
}

// TestRecheckNoticesALossAtOnce, without any data.
func TestRecheckNoticesALossAtOnce(t *testing.T) {
	secret := credential.NewSecret()
	first, second := startFull(t, secret), startFull(t, secret)
	cred, _ := first.mint(first.only(RelayUDP), second.only(RelayUDP))
	l := dial(t, cred)
	until(t, "both relays", func() bool { return l.slots[0].isGranted() && l.slots[1].isGranted() })
	first.kill()
	began := time.Now()
	for range 1000 {
		l.Recheck(relay1)
		l.Recheck(path.Via{Relay: 2})
	}
	for _, v := range []path.Via{{}, {Relay: 8}, {Relay: 255}} {
		l.Recheck(v)
	}
	until(t, "the loss", func() bool { s := l.Relays(); return !s[0].Up && s[1].Up })
	if d := time.Since(began); d > askPauses*askLeast+slack {
		t.Errorf("after %v", d)
	}
}

// TestChangedAddressIsANewPlaceOnTheRelay: a NAT forgets us and gives us another
// port; the relay takes us from there.
func TestChangedAddressIsANewPlaceOnTheRelay(t *testing.T) {
	t.Parallel()
	r := startFull(t, credential.NewSecret())
	p := newProxy(t, r.udp, nil)
	operator, agent := pair(t, &r.testRelay, wire.RelayEndpoint{UDP: p.addr}, r.only(RelayUDP))
	came, back := drain(t, agent), drain(t, operator)
	write := func() {
		operator.WriteSegments(relay1, segments(1, 64), 64)
		agent.WriteSegments(relay1, segments(1, 64), 64)
	}
	writing(t, "data", func() bool { return came.by(1) > 0 && back.by(1) > 0 }, write)
	for range 3 {
		p.rebind(t)
		a, b := came.by(1), back.by(1)
		if took := writing(t, "data again", func() bool { return came.by(1) > a && back.by(1) > b }, write); took > suspectAfter+askPauses*askLeast+slack {
			t.Errorf("after %v", took)
		}
	}
	writing(t, "both ends, and nothing that is left over", func() bool { return r.server.Snapshot().Allocations == 2 }, write)
}

// TestBetterKindReplacesAWorseOne: UDP is blocked, then it is not. Nobody is told
// to try.
func TestBetterKindReplacesAWorseOne(t *testing.T) {
	t.Parallel()
	for _, k := range []Kind{RelayTCP, RelayTLS, RelayDTLS, RelayWebSocket} {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			r := startFull(t, credential.NewSecret())
			p := newProxy(t, r.udp, nil)
			p.lose(guard.AllocateRequest, true)
			e := r.only(k)
			e.UDP = p.addr
			operator, agent := pair(t, &r.testRelay, e, r.only(RelayUDP))
			if got := operator.by().Kind; got != k {
				t.Fatalf("kind is %s", got)
			}
			came, back := drain(t, agent), drain(t, operator)
			write := func() {
				operator.WriteSegments(relay1, segments(1, 64), 64)
				agent.WriteSegments(relay1, segments(1, 64), 64)
			}
			writing(t, "data", func() bool { return came.by(1) > 0 && back.by(1) > 0 }, write)
			p.lose(guard.AllocateRequest, false)
			writing(t, "UDP", func() bool { return operator.by().Kind == RelayUDP }, write)
			a, b := came.by(1), back.by(1)
			writing(t, "data by UDP", func() bool { return came.by(1) > a && back.by(1) > b && p.channelData() > 0 }, write)
			writing(t, "both ends, and nothing that is left over", func() bool { // an end that had no processor is dialled anew
				return operator.by().Up && r.server.Snapshot().Allocations == 2
			}, write)
		})
	}
}

// TestBlockedUDPCostsNoMoreThanTheHeadStarts, and the refused ports nothing.
func TestBlockedUDPCostsNoMoreThanTheHeadStarts(t *testing.T) {
	r := startFull(t, credential.NewSecret())
	e := r.only(RelayTLS)
	e.UDP, e.TCP = deaf(t), refusing(t)
	cred, _ := r.mint(e)
	began := time.Now()
	l := dial(t, cred)
	if l.by().Kind != RelayTLS {
		t.Errorf("kind is %s", l.by().Kind)
	}
	if d := time.Since(began); d >= perRelay {
		t.Errorf("took %v", d)
	}
}

func TestWaysAreTriedInOrderTheRememberedOneFirst(t *testing.T) {
	e := wire.RelayEndpoint{UDP: "192.0.2.1:1", TCP: "192.0.2.1:2", TLS: "192.0.2.1:3", DTLS: "192.0.2.1:4", WebSocket: "192.0.2.1:5"}
	order := func(e wire.RelayEndpoint, last Kind) (s []string) {
		for _, w := range ways(e, last) {
			s = append(s, strings.Fields(w.String())[0])
		}
		return s
	}
	for last, want := range map[Kind]string{
		"": "udp tcp tls dtls ws", RelayUDP: "udp tcp tls dtls ws", RelayWebSocket: "ws udp tcp tls dtls", "nonsense": "udp tcp tls dtls ws",
	} {
		if got := strings.Join(order(e, last), " "); got != want {
			t.Errorf("after %q: %s", last, got)
		}
	}
	e = wire.RelayEndpoint{UDP: "relay.example:1", TLS: "relay.example:3"}
	if got := order(e, ""); !slices.Equal(got, []string{"udp", "udp", "tls"}) { // both families
		t.Errorf("a name: %v", got)
	}
	if got := ways(wire.RelayEndpoint{}, ""); got != nil {
		t.Errorf("nothing: %v", got)
	}
}

func TestChoiceIsRememberedForTheNetwork(t *testing.T) {
	r := startFull(t, credential.NewSecret())
	e := r.only(RelayTLS)
	e.UDP = deaf(t)
	m := NewMemory()
	for range 2 {
		cred, _ := r.mint(e)
		l := open(t, Config{Relay: cred, Remember: m})
		until(t, "what was learnt", func() bool { return m.Load(l.network.fingerprint()) != "" })
		if err := l.Close(); err != nil { // or it goes on learning, beside what follows
			t.Error(err)
		}
		if got := m.Load(l.network.fingerprint()); got != RelayTLS {
			t.Errorf("remembered %q", got)
		}
	}
	for i := range 3 * MaxNetworks {
		m.Store(fmt.Sprint(i), RelayUDP)
	}
	if n := len(m.(*memory).kinds); n > MaxNetworks {
		t.Errorf("%d networks", n)
	}
}

// TestSpareStandsInForRelaysThatFail, and does not when it is not needed.
func TestSpareStandsInForRelaysThatFail(t *testing.T) {
	t.Parallel()
	secret := credential.NewSecret()
	var relays []*fullRelay
	var list []wire.RelayEndpoint
	for range 3 {
		r := startFull(t, secret)
		relays, list = append(relays, r), append(list, r.only(RelayUDP))
	}
	var operator, agent *Link
	up := func(l *Link) (s string) {
		for _, r := range l.Relays() {
			s += map[bool]string{true: "u", false: "-"}[r.Up]
		}
		return s
	}
	write := func() {
		for v := range 3 {
			operator.WriteSegments(path.Via{Relay: uint8(v + 1)}, segments(1, 64), 64)
			agent.WriteSegments(path.Via{Relay: uint8(v + 1)}, segments(1, 64), 64)
		}
	}
	var came *counts
	until(t, "two relays that need no spare", func() bool { // on a busy machine one comes so late that it does
		co, ca := relays[0].mint(list...)
		operator, agent = dial(t, co), dial(t, ca)
		came = drain(t, agent)
		drain(t, operator)
		working := func(l *Link) bool { return strings.HasPrefix(up(l), "uu") }
		writing(t, "two relays", func() bool { return working(operator) && working(agent) && came.by(2) > 0 }, write)
		if up(operator) == "uu-" && up(agent) == "uu-" {
			return true
		}
		operator.Close()
		agent.Close()
		return false
	})
	relays[1].kill()
	writing(t, "the spare", func() bool { return up(operator) == "u-u" && up(agent) == "u-u" && came.by(3) > 0 }, write)
}

// TestSpareIsFoundByTheEndThatSeesNothingWrong: the agent cannot reach the first
// two. The operator can, but hears nobody there.
func TestSpareIsFoundByTheEndThatSeesNothingWrong(t *testing.T) {
	t.Parallel()
	secret := credential.NewSecret()
	var own, foreign []wire.RelayEndpoint
	var r *fullRelay
	for i := range 3 {
		r = startFull(t, secret)
		own = append(own, r.only(RelayUDP))
		if i < 2 {
			foreign = append(foreign, wire.RelayEndpoint{UDP: deaf(t)})
		}
	}
	co, ca := r.mint(own...)
	ca.Endpoints = append(foreign, own[2])
	operator, agent := dial(t, co), dial(t, ca)
	came := drain(t, agent)
	drain(t, operator)
	writing(t, "the spare", func() bool { return came.by(3) > 0 }, func() {
		for v := range 3 {
			operator.WriteSegments(path.Via{Relay: uint8(v + 1)}, segments(1, 64), 64)
		}
	})
}

func TestRefusalNamesEveryLegAndWhy(t *testing.T) {
	r := startFull(t, credential.NewSecret())
	closed := refusing(t)
	wrongKey := r.only(RelayTLS)
	wrongKey.Key[0] ^= 1
	wrongPassword, _ := startRelay(t).mint(wire.RelayEndpoint{TCP: closed}, wrongKey, r.only(RelayUDP))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := Open(ctx, Config{Relay: wrongPassword})
	if refusal.Of(err) != refusal.RelayFailed {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"relay 1: tcp " + closed, "refused", "relay 2: tls " + wrongKey.TLS, "pin_mismatch", "relay 3: udp " + r.all.UDP, "400"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
	if strings.Contains(err.Error(), credential.Text(wrongPassword.Password)) {
		t.Error("the password is")
	}
}

// TestRenewedListOfRelaysIsUsed: a relay more, and one that has moved.
func TestRenewedListOfRelaysIsUsed(t *testing.T) {
	secret := credential.NewSecret()
	first, second, moved := startFull(t, secret), startFull(t, secret), startFull(t, secret)
	cred, _ := first.mint(first.only(RelayUDP))
	l := dial(t, cred)
	cred.Endpoints = []wire.RelayEndpoint{first.only(RelayUDP), second.only(RelayTLS)}
	if err := l.renewWithin(t, patience, first.next(t, cred, time.Hour)); err != nil {
		t.Fatal(err)
	}
	until(t, "two relays", func() bool { s := l.Relays(); return len(s) == 2 && s[0].Up && s[1].Up && s[1].Kind == RelayTLS })
	cred.Endpoints = []wire.RelayEndpoint{moved.only(RelayUDP)}
	if err := l.renewWithin(t, patience, first.next(t, cred, time.Hour)); err != nil {
		t.Fatal(err)
	}
	until(t, "the one that has moved", func() bool { s := l.Relays(); return len(s) == 1 && s[0].Up && s[0].Name == moved.udp })
	until(t, "the others to be left", func() bool {
		return first.server.Snapshot().Allocations == 0 && second.server.Snapshot().Allocations == 0
	})
	cred.Endpoints = nil // the list in use
	if err := l.renewWithin(t, patience, first.next(t, cred, time.Hour)); err != nil || len(l.Relays()) != 1 {
		t.Errorf("%v, %v", err, l.Relays())
	}
}

func TestChangesAreTold(t *testing.T) {
	r := startFull(t, credential.NewSecret())
	cred, _ := r.mint(r.only(RelayTCP))
	l := dial(t, cred)
	drain(t, l)
	<-l.Changed() // of Open
	r.kill()
	for l.Relays()[0].Up {
		select {
		case <-l.Changed():
		case <-time.After(patience):
			t.Fatal("nothing was told")
		}
	}
}

func TestAddressesAreReadAsTheyAreWritten(t *testing.T) {
	id := [12]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	// 192.0.2.1:32853 of RFC 5769, section 2.2.
	if a := readAddress([]byte{0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43}, id); a != netip.MustParseAddrPort("192.0.2.1:32853") {
		t.Errorf("got %v", a)
	}
	want := netip.MustParseAddrPort("[2001:db8::7]:5")
	v := []byte{0, 2, 0x21, 0x12 ^ 5}
	raw := want.Addr().As16()
	mask := append([]byte{0x21, 0x12, 0xa4, 0x42}, id[:]...)
	for i := range raw {
		v = append(v, raw[i]^mask[i])
	}
	if a := readAddress(v, id); a != want {
		t.Errorf("got %v", a)
	}
}

func TestHostAddressesAreThoseOthersCanUse(t *testing.T) {
	for _, loopback := range []bool{false, true} {
		list, real := hostAddrs(loopback), 0
		for _, a := range list {
			if !a.IsLoopback() {
				real++
			}
			if a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" || a.Is4In6() {
				t.Errorf("address %v", a)
			}
		}
		if loopback && len(list) == real {
			t.Errorf("no loopback among %v", list)
		}
		if !loopback && real > 0 && real != len(list) {
			t.Errorf("loopback among %v", list)
		}
	}
}

func TestNetworksHaveNamesThatOutliveALease(t *testing.T) {
	four, other := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("198.51.100.7")
	six := netip.MustParseAddr("2001:db8::7")
	if fingerprint(four, six) != fingerprint(netip.MustParseAddr("192.0.2.8"), netip.MustParseAddr("2001:db8::8")) {
		t.Error("a new lease is another network")
	}
	if fingerprint(four, six) == fingerprint(other, six) || fingerprint(four, netip.Addr{}) == fingerprint(netip.Addr{}, netip.Addr{}) {
		t.Error("two networks have one name")
	}
	if strings.Contains(fingerprint(four, six), "192") {
		t.Error("the name tells the address")
	}
}
