package link

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tucdesk/tucdesk/internal/carrier"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// proxy stands between one UDP client and the relay.
type proxy struct {
	addr string

	mu   sync.Mutex
	seen map[guard.Type]int                // guarded by mu; control messages to the relay
	data int                               // guarded by mu; ChannelData to the relay
	user map[guard.Type]string             // guarded by mu; who signed the last of them
	edit func(t guard.Type, b []byte) bool // guarded by mu; of control messages to the client; false drops
	drop map[guard.Type]bool               // guarded by mu; never reach the relay
}

func newProxy(t testing.TB, relay string, edit func(guard.Type, []byte) bool) *proxy {
	t.Helper()
	near, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	far, err := net.Dial("udp4", relay)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: near.LocalAddr().String(), seen: map[guard.Type]int{}, user: map[guard.Type]string{}, edit: edit}
	var client net.Addr // guarded by p.mu
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := near.ReadFrom(buf)
			if err != nil {
				return
			}
			p.mu.Lock()
			client = from
			if guard.IsChannelData(buf[:n]) {
				p.data++
			} else {
				p.seen[guard.TypeOf(buf[:n])]++
				name, _ := guard.Find(buf[:n], guard.AttrUsername)
				p.user[guard.TypeOf(buf[:n])] = string(name)
			}
			lost := !guard.IsChannelData(buf[:n]) && p.drop[guard.TypeOf(buf[:n])]
			p.mu.Unlock()
			if !lost {
				far.Write(buf[:n])
			}
		}
	})
	wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, err := far.Read(buf)
			if err != nil {
				return
			}
			p.mu.Lock()
			to, edit := client, p.edit
			p.mu.Unlock()
			if guard.IsChannelData(buf[:n]) || edit == nil || edit(guard.TypeOf(buf[:n]), buf[:n]) {
				near.WriteTo(buf[:n], to)
			}
		}
	})
	t.Cleanup(func() {
		near.Close()
		far.Close()
		wg.Wait()
	})
	return p
}

func (p *proxy) count(t guard.Type) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[t]
}

func (p *proxy) signer(t guard.Type) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.user[t]
}

// TestFirstDatagramNeedsThreeRoundTrips: Allocate twice, CreatePermission once.
// The answer to ChannelBind never comes here, and data flows in both directions.
func TestFirstDatagramNeedsThreeRoundTrips(t *testing.T) {
	r := startRelay(t)
	deafToBind := newProxy(t, r.udp, func(t guard.Type, _ []byte) bool { return t != guard.ChannelBindSuccess })
	operator, agent := pair(t, r, wire.RelayEndpoint{UDP: deafToBind.addr}, wire.RelayEndpoint{UDP: r.udp})
	if a, c := deafToBind.count(guard.AllocateRequest), deafToBind.count(guard.CreatePermissionRequest); a != 2 || c != 1 {
		t.Errorf("%d Allocate and %d CreatePermission requests", a, c)
	}
	for _, dir := range [][2]*Link{{operator, agent}, {agent, operator}} {
		if err := dir[0].WriteSegments(first, segments(3, 128), 128); err != nil {
			t.Fatal(err)
		}
		seen := map[uint32]bool{}
		for _, d := range receive(t, dir[1], 3) {
			seen[binary.BigEndian.Uint32(d)] = len(d) == 124
		}
		if !seen[0] || !seen[1] || !seen[2] {
			t.Errorf("got %v", seen)
		}
	}
	if operator.alloc().bound.Load() {
		t.Error("the channel is bound without an answer")
	}
}

// TestShortLifetimeDoesNotMakeTheClientSpin: pion would renew after half of it,
// without a pause if that is nothing.
func TestShortLifetimeDoesNotMakeTheClientSpin(t *testing.T) {
	r := startRelay(t)
	p := newProxy(t, r.udp, func(typ guard.Type, b []byte) bool {
		if typ == guard.AllocateSuccess {
			if v, ok := guard.Find(b, guard.AttrLifetime); ok {
				clear(v)
			}
		}
		return true
	})
	cred, _ := r.mint(wire.RelayEndpoint{UDP: p.addr})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, Config{Relay: cred}); err != context.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
	if n := p.count(guard.RefreshRequest); n > 1 {
		t.Errorf("%d Refresh requests", n)
	}
}

