package session

import (
	"bytes"
	"context"
	"encoding/hex"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay"
	"github.com/tucdesk/tucdesk/relay/credential"
)

type testRelay struct {
	server   *relay.Server
	secret   credential.Secret
	udp, tcp netip.AddrPort
}

func startRelay(t testing.TB) *testRelay {
	t.Helper()
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	secret := credential.NewSecret()
	s, err := relay.Start(t.Context(), relay.Config{UDP: loopback, TCP: loopback, Secret: secret, Limits: relay.Limits{ControlPerSecond: 1 << 20, ControlTotal: 1 << 20}})
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
	r := &testRelay{server: s, secret: secret}
	r.udp, r.tcp = s.Addr()
	return r
}

// credentials of both sides, each with its own way to the relay.
func (r *testRelay) credentials(o, a wire.RelayEndpoint) (operator, agent wire.Relay) {
	co, ca := credential.MintPair(r.secret, time.Now(), time.Hour)
	side := func(c credential.Credential, e wire.RelayEndpoint) wire.Relay {
		return wire.Relay{Endpoints: []wire.RelayEndpoint{e}, Username: c.Username, Password: c.Password, ExpiresAt: wire.At(c.ExpiresAt)}
	}
	return side(co, o), side(ca, a)
}

func (r *testRelay) viaUDP() wire.RelayEndpoint { return wire.RelayEndpoint{UDP: r.udp.String()} }
func (r *testRelay) viaTCP() wire.RelayEndpoint { return wire.RelayEndpoint{TCP: r.tcp.String()} }

func dialLink(t testing.TB, cred wire.Relay) *link.Link {
	t.Helper()
	return openLink(t, link.Config{Relay: cred})
}

