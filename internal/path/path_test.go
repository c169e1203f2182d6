package path

import (
	"net/netip"
	"testing"
	"time"
)

// cone puts both ends behind NATs that keep one port for all destinations and let
// in only who was written to.
func cone(t testing.TB, seed uint64) *world {
	w := newWorld(t, seed)
	w.behind(w.op, "203.0.113.1")
	w.behind(w.ag, "203.0.113.2")
	return w
}

func TestTwoConeNATsAreDirectWithinThreeRoundTrips(t *testing.T) {
	w := cone(t, 1)
	w.begin(false)
	w.run(time.Second)
	if v, s := w.op.best(); v != (Via{Relay: 1}) || s != Good {
		t.Fatalf("over the relay: %v, %v", v, s)
	}
	stop := w.op.stream(10*time.Millisecond, 1248)
	defer stop()
	w.run(time.Second)
	w.op.announce()
	w.ag.announce()
	took := w.bothDirect(time.Second)
	t.Logf("direct after %v", took)
	if rtt := 2 * w.relays[1].delay; took > 3*rtt {
		t.Errorf("direct after %v, want 3 round trips of %v", took, rtt)
	}
	if g := w.ag.gap(epoch.Add(1100 * time.Millisecond)); g > 40*time.Millisecond {
		t.Errorf("the upgrade made a pause of %v", g)
	}
}

func TestDirectPathKilledWhileDataFlows(t *testing.T) {
	for _, oneWay := range []time.Duration{5, 25, 100} {
		w := cone(t, 2)
		w.direct.delay = oneWay * time.Millisecond
		w.relays[1].delay = oneWay*time.Millisecond + 5*time.Millisecond
		delete(w.relays, 2)
		w.begin(true)
		w.bothDirect(3 * time.Second)
		stop := w.op.stream(10*time.Millisecond, 1248)
		stop2 := w.ag.stream(10*time.Millisecond, 1248)
		w.run(5 * time.Second)
		w.direct.cut = true
		killed := w.now
		w.run(2 * time.Second)
		a, b := w.ag.gap(killed.Add(-100*time.Millisecond)), w.op.gap(killed.Add(-100*time.Millisecond))
		t.Logf("one way %v: pause of %v at the agent, %v at the operator", oneWay*time.Millisecond, a, b)
		if most := 500 * time.Millisecond; oneWay <= 25 && max(a, b) > most {
			t.Errorf("pause of %v and %v, want %v at most", a, b, most)
		}
		if v, s := w.op.best(); !v.Relayed() || s != Good {
			t.Errorf("the operator is on %v, %v%s", v, s, w.op.describe())
		}
		w.direct.cut = false
		w.bothDirect(2 * time.Minute) // and back again
		stop()
		stop2()
	}
}

func TestBulkInOneDirectionNeverDoubts(t *testing.T) {
	w := cone(t, 3)
	w.begin(true)
	w.bothDirect(3 * time.Second)
	w.run(time.Second)
	stop := w.op.stream(2*time.Millisecond, 1248)
	doubts := 0
	w.op.via = func(v Via) {
		if v.Relayed() {
			doubts++
		}
	}
	w.run(30 * time.Second)
	stop()
	if doubts > 0 {
		t.Errorf("%d datagrams went by a relay although the direct path works", doubts)
	}
}

// TestPauseAfterAcknowledgement: the last datagram of an exchange is never
// answered, which is no sign of death.
func TestPauseAfterAcknowledgement(t *testing.T) {
	w := cone(t, 4)
	w.begin(true)
	w.bothDirect(3 * time.Second)
	w.run(time.Second)
	copies := 0
	for _, h := range []*host{w.op, w.ag} {
		h.via = func(v Via) {
			if v.Relayed() {
				copies++
			}
		}
	}
	for i := range 40 {
		w.op.data(100+i, 96, true)
		w.run(700 * time.Millisecond)
	}
	if copies > 0 {
		t.Errorf("%d datagrams went out twice", copies)
	}
}

