//go:build !race

package transport

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestBulkFillsALink: 200 Mbit/s and 50 ms, as in the rows of docs/PERFORMANCE.md. Not under the
// race detector: it takes minutes there, and the other tests go the same ways.
func TestBulkFillsALink(t *testing.T) {
	for _, tc := range []struct {
		name  string
		least float64 // Mbit/s
		wait  time.Duration
		f     func(*wire)
	}{
		{"clean", 140, 55 * time.Millisecond, func(*wire) {}},
		{"shallow queue", 130, 0, func(w *wire) { w.queue = 12 * time.Millisecond }},
		{"loss of 0.1 %", 110, 0, func(w *wire) { w.loss = 0.001 }},
		{"loss of 1 %", 80, 0, func(w *wire) { w.loss = 0.01 }},
		{"jitter of 8 ms, reordering", 120, 0, func(w *wire) { w.jitter = 8 * time.Millisecond }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := newLab(1, func(w *wire) {
					w.rate, w.delay, w.queue = 25e6, 25*time.Millisecond, 200*time.Millisecond
					tc.f(w)
				})
				operator, agent := connect(t, a, b)
				defer agent.Close()
				defer operator.Close()
				const size = 30 << 20
				rate := mbits(size, carry(t, operator, agent, size))
				t.Logf("%.0f Mbit/s, %d of %d packets taken for lost, %d overflowed, longest queue %v", rate, agent.Stats().Lost, agent.Stats().Sent, b.out.overflow, b.out.longest)
				if rate < tc.least {
					t.Errorf("%.0f Mbit/s, want %.0f", rate, tc.least)
				}
				if tc.wait > 0 && b.out.longest > 2*tc.wait {
					t.Errorf("the queue grew to %v", b.out.longest)
				}
			})
		})
	}
}

// TestAHopThatWorksInTurnsLosesLittle: connections of one machine, or a relay that reads
// many packets at once, deliver in bursts of more than their rate, after round trips of
// next to nothing; and what they hold is little. The model must remember what overflowed.
func TestAHopThatWorksInTurnsLosesLittle(t *testing.T) {
	for _, turn := range []time.Duration{200 * time.Microsecond, time.Millisecond, 3 * time.Millisecond} {
		for _, delay := range []time.Duration{50 * time.Microsecond, time.Millisecond} {
			t.Run(turn.String()+" "+delay.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					a, b := newLab(1, func(w *wire) { w.rate, w.delay, w.queue, w.turn = 200e6, delay, turn+time.Millisecond, turn })
					operator, agent := connect(t, a, b)
					defer agent.Close()
					defer operator.Close()
					const size = 60 << 20
					rate := mbits(size, carry(t, operator, agent, size))
					stats := agent.Stats()
					t.Logf("%.0f Mbit/s, %d of %d packets taken for lost, %d overflowed", rate, stats.Lost, stats.Sent, b.out.overflow)
					if lost := float64(stats.Lost) / float64(stats.Sent); lost > 0.08 { // what the start overflows is most of it
						t.Errorf("%.1f %% were lost", 100*lost)
					}
				})
			})
		}
	}
}

// TestPacketsAllocateNothing in the steady state: data out, its arrival, its
// acknowledgement. Not under the race detector, with which a pool forgets at random.
func TestPacketsAllocateNothing(t *testing.T) {
	x, y := lone(), lone()
	y.side = 1
	s, err := x.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x.out, y.out = make([]byte, 0, maxBatch*PacketSize), make([]byte, 0, maxBatch*PacketSize)
	p, buf := make([]byte, 20<<10), make([]byte, 64<<10)
	now := x.now()
	turn := func() {
		if _, err := s.Write(p); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			now += 2e6
			for _, c := range []*Conn{x, y} {
				other := y
				if c == y {
					other = x
				}
				c.timersLocked(now)
				c.fillLocked(now)
				for b := c.out; len(b) > 0; b = b[min(len(b), PacketSize):] {
					if err := other.takePacket(b[:min(len(b), PacketSize)], now); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if r := y.streams[0]; r.ready() > 0 {
			if _, err := r.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2000 {
		turn()
	}
	if allocs := testing.AllocsPerRun(1000, turn); allocs > 0.5 { // in some 20 packets
		t.Errorf("%.2f allocations in a turn", allocs)
	}
	if y.streams[0].read < 1000*20<<10 {
		t.Errorf("only %d bytes passed", y.streams[0].read)
	}
}