func openLink(t testing.TB, cfg link.Config) *link.Link {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l, err := link.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (r *testRelay) world(t testing.TB, o, a wire.RelayEndpoint) *world {
	t.Helper()
	co, ca := r.credentials(o, a)
	return newWorld(t, dialLink(t, co), dialLink(t, ca))
}

// middle is an attacker between one endpoint and the relay.
type middle struct {
	addr netip.AddrPort

	mu     sync.Mutex
	up     func(d []byte) [][]byte // guarded by mu; ChannelData to the relay
	down   func(d []byte) [][]byte // guarded by mu; … to the endpoint
	client net.Addr                // guarded by mu
	near   net.PacketConn
	far    net.Conn
}

func newMiddle(t testing.TB, to netip.AddrPort) *middle {
	t.Helper()
	near, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	far, err := net.Dial("udp4", to.String())
	if err != nil {
		t.Fatal(err)
	}
	m := &middle{near: near, far: far, addr: near.LocalAddr().(*net.UDPAddr).AddrPort()}
	var wg sync.WaitGroup
	wg.Go(m.upwards)
	wg.Go(m.downwards)
	t.Cleanup(func() {
		near.Close()
		far.Close()
		wg.Wait()
	})
	return m
}

func (m *middle) endpoint() wire.RelayEndpoint { return wire.RelayEndpoint{UDP: m.addr.String()} }

func (m *middle) meddle(up, down func([]byte) [][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.up, m.down = up, down
}

func (m *middle) upwards() {
	buf := make([]byte, 2048)
	for {
		n, from, err := m.near.ReadFrom(buf)
		if err != nil {
			return
		}
		m.mu.Lock()
		m.client = from
		f := m.up
		m.mu.Unlock()
		for _, d := range pass(f, buf[:n]) {
			m.far.Write(d)
		}
	}
}

func (m *middle) downwards() {
	buf := make([]byte, 2048)
	for {
		n, err := m.far.Read(buf)
		if err != nil {
			return
		}
		m.mu.Lock()
		f := m.down
		m.mu.Unlock()
		for _, d := range pass(f, buf[:n]) {
			m.toClient(d)
		}
	}
}

func (m *middle) toClient(d []byte) {
	m.mu.Lock()
	client := m.client
	m.mu.Unlock()
	if client != nil {
		m.near.WriteTo(d, client)
	}
}

func pass(f func([]byte) [][]byte, d []byte) [][]byte {
	if f == nil || d[0]>>6 != 1 { // control messages pass: the relay's own attacks are its tests
		return [][]byte{d}
	}
	return f(bytes.Clone(d))
}

func TestSessionOverEveryTransport(t *testing.T) {
	r := startRelay(t)
	for name, e := range map[string][2]wire.RelayEndpoint{
		"udp-udp": {r.viaUDP(), r.viaUDP()}, "tcp-udp": {r.viaTCP(), r.viaUDP()},
		"udp-tcp": {r.viaUDP(), r.viaTCP()}, "tcp-tcp": {r.viaTCP(), r.viaTCP()},
	} {
		t.Run(name, func(t *testing.T) {
			w := r.world(t, e[0], e[1])
			defer w.close()
			w.cat(random(t, 1<<19))
		})
	}
}

// TestNAttackerOnThePath: A1, A3, A4 and A8 with real sockets, on both legs at
// once, and the data arrives all the same.
func TestNAttackerOnThePathA1A3A4A8(t *testing.T) {
	r := startRelay(t)
	mo, ma := newMiddle(t, r.udp), newMiddle(t, r.udp)
	w := r.world(t, mo.endpoint(), ma.endpoint())
	defer w.close()
	w.cat([]byte("quiet so far"))
	for i, m := range []*middle{mo, ma} {
		m.meddle(attacker(uint64(i), m.toClient), attacker(uint64(10+i), func(d []byte) { m.far.Write(d) }))
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { w.cat(random(t, 150_000)) })
	}
	wg.Wait()
	for name, c := range map[string]*Conn{"operator": w.operator, "agent": w.agent} {
		if s := c.Stats(); s.OpenFailed == 0 || s.Replayed == 0 || c.Err() != nil {
			t.Errorf("%s: %+v, %v", name, s, c.Err())
		}
	}
}

// attacker flips, drops, repeats, reorders and reflects.
func attacker(seed uint64, reflect func([]byte)) func([]byte) [][]byte {
	rng := mrand.New(mrand.NewPCG(seed, 99))
	var held [][]byte
	return func(d []byte) [][]byte {
		switch rng.IntN(60) {
		case 0:
			return nil
		case 1: // in the sealed part: the relay does not forward a broken frame
			d[4+rng.IntN(len(d)-4)] ^= 1 << rng.IntN(8)
		case 2:
			return [][]byte{d, d, d}
		case 3:
			held = append(held, d)
			return nil
		case 4:
			out := append([][]byte{d}, held...)
			held = nil
			return out
		case 5:
			reflect(d)
		}
		return [][]byte{d}
	}
}

func TestNMixedSessionsA10(t *testing.T) {
	r := startRelay(t)
	m1, m2 := newMiddle(t, r.udp), newMiddle(t, r.udp)
	one := r.world(t, m1.endpoint(), r.viaUDP())
	defer one.close()
	two := r.world(t, m2.endpoint(), r.viaUDP())
	defer two.close()
	one.cat([]byte("first"))
	two.cat([]byte("second"))
	// Everything the first operator sends goes into the second session too.
	m1.meddle(func(d []byte) [][]byte { m2.far.Write(d); return [][]byte{d} }, nil)
	before := two.agent.Stats().OpenFailed
	one.cat(random(t, 50_000))
	until(t, "the mixed datagrams", func() bool { return two.agent.Stats().OpenFailed > before })
	two.cat(random(t, 50_000))
	if one.agent.Err() != nil || two.agent.Err() != nil {
		t.Errorf("ended: %v, %v", one.agent.Err(), two.agent.Err())
	}
}

func TestNConfirmReplayedA8B11(t *testing.T) {
	r := startRelay(t)
	m := newMiddle(t, r.udp)
	co, ca := r.credentials(m.endpoint(), r.viaUDP())
	lo, la := dialLink(t, co), dialLink(t, ca)
	s, other := newShake(t), newShake(t)
	w := &world{t: t}
	w.operator, w.agent = connect(t, s, lo, la)
	w.wg.Go(w.serve)
	defer w.close()
	w.cat([]byte("running"))
	stray := w.agent.Stats().Stray
	for _, m3 := range [][]byte{s.m3, other.m3} {
		m.far.Write(append([]byte{0x40, 0, 0, byte(len(m3))}, m3...))
	}
	until(t, "the foreign one to be dropped", func() bool { return w.agent.Stats().Stray == stray+1 })
	w.cat([]byte("still running"))
}

// TestNFloodA14 sends up to 2^16 forgeries with real sockets beside the real
// stream; the full 2^20 would take too long for every run.
func TestNFloodA14(t *testing.T) {
	r := startRelay(t)
	m := newMiddle(t, r.udp)
	w := r.world(t, m.endpoint(), r.viaUDP())
	defer w.close()
	var mu sync.Mutex
	var sample []byte
	m.meddle(func(d []byte) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		if sample == nil && len(d) > 20 && d[4] == seal.Type {
			sample = d
		}
		return [][]byte{d}
	}, nil)
	w.cat([]byte("x"))
	mu.Lock()
	forged := bytes.Clone(sample)
	mu.Unlock()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := range 1 << 16 {
			select {
			case <-stop:
				return
			default:
			}
			forged[4+13], forged[4+14], forged[4+15] = byte(n>>16)|0x40, byte(n>>8), byte(n)
			m.far.Write(forged)
		}
	})
	w.cat(random(t, 1<<18))
	close(stop)
	wg.Wait()
	until(t, "forgeries to arrive", func() bool { // of the flood most are lost where the machine is busy
		m.far.Write(forged)
		return w.agent.Stats().OpenFailed > 1000
	})
	w.cat([]byte("still here"))
}

