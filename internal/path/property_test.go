package path

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestAnyNetwork lets anything happen to a network, restores one relay, and wants
// data to pass soon. On the way the world itself checks that data goes only where
// somebody answered, and the amplification is checked by the test's own books.
func TestAnyNetwork(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := newWorld(r, rapid.Uint64().Draw(r, "seed"))
		delay := rapid.Custom(func(r *rapid.T) time.Duration {
			return time.Duration(rapid.IntRange(1, 150).Draw(r, "ms")) * time.Millisecond
		})
		w.direct.delay = delay.Draw(r, "direct")
		w.relays[1].delay, w.relays[2].delay = delay.Draw(r, "relay 1"), delay.Draw(r, "relay 2")
		for i, h := range []*host{w.op, w.ag} {
			switch rapid.IntRange(0, 3).Draw(r, "nat") {
			case 1:
				w.behind(h, fmt.Sprintf("203.0.113.%d", i+1))
			case 2:
				w.behind(h, fmt.Sprintf("203.0.113.%d", i+1)).symmetric = true
			case 3:
				w.behind(h, fmt.Sprintf("203.0.113.%d", i+1)).open = true
			}
		}
		w.begin(rapid.Bool().Draw(r, "direct at once"))
		id := 0
		for _, h := range []*host{w.op, w.ag} {
			gap := time.Duration(rapid.SampledFrom([]int{5, 20, 200, 3000}).Draw(r, "gap")) * time.Millisecond
			w.every(gap, func() bool {
				if !h.stopped {
					id++
					h.data(id, 300, true)
				}
				return true
			})
		}
		for range rapid.IntRange(1, 12).Draw(r, "happenings") {
			happen(r, w)
			before, at := w.op.probes+w.ag.probes, w.now
			w.run(time.Duration(rapid.IntRange(1, 8000).Draw(r, "then")) * time.Millisecond)
			// No storm: a few rounds of few paths in every stretch of time.
			if n := w.op.probes + w.ag.probes - before; float64(n) > 200+60*w.now.Sub(at).Seconds() {
				r.Errorf("%d challenges in %v", n, w.now.Sub(at))
			}
		}
		w.checkAmplification(r)
		converge(r, w)
	})
}

// happen does one thing to the network.
func happen(r *rapid.T, w *world) {
	h := w.op
	if rapid.Bool().Draw(r, "agent") {
		h = w.ag
	}
	switch rapid.IntRange(0, 10).Draw(r, "what") {
	case 0, 1:
		w.direct.cut = !w.direct.cut
	case 2:
		w.relays[1].cut = !w.relays[1].cut
	case 3:
		w.relays[2].cut = !w.relays[2].cut
	case 4:
		if h.nat != nil {
			h.nat.rebind()
		}
	case 5:
		h.announce()
	case 6:
		h.m.Wake(w.now)
		h.arm()
	case 7:
		h.stop()
		w.run(time.Duration(rapid.IntRange(1, 60).Draw(r, "stopped")) * time.Second)
		h.cont()
	case 8:
		w.direct.loss = rapid.Float64Range(0, 0.3).Draw(r, "loss")
	case 9:
		v := Via{Relay: uint8(rapid.IntRange(1, 2).Draw(r, "relay"))}
		h.m.SetRelay(v, rapid.Bool().Draw(r, "up"), w.now)
		h.arm()
	case 10:
		copies := rapid.Bool().Draw(r, "copies")
		w.deliver = nil
		if copies { // everything to h, from a victim's address, before the original
			w.deliver = func(to *host, d *datagram) bool {
				if to == h && !h.stopped {
					c := *d
					c.via = Via{Addr: victim}
					to.take(&c)
				}
				return true
			}
		}
	}
}

// converge restores one relay and wants a good path at both ends.
func converge(r *rapid.T, w *world) {
	w.deliver = nil
	w.relays[2].cut = false
	for _, h := range []*host{w.op, w.ag} {
		h.m.SetRelay(Via{Relay: 2}, true, w.now)
		h.arm()
	}
	live := func() bool {
		for _, h := range []*host{w.op, w.ag} {
			if _, s := h.best(); s != Good {
				return false
			}
		}
		return true
	}
	if took, ok := w.runUntil(live, 10*time.Second); !ok {
		r.Errorf("no path %v after the relay is back%s%s", took, w.op.describe(), w.ag.describe())
	}
}

// TestAnyInput: no order of calls makes the manager panic, choose an address that
// did not answer, or ask to be polled for ever.
func TestAnyInput(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		n := uint64(0)
		m := New(Config{Operator: rapid.Bool().Draw(r, "operator"), Token: func() uint64 { n++; return n }, Now: epoch})
		now := epoch
		vias := []Via{{}, {Relay: 1}, {Relay: 2}, {Addr: addr("192.0.2.1:1")}, {Addr: addr("192.0.2.2:2")}, {Socket: 1, Addr: addr("[2001:db8::1]:1")}, {Addr: victim}}
		via := rapid.SampledFrom(vias)
		answered := map[Via]bool{}
		sent := map[uint64]Via{}
		for range rapid.IntRange(1, 80).Draw(r, "calls") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(4*time.Second)).Draw(r, "later")))
			v := via.Draw(r, "via")
			switch rapid.IntRange(0, 8).Draw(r, "call") {
			case 0:
				m.SetRelay(v, rapid.Bool().Draw(r, "up"), now)
			case 1:
				m.SetLocal([]Candidate{{Host, addr("192.0.2.9:9")}, {Host, addr("[2001:db8::9]:9")}}[:rapid.IntRange(0, 2).Draw(r, "n")], now)
			case 2, 3:
				m.Received(v, rapid.IntRange(0, 1248).Draw(r, "bytes"), rapid.Bool().Draw(r, "newest"), rapid.Bool().Draw(r, "data"), now)
			case 4:
				m.Sent(v, 300, now)
			case 5:
				m.Wake(now)
			case 6:
				token := rapid.Uint64Range(1, n+1).Draw(r, "token")
				if _, ok := sent[token]; ok {
					answered[sent[token]] = true
				}
				_ = m.Frame(v, Response, response{token: token}.append(), now)
			case 7:
				typ := rapid.Byte().Draw(r, "type")
				_ = m.Frame(v, typ, rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(r, "body"), now)
			case 8:
				_ = m.Frame(v, Candidates, list{sequence: rapid.Uint32Range(1, 5).Draw(r, "list"), candidates: []Candidate{{Host, addr("192.0.2.1:1")}, {Host, addr("[2001:db8::1]:1")}}}.append(), now)
			}
			polls := 0
			for ; polls < 10 && !m.Next().IsZero() && !m.Next().After(now); polls++ {
				for _, p := range m.Poll(now) {
					if p.Type == Challenge {
						token, _ := parseChallenge(p.Body)
						sent[token] = p.Via
					}
				}
			}
			if polls == 10 {
				r.Fatalf("asks to be polled for ever at one time")
			}
			first, second, state := m.Best(now)
			for _, v := range []Via{first, second} {
				if v != (Via{}) && !v.Relayed() && !answered[v] {
					r.Fatalf("chose %v, which never answered", v)
				}
			}
			if (first == Via{}) && state != Gone || first == second && first != (Via{}) {
				r.Fatalf("%v, %v, %v", first, second, state)
			}
			m.Status()
		}
	})
}