func TestRenewalKeepsPermissionAndChannel(t *testing.T) {
	r := startRelay(t)
	p := newProxy(t, r.udp, nil)
	cred, _ := r.mint(wire.RelayEndpoint{UDP: p.addr})
	l := dial(t, cred)
	until(t, "the channel", l.alloc().bound.Load)
	if err := l.alloc().turn.permit(); err != nil {
		t.Errorf("permission: %v", err)
	}
	if err := l.alloc().bind(patience); err != nil {
		t.Errorf("channel: %v", err)
	}
	if c, b := p.count(guard.CreatePermissionRequest), p.count(guard.ChannelBindRequest); c != 2 || b != 2 {
		t.Errorf("%d CreatePermission and %d ChannelBind requests", c, b)
	}
}

// TestUnreadDataDoesNotKeepTheLinkFromClosing: the reader waits for a caller that
// does not come.
func TestUnreadDataDoesNotKeepTheLinkFromClosing(t *testing.T) {
	r := startRelay(t)
	operator, agent := pair(t, r, wire.RelayEndpoint{UDP: r.udp}, wire.RelayEndpoint{UDP: r.udp})
	until(t, "the channel", operator.alloc().bound.Load)
	for range 200 { // more than all batches hold
		if err := operator.WriteSegments(first, segments(1, 64), 64); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, agent, 1)
	if err := agent.Close(); err != nil {
		t.Error(err)
	}
}

// overStream is an allocation on a relay at the other end of conn.
func overStream(t *testing.T, conn net.Conn) *allocation {
	t.Helper()
	a := newAllocation(first, RelayTCP, "relay", slog.New(slog.DiscardHandler), new(guard.Stats))
	leg, err := guarded(conn, carrier.TCP, a.stats)
	if err != nil {
		t.Fatal(err)
	}
	a.leg = leg
	in := &inbox{full: make(chan *batch, 1), done: make(chan struct{})}
	a.wg.Go(func() { leg.read(a, in) })
	return a
}

// TestA18StreamThatStopsInsideAFrameIsClosed: length, then nothing.
func TestA18StreamThatStopsInsideAFrameIsClosed(t *testing.T) {
	for name, raw := range map[string][]byte{
		"nothing":           {},
		"one byte":          {0x40},
		"length of 1":       {0x40, 0, 0, 1},
		"length, then less": {0x40, 0, 0x04, 0, 1, 2, 3},
		"drip of STUN":      {1, 1, 0, 0x40, 0x21, 0x12, 0xa4, 0x42},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer far.Close()
				a := overStream(t, near)
				began := time.Now()
				if len(raw) > 0 {
					far.Write(raw)
				}
				<-a.done
				if a.err == nil || time.Since(began) > guard.IdleTimeout {
					t.Errorf("after %v: %v", time.Since(began), a.err)
				}
				a.close()
			})
		})
	}
}

func TestA18ImpossibleLengthsEndTheStreamAtOnce(t *testing.T) {
	for name, raw := range map[string][]byte{
		"65,535":         {0x40, 0, 0xff, 0xff},
		"wrapping":       {0x40, 0, 0xff, 0xfc},
		"STUN, wrapping": {1, 1, 0xff, 0xec, 0x21, 0x12, 0xa4, 0x42},
		"neither kind":   {0xff, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer far.Close()
				a := overStream(t, near)
				began := time.Now()
				go far.Write(raw)
				if <-a.done; a.err == nil || time.Since(began) != 0 {
					t.Errorf("after %v: %v", time.Since(began), a.err)
				}
				a.close()
			})
		})
	}
}

func TestNamesOfRelaysAreResolvedOrRefused(t *testing.T) {
	if a, err := resolve(t.Context(), "127.0.0.1:3478"); err != nil || a != netip.MustParseAddrPort("127.0.0.1:3478") {
		t.Errorf("%v, %v", a, err)
	}
	if a, err := resolve(t.Context(), "[::1]:3478"); err != nil || a != netip.MustParseAddrPort("[::1]:3478") {
		t.Errorf("%v, %v", a, err)
	}
	for _, bad := range []string{"", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:http", "[::1"} {
		if a, err := resolve(t.Context(), bad); err == nil {
			t.Errorf("%q became %v", bad, a)
		}
	}
}