// TestNLyingStreamsA18: a relay connection whose lengths are impossible ends; the
// session goes on by the next one.
func TestNLyingStreamsA18(t *testing.T) {
	for name, raw := range map[string]string{
		"65,535": "4000ffff", "wrap": "4000fffc", "stun wrap": "0000ffec", "no frame": "ffff0000",
		"below the channel": "8000000000",
	} {
		t.Run(name, func(t *testing.T) {
			r := startRelay(t)
			tap := newTap(t, r.tcp)
			co, ca := r.credentials(wire.RelayEndpoint{TCP: tap.addr}, r.viaUDP())
			w := newWorld(t, dialLink(t, co), dialLink(t, ca))
			defer w.close()
			w.cat([]byte("fine"))
			b, err := hex.DecodeString(raw)
			if err != nil {
				t.Fatal(err)
			}
			tap.inject(b)
			w.cat([]byte("by a connection of its own again"))
		})
	}
}

// tap is a TCP proxy that can put bytes into the way to the client.
type tap struct {
	addr string
	mu   sync.Mutex
	near net.Conn // guarded by mu
}

func newTap(t testing.TB, to netip.AddrPort) *tap {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.join(near, to.String()) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return p
}

func (p *tap) join(near net.Conn, to string) {
	defer near.Close()
	far, err := net.Dial("tcp4", to)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.near = near
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { p.copy(far, near, nil); far.Close() })
	p.copy(near, far, &p.mu)
	near.Close()
	far.Close()
	wg.Wait()
}

// copy holds mu for every write, so that what is injected stands between frames
// as long as the relay writes whole ones.
func (p *tap) copy(dst, src net.Conn, mu *sync.Mutex) {
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		if mu != nil {
			mu.Lock()
		}
		_, err = dst.Write(buf[:n])
		if mu != nil {
			mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

func (p *tap) inject(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.near.Write(b)
}

func TestOperatorWithoutAgentOnTheRelayIsUnreachable(t *testing.T) {
	r := startRelay(t)
	co, _ := r.credentials(r.viaUDP(), r.viaUDP())
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, newShake(t).dial(dialLink(t, co))); refusal.Of(err) != refusal.Unreachable {
		t.Errorf("got %v", err)
	}
}
