package link

import (
	"context"
	"encoding/binary"
	"errors"
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

// proxy stands between one UDP client and the relay, as a NAT would.
type proxy struct {
	addr  string
	relay string
	near  net.PacketConn
	wg    sync.WaitGroup

	mu     sync.Mutex
	far    net.Conn                          // guarded by mu; to the relay
	client net.Addr                          // guarded by mu
	seen   map[guard.Type]int                // guarded by mu; control messages to the relay
	data   int                               // guarded by mu; ChannelData to the relay
	user   map[guard.Type]string             // guarded by mu; who signed the last of them
	users  map[string]bool                   // guarded by mu; who signed any
	edit   func(t guard.Type, b []byte) bool // guarded by mu; of control messages to the client; false drops
	drop   map[guard.Type]bool               // guarded by mu; never reach the relay
}

func newProxy(t testing.TB, relay string, edit func(guard.Type, []byte) bool) *proxy {
	t.Helper()
	near, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{
		addr: near.LocalAddr().String(), relay: relay, near: near,
		seen: map[guard.Type]int{}, user: map[guard.Type]string{}, users: map[string]bool{}, edit: edit,
	}
	p.rebind(t)
	p.wg.Go(p.up)
	t.Cleanup(func() {
		near.Close()
		p.port().Close()
		p.wg.Wait()
	})
	return p
}

// rebind forgets the client and gives it another port.
func (p *proxy) rebind(t testing.TB) {
	t.Helper()
	far, err := net.Dial("udp4", p.relay)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	old := p.far
	p.far = far
	p.mu.Unlock()
	if old != nil {
		old.Close()
	}
	p.wg.Go(func() { p.down(far) })
}

func (p *proxy) port() net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.far
}

func (p *proxy) up() {
	buf := make([]byte, 2048)
	for {
		n, from, err := p.near.ReadFrom(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.client = from
		if guard.IsChannelData(buf[:n]) {
			p.data++
		} else {
			p.seen[guard.TypeOf(buf[:n])]++
			name, _ := guard.Find(buf[:n], guard.AttrUsername)
			p.user[guard.TypeOf(buf[:n])] = string(name)
			p.users[string(name)] = true
		}
		lost := !guard.IsChannelData(buf[:n]) && p.drop[guard.TypeOf(buf[:n])]
		far := p.far
		p.mu.Unlock()
		if !lost {
			far.Write(buf[:n])
		}
	}
}

func (p *proxy) down(far net.Conn) {
	buf := make([]byte, 2048)
	for {
		n, err := far.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // nobody listens there now
		}
		p.mu.Lock()
		edit := p.edit
		p.mu.Unlock()
		if guard.IsChannelData(buf[:n]) || edit == nil || edit(guard.TypeOf(buf[:n]), buf[:n]) {
			p.inject(buf[:n])
		}
	}
}

// inject sends to the client, from the address that it takes for the relay's.
func (p *proxy) inject(b []byte) {
	p.mu.Lock()
	to := p.client
	p.mu.Unlock()
	p.near.WriteTo(b, to)
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

// showed reports whether the relay has seen a user name.
func (p *proxy) showed(user string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.users[user]
}

// TestFirstDatagramNeedsTwoRoundTrips: Allocate twice. No answer to anything else
// ever comes here, and data flows in both directions.
func TestFirstDatagramNeedsTwoRoundTrips(t *testing.T) {
	r := startRelay(t)
	var operator, agent *Link
	until(t, "an allocation by two requests", func() bool { // one that is answered late is sent again
		deafToBind := newProxy(t, r.udp, func(t guard.Type, _ []byte) bool {
			return t == guard.AllocateError || t == guard.AllocateSuccess || t == guard.DataIndication
		})
		operator, agent = pair(t, r, wire.RelayEndpoint{UDP: deafToBind.addr}, wire.RelayEndpoint{UDP: r.udp})
		ready(t, agent)
		n := deafToBind.count(guard.AllocateRequest)
		if n < 2 {
			t.Fatalf("%d Allocate requests", n)
		}
		return n == 2
	})
	for _, dir := range [][2]*Link{{operator, agent}, {agent, operator}} {
		if err := dir[0].WriteSegments(relay1, segments(3, 128), 128); err != nil {
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
	if operator.one().bound.Load() {
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
	until(t, "the channel", l.one().bound.Load)
	if err := l.one().turn.permit(); err != nil {
		t.Errorf("permission: %v", err)
	}
	if err := l.one().bind(patience); err != nil {
		t.Errorf("channel: %v", err)
	}
	if c, b := p.count(guard.CreatePermissionRequest), p.count(guard.ChannelBindRequest); c < 2 || b < 2 { // more where an answer was late
		t.Errorf("%d CreatePermission and %d ChannelBind requests", c, b)
	}
}

// TestUnreadDataDoesNotKeepTheLinkFromClosing: the reader waits for a caller that
// does not come.
func TestUnreadDataDoesNotKeepTheLinkFromClosing(t *testing.T) {
	r := startRelay(t)
	operator, agent := pair(t, r, wire.RelayEndpoint{UDP: r.udp}, wire.RelayEndpoint{UDP: r.udp})
	ready(t, operator, agent)
	for range 200 { // more than all batches hold
		if err := operator.WriteSegments(relay1, segments(1, 64), 64); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, agent, 1)
	if err := agent.Close(); err != nil {
		t.Error(err)
	}
}

// overPipe is an allocation whose relay is the other end of a pipe.
func overPipe(t *testing.T, near net.Conn) *allocation {
	l := newLink(Config{})
	a := newAllocation(l, relay1, RelayTCP, "")
	leg, err := newConnLeg(near, carrier.TCP, &l.stats)
	if err != nil {
		t.Fatal(err)
	}
	a.leg = leg
	a.wg.Go(func() { a.read(leg) })
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
				p := overPipe(t, near)
				began := time.Now()
				if len(raw) > 0 {
					far.Write(raw)
				}
				<-p.done
				if p.err == nil || time.Since(began) > guard.IdleTimeout {
					t.Errorf("after %v: %v", time.Since(began), p.err)
				}
				p.close()
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
				p := overPipe(t, near)
				began := time.Now()
				go far.Write(raw)
				if <-p.done; p.err == nil || time.Since(began) != 0 {
					t.Errorf("after %v: %v", time.Since(began), p.err)
				}
				p.close()
			})
		})
	}
}

func TestNamesOfRelaysAreResolvedOrRefused(t *testing.T) {
	if a, err := resolve(t.Context(), "127.0.0.1:3478"); err != nil || len(a) != 1 || a[0] != netip.MustParseAddrPort("127.0.0.1:3478") {
		t.Errorf("%v, %v", a, err)
	}
	if a, err := resolve(t.Context(), "[::1]:3478"); err != nil || len(a) != 1 || a[0] != netip.MustParseAddrPort("[::1]:3478") {
		t.Errorf("%v, %v", a, err)
	}
	for _, bad := range []string{"", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:http", "[::1"} {
		if a, err := resolve(t.Context(), bad); err == nil {
			t.Errorf("%q became %v", bad, a)
		}
	}
}
