package endtoend

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/programtest"
)

// tapped stands between the endpoints and the relay and passes datagrams on. What
// it does to those that carry session data is the attack's.
type tapped struct {
	t     testing.TB
	front *net.UDPConn
	relay *net.UDPAddr
	all   programtest.Transcript // everything that passed, both ways, if keep is set
	keep  bool

	mu     sync.Mutex
	flows  map[netip.AddrPort]*flow // guarded by mu
	order  []*flow                  // guarded by mu
	closed bool                     // guarded by mu
	attack func(*tapped, packet)    // guarded by mu; called without it, from many goroutines
	wg     sync.WaitGroup
}

// flow is one endpoint's socket towards the relay.
type flow struct {
	client netip.AddrPort
	up     *net.UDPConn
}

// packet is a datagram on its way.
type packet struct {
	flow *flow
	up   bool // towards the relay
	b    []byte
}

// isData reports ChannelData (0x40 to 0x4F); the rest is between endpoint and
// relay alone.
func (p packet) isData() bool { return len(p.b) > 4 && p.b[0] >= 0x40 && p.b[0] <= 0x4f }

func newTap(t testing.TB, relay string, keep bool) *tapped {
	t.Helper()
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	x := &tapped{t: t, keep: keep, front: front, relay: must(net.ResolveUDPAddr("udp", relay)), flows: map[netip.AddrPort]*flow{}}
	_ = front.SetReadBuffer(4 << 20)
	x.wg.Go(x.serve)
	t.Cleanup(func() {
		x.mu.Lock()
		x.closed = true
		for _, f := range x.order {
			_ = f.up.Close()
		}
		x.mu.Unlock()
		_ = front.Close()
		x.wg.Wait()
	})
	return x
}

func (x *tapped) addr() string { return x.front.LocalAddr().String() }

func (x *tapped) serve() {
	b := make([]byte, 64<<10)
	for {
		n, from, err := x.front.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if f := x.flow(from); f != nil {
			x.pass(packet{f, true, bytes.Clone(b[:n])})
		}
	}
}

func (x *tapped) flow(from netip.AddrPort) *flow {
	x.mu.Lock()
	defer x.mu.Unlock()
	if f := x.flows[from]; f != nil || x.closed {
		return f
	}
	up, err := net.DialUDP("udp", nil, x.relay)
	if err != nil {
		return nil
	}
	_ = up.SetReadBuffer(4 << 20)
	f := &flow{from, up}
	x.flows[from], x.order = f, append(x.order, f)
	x.wg.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, err := up.Read(b)
			if err != nil {
				if strings.Contains(err.Error(), "refused") {
					continue
				}
				return
			}
			x.pass(packet{f, false, bytes.Clone(b[:n])})
		}
	})
	return f
}

func (x *tapped) pass(p packet) {
	if x.keep {
		_, _ = x.all.Write(p.b)
	}
	x.mu.Lock()
	attack := x.attack
	x.mu.Unlock()
	if attack != nil && p.isData() {
		attack(x, p)
		return
	}
	x.send(p)
}

// send delivers a datagram where its flow goes.
func (x *tapped) send(p packet) {
	if p.up {
		_, _ = p.flow.up.Write(p.b)
	} else {
		_, _ = x.front.WriteToUDPAddrPort(p.b, p.flow.client)
	}
}

// others are the newest flows but f: those of the sessions that are open.
func (x *tapped) others(f *flow) []*flow {
	x.mu.Lock()
	defer x.mu.Unlock()
	newest := x.order[max(0, len(x.order)-4):]
	return slices.DeleteFunc(slices.Clone(newest), func(o *flow) bool { return o == f })
}