func TestNATRebindingIsFollowed(t *testing.T) {
	for name, moving := range map[string]func(*world) (*host, *host){
		"operator": func(w *world) (*host, *host) { return w.op, w.ag },
		"agent":    func(w *world) (*host, *host) { return w.ag, w.op },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 5)
			h, other := moving(w)
			w.behind(h, "203.0.113.1")
			w.begin(true)
			w.bothDirect(3 * time.Second)
			stop := h.stream(10*time.Millisecond, 200)
			stop2 := other.stream(10*time.Millisecond, 200)
			w.run(3 * time.Second)
			for range 5 {
				before, _ := other.best()
				h.nat.rebind()
				at := w.now
				took, ok := w.runUntil(func() bool {
					v, _ := other.best()
					return v != before && !v.Relayed() && v.Addr.Addr() == h.nat.outer
				}, 2*time.Second)
				rtt := 2 * w.direct.delay
				t.Logf("followed after %v", took)
				if !ok || took > 2*rtt+10*time.Millisecond {
					t.Fatalf("followed %t after %v, want one round trip and a check%s", ok, took, other.describe())
				}
				w.run(time.Second)
				if g := max(h.gap(at), other.gap(at)); g > 150*time.Millisecond {
					t.Errorf("pause of %v", g)
				}
				w.run(4 * time.Second)
			}
			stop()
			stop2()
			w.checkAmplification(t)
		})
	}
}

func TestSymmetricNATOnOneSide(t *testing.T) {
	w := newWorld(t, 6)
	w.behind(w.op, "203.0.113.1").symmetric = true
	w.behind(w.ag, "203.0.113.2").open = true
	w.begin(true)
	w.bothDirect(3 * time.Second)
	v, _ := w.ag.best()
	for _, s := range w.ag.m.Status() {
		if s.Via == v && s.Kind != Peer {
			t.Errorf("the agent uses %v of kind %v, want peer", v, s.Kind)
		}
	}
	w.checkAmplification(t)
}

func TestSymmetricNATsOnBothSidesStayRelayed(t *testing.T) {
	w := newWorld(t, 7)
	w.behind(w.op, "203.0.113.1").symmetric = true
	w.behind(w.ag, "203.0.113.2").symmetric = true
	w.begin(true)
	w.run(3 * time.Minute)
	for _, h := range []*host{w.op, w.ag} {
		if v, s := h.best(); v != (Via{Relay: 1}) || s != Good {
			t.Errorf("%s: %v, %v", h.name, v, s)
		}
	}
	w.op.nat.rebind() // and one of them gets better
	w.ag.nat.rebind()
	w.op.nat.symmetric, w.op.nat.open = false, true
	w.op.announce()
	w.ag.announce()
	w.bothDirect(2 * time.Second)
}

// TestProbingNeverStopsWhileRelayed: the direct path appears after half an hour,
// without anybody saying so.
func TestProbingNeverStopsWhileRelayed(t *testing.T) {
	w := cone(t, 8)
	w.direct.cut = true
	w.begin(true)
	w.run(30 * time.Minute)
	w.direct.cut = false
	w.bothDirect(4 * time.Minute)
}

func TestFlappingIsDamped(t *testing.T) {
	w := cone(t, 9)
	w.begin(true)
	w.bothDirect(3 * time.Second)
	stop := w.op.stream(20*time.Millisecond, 400)
	changes, last := 0, Via{}
	w.every(20*time.Millisecond, func() bool {
		if v, s := w.op.best(); s == Good && v != last {
			changes, last = changes+1, v
		}
		return true
	})
	w.every(2*time.Second, func() bool { w.direct.cut = !w.direct.cut; return true })
	w.run(2 * time.Minute)
	stop()
	t.Logf("%d changes in 30 cycles", changes)
	if changes > 20 {
		t.Errorf("%d changes of path in two minutes", changes)
	}
	if g := w.ag.gap(epoch.Add(5 * time.Second)); g > 500*time.Millisecond {
		t.Errorf("pause of %v", g)
	}
}

