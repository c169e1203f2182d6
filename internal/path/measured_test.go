package path

import (
	"testing"
	"time"
)

func TestSlowRelayIsPreferredToMuchSlowerDirect(t *testing.T) {
	w := newWorld(t, 18)
	w.direct.delay = 200 * time.Millisecond
	w.begin(true)
	w.run(30 * time.Second)
	if v, _ := w.op.best(); v != (Via{Relay: 1}) {
		t.Errorf("%v%s", v, w.op.describe())
	}
	w = newWorld(t, 18)
	w.direct.delay = w.relays[1].delay + directMargin/2 - 2*time.Millisecond
	w.begin(true)
	w.run(30 * time.Second)
	if v, _ := w.op.best(); v.Relayed() {
		t.Errorf("%v%s", v, w.op.describe())
	}
}

func TestBetterRelayIsChosenWithHysteresis(t *testing.T) {
	w := newWorld(t, 19)
	w.relays[1].delay, w.relays[2].delay = 27*time.Millisecond, 25*time.Millisecond
	w.begin(false)
	w.run(time.Minute)
	first, _ := w.op.best()
	w.relays[1].delay, w.relays[2].delay = w.relays[2].delay, w.relays[1].delay
	w.run(3 * time.Minute)
	if v, _ := w.op.best(); v != first {
		t.Errorf("changed from %v to %v for 4 ms", first, v)
	}
	stop := w.op.stream(100*time.Millisecond, 400)
	w.relays[first.Relay].delay = 80 * time.Millisecond
	w.run(3 * time.Minute)
	if v, _ := w.op.best(); v == first {
		t.Errorf("stays on a relay that became three times slower%s", w.op.describe())
	}
	if a, _ := w.ag.best(); a == first {
		t.Errorf("the agent does not follow%s", w.ag.describe())
	}
	stop()
}

func TestRoundTripTimes(t *testing.T) {
	var r rtt
	now := epoch
	r.sample(100*time.Millisecond, now)
	if r.smooth != 100*time.Millisecond || r.variation != 50*time.Millisecond {
		t.Errorf("first sample: %v %v", r.smooth, r.variation)
	}
	r.sample(200*time.Millisecond, now)
	if r.smooth != 112500*time.Microsecond || r.variation != 62500*time.Microsecond || r.least != 100*time.Millisecond {
		t.Errorf("second sample: %v %v %v", r.smooth, r.variation, r.least)
	}
	for range 10 {
		now = now.Add(floorWindow)
		r.sample(300*time.Millisecond, now)
	}
	if r.floor() != 300*time.Millisecond || r.least != 100*time.Millisecond {
		t.Errorf("after minutes: floor %v, least %v", r.floor(), r.least)
	}
}

func BenchmarkReceivedBest(b *testing.B) {
	w := cone(b, 1)
	w.begin(true)
	w.bothDirect(3 * time.Second)
	v, _ := w.op.best()
	now := w.now
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Microsecond)
		w.op.m.Received(v, 1248, true, true, now)
		w.op.m.Best(now)
	}
}

func BenchmarkSentBestReceived(b *testing.B) {
	w := cone(b, 1)
	w.begin(true)
	w.bothDirect(3 * time.Second)
	now := w.now
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Microsecond)
		v, _, _ := w.op.m.Best(now)
		w.op.m.Sent(v, 1248, now)
		w.op.m.Received(v, 96, true, true, now)
	}
}
