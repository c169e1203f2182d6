package link

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// TestReflexiveAddressIsWhatTheRelaySees: the far side of what stands between.
func TestReflexiveAddressIsWhatTheRelaySees(t *testing.T) {
	r := startFull(t, credential.NewSecret())
	p := newProxy(t, r.udp, nil)
	cred, _ := r.mint(wire.RelayEndpoint{UDP: p.addr}, r.only(RelayTCP))
	l := open(t, Config{Relay: cred, Direct: true})
	until(t, "both relays", func() bool { return l.slots[0].isGranted() && l.slots[1].isGranted() })
	far := p.port().LocalAddr().(*net.UDPAddr).AddrPort()
	list := l.Candidates()
	has := func(k path.Kind, a netip.AddrPort) bool {
		return slices.Contains(list, path.Candidate{Kind: k, Addr: a})
	}
	own := netip.AddrPortFrom(far.Addr(), l.socks[0].port())
	if far == own {
		t.Errorf("candidates %v", list)
	}
	// A machine that has only loopback offers it as its own address, with the port
	// of its own socket; then what the relay sees is still another port.
	if !has(path.Reflexive, far) {
		t.Errorf("%v is not among %v", far, list)
	}
	for _, c := range list {
		if c.Addr.Port() == 0 || c.Kind == path.Host && c.Addr.Port() != l.family(c.Addr.Addr()).port() {
			t.Errorf("candidate %v", c)
		}
	}
	if cred, _ := r.mint(r.only(RelayUDP)); open(t, Config{Relay: cred}).Candidates() != nil {
		t.Error("a link without direct paths offers some")
	}
}

// TestForgedReflexiveAddressIsNoAnswer: it would have both ends probe a victim.
func TestForgedReflexiveAddressIsNoAnswer(t *testing.T) {
	r := startFull(t, credential.NewSecret())
	var forged atomic.Int32
	p := newProxy(t, r.udp, func(typ guard.Type, b []byte) bool {
		if v, ok := guard.Find(b, guard.AttrMappedAddress); ok && typ == guard.AllocateSuccess {
			v[7] ^= 1
			forged.Add(1)
		}
		return true
	})
	cred, _ := r.mint(wire.RelayEndpoint{UDP: p.addr})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opened := make(chan error, 1)
	go func() {
		_, err := Open(ctx, Config{Relay: cred, Direct: true})
		opened <- err
	}()
	until(t, "two forgeries", func() bool { return forged.Load() >= 2 }) // who believes none asks again
	cancel()
	if err := <-opened; err != context.Canceled {
		t.Errorf("after %d forgeries: %v", forged.Load(), err)
	}
}

func directTo(l *Link) path.Via {
	return path.Via{Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), l.socks[0].port())}
}

func TestDirectDatagramsPassBothWaysAndOthersDoNot(t *testing.T) {
	r := startFull(t, credential.NewSecret())
	co, ca := r.mint(r.only(RelayUDP))
	operator, agent := open(t, Config{Relay: co, Direct: true}), open(t, Config{Relay: ca, Direct: true})
	for _, way := range [][2]*Link{{operator, agent}, {agent, operator}} {
		for _, c := range []struct{ n, size, last int }{{1, 64, 64}, {1, 1252, 1252}, {40, 1252, 1252}, {40, 1252, 300}, {3, 36, 36}} {
			b := make([]byte, (c.n-1)*c.size+c.last)
			want := map[string]bool{}
			for i := 0; i*c.size < len(b); i++ {
				seg := b[i*c.size : min(len(b), (i+1)*c.size)]
				for j := range seg {
					seg[j] = byte(i + j)
				}
				seg[Headroom] = 0xd4
				want[string(seg[Headroom:])] = true
			}
			if err := way[0].WriteSegments(directTo(way[1]), b, c.size); err != nil {
				t.Fatal(err)
			}
			for _, d := range receiveDatagrams(t, way[1], c.n) {
				if !want[string(d.B)] || d.Via != directTo(way[0]) {
					t.Fatalf("%d bytes by %v", len(d.B), d.Via)
				}
			}
		}
	}
	for _, d := range [][]byte{bytes.Repeat([]byte{0xc0}, 64), bytes.Repeat([]byte{0x40}, 64), bytes.Repeat([]byte{0x00}, 64), bytes.Repeat([]byte{0xd4}, 28)} {
		operator.WriteSegments(directTo(agent), append(make([]byte, Headroom), d...), Headroom+len(d))
	}
	until(t, "four drops", func() bool { return agent.stats.Snapshot()["wrong_source"] == 4 })
}

// TestUnaskedDirectDatagramsAreDropped by a link without direct paths.
func TestUnaskedDirectDatagramsAreDropped(t *testing.T) {
	r := startFull(t, credential.NewSecret())
	co, ca := r.mint(r.only(RelayUDP))
	operator, agent := open(t, Config{Relay: co, Direct: true}), open(t, Config{Relay: ca})
	b := bytes.Repeat([]byte{0xd4}, 68)
	operator.WriteSegments(directTo(agent), b, 68)
	until(t, "the drop", func() bool { return agent.stats.Snapshot()["wrong_source"] == 1 })
	agent.WriteSegments(directTo(operator), bytes.Repeat([]byte{0xd4}, 68), 68)
	agent.WriteSegments(relay1, segments(1, 64), 64)
	for _, d := range receiveDatagrams(t, operator, 1) {
		if !d.Via.Relayed() {
			t.Errorf("came by %v", d.Via)
		}
	}
}

// TestRelayCannotSpeakAsADirectPath: whatever comes from a relay's address is
// judged by the guard, also what would pass from elsewhere.
func TestRelayCannotSpeakAsADirectPath(t *testing.T) {
	r := startFull(t, credential.NewSecret())
	p := newProxy(t, r.udp, nil)
	cred, _ := r.mint(wire.RelayEndpoint{UDP: p.addr})
	l := open(t, Config{Relay: cred, Direct: true})
	before := l.stats.Snapshot()["bad_type"]
	p.inject(bytes.Repeat([]byte{0xd4}, 64))
	until(t, "the drop", func() bool { return l.stats.Snapshot()["bad_type"] == before+1 })
	// And we send it nothing but frames.
	if err := l.WriteSegments(path.Via{Addr: netip.MustParseAddrPort(p.addr)}, bytes.Repeat([]byte{0xd4}, 64), 64); err != nil {
		t.Error(err)
	}
}

func TestWaysThatDoNotExistLoseWhatTheyGet(t *testing.T) {
	r := startFull(t, credential.NewSecret())
	cred, _ := r.mint(r.only(RelayUDP), wire.RelayEndpoint{UDP: deaf(t)})
	l := open(t, Config{Relay: cred, Direct: true})
	for _, v := range []path.Via{{}, {Relay: 2}, {Relay: 3}, {Relay: 255}, {Socket: 2, Addr: netip.MustParseAddrPort("127.0.0.1:9")}, {Socket: 1, Addr: netip.MustParseAddrPort("127.0.0.1:9")}, {Addr: netip.MustParseAddrPort("[::1]:9")}} {
		if err := l.WriteSegments(v, segments(2, 64), 64); err != nil {
			t.Errorf("%v: %v", v, err)
		}
	}
}