func TestRelayKilledInTheMiddleOfATransfer(t *testing.T) {
	w := newWorld(t, 10)
	w.begin(false)
	w.run(time.Second)
	stop := w.op.stream(5*time.Millisecond, 1248)
	w.run(3 * time.Second)
	w.relays[1].cut = true
	killed := w.now
	w.run(2 * time.Second)
	g := w.ag.gap(killed)
	t.Logf("pause of %v", g)
	if g > 500*time.Millisecond {
		t.Errorf("pause of %v", g)
	}
	if v, s := w.op.best(); v != (Via{Relay: 2}) || s != Good {
		t.Errorf("%v %v", v, s)
	}
	stop()
}

func TestRelayThatTheLinkGivesUpIsLeftAtOnce(t *testing.T) {
	w := newWorld(t, 11)
	w.begin(false)
	w.run(time.Second)
	w.op.m.SetRelay(Via{Relay: 1}, false, w.now)
	if v, _ := w.op.best(); v != (Via{Relay: 2}) {
		t.Errorf("%v", v)
	}
	w.op.m.SetRelay(Via{Relay: 2}, false, w.now)
	if v, s := w.op.best(); v != (Via{}) || s != Gone {
		t.Errorf("%v, %v", v, s)
	}
	w.run(time.Second)
	w.op.m.SetRelay(Via{Relay: 2}, true, w.now)
	w.op.arm()
	if v, s := w.op.best(); v != (Via{Relay: 2}) || s != Doubtful {
		t.Errorf("%v, %v", v, s)
	}
	w.run(100 * time.Millisecond)
	if v, s := w.op.best(); v != (Via{Relay: 2}) || s != Good {
		t.Errorf("%v, %v", v, s)
	}
}

func TestStopOfBothEndsForFiveMinutes(t *testing.T) {
	w := cone(t, 12)
	w.begin(true)
	w.bothDirect(3 * time.Second)
	stop := w.op.stream(50*time.Millisecond, 200)
	w.run(5 * time.Second)
	w.op.stop()
	w.ag.stop()
	w.run(5 * time.Minute)
	w.op.cont()
	w.ag.cont()
	w.op.announce() // the relays see them at other ports now
	w.ag.announce()
	woke := w.now
	took, ok := w.runUntil(func() bool { return w.ag.gap(woke) < w.now.Sub(woke) }, 2*time.Second)
	t.Logf("data after %v", took)
	if !ok || took > time.Second {
		t.Errorf("data %t after %v%s%s", ok, took, w.op.describe(), w.ag.describe())
	}
	w.bothDirect(10 * time.Second)
	stop()
}

func TestSleepOfOneEnd(t *testing.T) {
	w := cone(t, 13)
	w.begin(true)
	w.bothDirect(3 * time.Second)
	stop := w.op.stream(50*time.Millisecond, 200)
	w.run(2 * time.Second)
	w.op.stop()
	w.run(3 * time.Hour)
	if _, s := w.ag.best(); s != Gone {
		t.Errorf("the agent thinks that the path is %v", s)
	}
	w.op.cont()
	w.op.m.Wake(w.now)
	w.op.announce()
	woke := w.now
	took, ok := w.runUntil(func() bool { return w.ag.gap(woke) < w.now.Sub(woke) }, 2*time.Second)
	if !ok || took > 500*time.Millisecond {
		t.Errorf("data %t after %v", ok, took)
	}
	took, ok = w.runUntil(func() bool { _, s := w.ag.best(); return s == Good }, time.Second)
	if !ok {
		t.Errorf("the agent has no path after %v", took)
	}
	w.bothDirect(10 * time.Second)
	stop()
}