// usernames are the relay credentials' names that passed in clear.
func (x *tapped) usernames() []string {
	var list []string
	for _, name := range regexp.MustCompile(`v1\.\d+\.[0-9A-Za-z_-]+\.[oa]`).FindAllString(x.all.String(), -1) {
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}

// mutated is p with one bit turned behind the channel's header.
func mutated(p packet) packet {
	p.b = bytes.Clone(p.b)
	p.b[4+rand.IntN(len(p.b)-4)] ^= 1 << rand.IntN(8)
	return p
}

// held keeps datagrams back and sends them later, in another order.
type held struct {
	mu   sync.Mutex
	kept []packet
}

func (h *held) reorder(x *tapped, p packet) {
	h.mu.Lock()
	h.kept = append(h.kept, p)
	var out []packet
	if len(h.kept) >= 4 {
		out, h.kept = h.kept, nil
	}
	h.mu.Unlock()
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	for _, q := range out {
		x.send(q)
	}
	if len(out) == 0 { // the last ones must not wait for ever
		time.AfterFunc(5*time.Millisecond, func() { h.flush(x) })
	}
}

func (h *held) flush(x *tapped) {
	h.mu.Lock()
	out := h.kept
	h.kept = nil
	h.mu.Unlock()
	for _, q := range out {
		x.send(q)
	}
}

// TestHostileRelay moves 5 MiB there and back, in two sessions at a time, while
// whoever forwards the datagrams does one thing to them. No byte may be wrong.
func TestHostileRelay(t *testing.T) {
	t.Parallel()
	var tap *tapped
	w := newWorld(t, func(w *world, p *plan) {
		tap = newTap(w.t, w.relay, false)
		p.udp = tap.addr()
	})
	w.agent("web", "web")
	w.ann.run("login").is(t, 0)
	var order held
	for _, c := range []struct {
		name   string
		attack func(*tapped, packet)
	}{
		{"nothing", nil},
		{"A1 turns a bit in 3 %", func(x *tapped, p packet) {
			if rand.IntN(33) == 0 {
				p = mutated(p)
			}
			x.send(p)
		}},
		{"A1 sends a broken copy first", func(x *tapped, p packet) { x.send(mutated(p)); x.send(p) }},
		{"drops 5 %", func(x *tapped, p packet) {
			if rand.IntN(20) != 0 {
				x.send(p)
			}
		}},
		{"A3 repeats everything", func(x *tapped, p packet) {
			for range 3 {
				x.send(p)
			}
		}},
		{"A4 reorders", order.reorder},
		{"A7 cuts 3 % short", func(x *tapped, p packet) {
			if rand.IntN(33) == 0 {
				p.b = p.b[:4+rand.IntN(len(p.b)-4)]
			}
			x.send(p)
		}},
		// Only what endpoints send: copies of copies would never end.
		{"A8 reflects to the sender", func(x *tapped, p packet) {
			if p.up {
				x.send(packet{p.flow, false, p.b})
			}
			x.send(p)
		}},
		{"A10 mixes sessions", func(x *tapped, p packet) {
			if p.up && rand.IntN(4) == 0 {
				for _, o := range x.others(p.flow) {
					x.send(packet{o, true, p.b})
					x.send(packet{o, false, p.b})
				}
			}
			x.send(p)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tap.mu.Lock()
			tap.attack = c.attack
			tap.mu.Unlock()
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() { w.transfers(t, 5<<19) })
			}
			both.Wait()
		})
	}
}

// transfers sends n bytes through cat and wants exactly those back, or a named
// error and no wrong byte.
func (w *world) transfers(t *testing.T, n int) {
	want := noise(n)
	begun := time.Now()
	a := w.ann.feed(in(want), "exec", "web", "--", "cat")
	got := []byte(a.out)
	if !bytes.HasPrefix(want, got) {
		t.Errorf("wrong bytes came back: %d of %d, hash %x", len(got), n, sha256.Sum256(got))
	}
	if a.code != 0 || len(got) != n {
		t.Errorf("exit %d with %d of %d bytes, %s", a.code, len(got), n, a.err)
	}
	t.Logf("%d bytes there and back in %v", n, time.Since(begun).Round(time.Millisecond))
}