func TestOperatorMovesEveryFiveSeconds(t *testing.T) {
	w := cone(t, 14)
	w.begin(true)
	w.bothDirect(3 * time.Second)
	stop, stop2 := w.op.stream(50*time.Millisecond, 96), w.ag.stream(10*time.Millisecond, 1248)
	start := w.now
	for i := range 12 {
		w.run(5 * time.Second)
		w.op.nat.rebind()
		w.op.nat.outer = w.op.nat.outer.Next()
		if i%2 == 0 { // the link notices half of the changes
			w.op.announce()
			w.op.m.Wake(w.now)
			w.op.arm()
		}
	}
	w.run(2 * time.Second)
	t.Logf("longest pause %v and %v", w.ag.gap(start), w.op.gap(start))
	if g := max(w.ag.gap(start), w.op.gap(start)); g > 500*time.Millisecond {
		t.Errorf("pause of %v", g)
	}
	w.op.announce()
	w.bothDirect(time.Minute)
	w.checkAmplification(t)
	stop()
	stop2()
}

// TestIdleTraffic: what an idle session sends, both ends and all paths together,
// with the headers of UDP, IPv4 and ChannelData, and with the transport's own
// keep-alive of 25 seconds from both ends.
func TestIdleTraffic(t *testing.T) {
	for name, direct := range map[string]bool{"direct": true, "relayed": false} {
		for _, extra := range []int{0, 4, MaxCandidates - 2} {
			w := cone(t, 15)
			w.direct.cut = !direct
			for _, h := range []*host{w.op, w.ag} {
				for i := range w.relays {
					h.m.SetRelay(Via{Relay: i}, true, w.now)
				}
				own := []Candidate{{Host, h.addr}, {Reflexive, h.reflexive()}}
				for i := range extra {
					own = append(own, Candidate{Host, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, byte(i), h.addr.Addr().As4()[1]}), 4000)})
				}
				h.m.SetLocal(own, w.now)
				h.arm()
				id := 0
				w.every(25*time.Second, func() bool { id++; h.data(id, 96, true); return true })
			}
			w.run(time.Minute)
			before := w.wire
			const long = 2 * time.Hour
			w.run(long)
			rate := float64(w.wire-before) / long.Seconds()
			t.Logf("%s, %d more candidates: %.1f bytes/s", name, extra, rate)
			if rate >= 100 {
				t.Errorf("%s, %d more candidates: %.1f bytes/s", name, extra, rate)
			}
			if v, s := w.op.best(); v.Relayed() == direct || s != Good {
				t.Errorf("%s: idle on %v, %v", name, v, s)
			}
		}
	}
}

func TestIdleDeathIsNoticed(t *testing.T) {
	w := cone(t, 16)
	w.begin(true)
	w.bothDirect(3 * time.Second)
	w.run(time.Minute)
	w.direct.cut = true
	took, ok := w.runUntil(func() bool { v, s := w.op.best(); return v.Relayed() && s == Good }, time.Minute)
	if !ok || took > keepChosen+time.Second {
		t.Errorf("the operator noticed %t after %v", ok, took)
	}
	took, ok = w.runUntil(func() bool { v, s := w.ag.best(); return v.Relayed() && s == Good }, time.Minute)
	if !ok || took > keepChosenAgent {
		t.Errorf("the agent noticed %t after %v", ok, took)
	}
}

// TestADayWithoutAPath: the search fits what may be sealed under an aged key, and
// is slow enough for a battery.
func TestADayWithoutAPath(t *testing.T) {
	w := cone(t, 17)
	w.begin(true)
	w.bothDirect(3 * time.Second)
	w.direct.cut = true
	for _, l := range w.relays {
		l.cut = true
	}
	w.run(24 * time.Hour)
	sent := w.op.counter
	t.Logf("%d datagrams", sent)
	if sent >= 1<<16 {
		t.Errorf("%d datagrams in a day", sent)
	}
	w.relays[2].cut = false
	took, ok := w.runUntil(func() bool { v, s := w.op.best(); return v == Via{Relay: 2} && s == Good }, time.Minute)
	if !ok || took > relayGapGone+time.Second {
		t.Errorf("back %t after %v", ok, took)
	}
}
