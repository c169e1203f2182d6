package replay

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

var start = time.Unix(1_800_000_000, 0)

// use does what a receiver does when the datagram opens.
func use(w *Window, counter uint64, now time.Time) error {
	if err := w.Check(counter, now); err != nil {
		return err
	}
	w.Set(counter, now)
	return nil
}

func want(t *testing.T, w *Window, counter uint64, now time.Time, code refusal.Code) {
	t.Helper()
	if err := use(w, counter, now); refusal.Of(err) != code {
		t.Fatalf("counter %d: %v, want %q", counter, err, code)
	}
}

func TestA3SameCounterManyTimes(t *testing.T) {
	w := NewWindow()
	want(t, w, 5, start, "")
	for range 1000 {
		want(t, w, 5, start, refusal.Replay)
	}
	for c := uint64(6); c < 5000; c++ {
		want(t, w, c, start, "")
	}
	want(t, w, 5, start, refusal.TooOld)
}

func TestA4ReorderedWithinWindowAllAcceptedOnce(t *testing.T) {
	for _, base := range []uint64{0, 64, 1 << 20} {
		w := NewWindow()
		order := rand.New(rand.NewPCG(1, base)).Perm(WindowSize)
		for _, i := range order {
			want(t, w, base+uint64(i), start, "")
		}
		for _, i := range order {
			want(t, w, base+uint64(i), start, refusal.Replay)
		}
	}
}

// TestA4ReorderedInAMovingStream sends each counter up to 1,000 places late.
func TestA4ReorderedInAMovingStream(t *testing.T) {
	w := NewWindow()
	r := rand.New(rand.NewPCG(2, 2))
	for base := uint64(0); base < 100_000; base += 1000 {
		for _, i := range r.Perm(1000) {
			want(t, w, base+uint64(i), start, "")
		}
	}
}

func TestA5OlderThanWindow(t *testing.T) {
	w := NewWindow()
	want(t, w, 10_000, start, "")
	want(t, w, 10_000-WindowSize, start, refusal.TooOld)
	want(t, w, 10_000-WindowSize+1, start, "")
	want(t, w, 0, start, refusal.TooOld)
}

func TestA6ReplayAfterEvictionStaysClosed(t *testing.T) {
	w := NewWindow()
	for c := uint64(0); c < 40*blockBits; c++ {
		want(t, w, c, start, "")
	}
	for c := uint64(0); c < 40*blockBits; c++ {
		if use(w, c, start) == nil {
			t.Fatalf("counter %d was taken twice", c)
		}
	}
	if w.blocks.Len() > blocks {
		t.Errorf("%d blocks kept", w.blocks.Len())
	}
}

// TestA6ReplayAfterEvictionOfALateBlock evicts in an order that is not that of
// the counters.
func TestA6ReplayAfterEvictionOfALateBlock(t *testing.T) {
	w := NewWindow()
	r := rand.New(rand.NewPCG(3, 3))
	seen := map[uint64]bool{}
	var highest uint64
	for range 200_000 {
		c := highest + uint64(r.IntN(200))
		if back := uint64(r.IntN(2500)); r.IntN(3) > 0 && back < c {
			c -= back
		}
		if use(w, c, start) == nil {
			if seen[c] {
				t.Fatalf("counter %d was taken twice", c)
			}
			seen[c], highest = true, max(highest, c)
		}
	}
	if len(seen) < 10_000 {
		t.Errorf("only %d counters were taken", len(seen))
	}
}

func TestA6ReplayAfterExpiryStaysClosed(t *testing.T) {
	w := NewWindow()
	for c := range uint64(10) {
		want(t, w, c, start, "")
	}
	late := start.Add(WindowTTL)
	for c := range uint64(10) {
		want(t, w, c, late, refusal.TooOld)
	}
	if w.blocks.Len() != 0 {
		t.Error("an expired block is kept")
	}
	want(t, w, 10, late, "") // the idle stream goes on
	want(t, w, 10, late, refusal.Replay)
}

func TestExpiredBlockIsStillInForceJustBefore(t *testing.T) {
	w := NewWindow()
	want(t, w, 5, start, "")
	want(t, w, 4, start.Add(WindowTTL-1), "")
	want(t, w, 5, start.Add(WindowTTL-1), refusal.Replay)
}

func TestForgedCountersChangeNothing(t *testing.T) {
	w := NewWindow()
	want(t, w, 0, start, "")
	for _, c := range []uint64{1 << 40, math.MaxUint64, math.MaxUint64 - 1} {
		_ = w.Check(c, start) // it did not open, so there is no Set
	}
	want(t, w, 1, start, "")
	if h, any := w.Highest(); h != 1 || !any {
		t.Errorf("highest is %d, %t", h, any)
	}
}

func TestA12FloorNeverWraps(t *testing.T) {
	w := NewWindow()
	want(t, w, math.MaxUint64, start, refusal.TooOld)
	want(t, w, math.MaxUint64-1, start, "")
	want(t, w, 0, start.Add(WindowTTL), refusal.TooOld)
	want(t, w, math.MaxUint64-1, start.Add(WindowTTL), refusal.TooOld)
	want(t, w, math.MaxUint64, start.Add(WindowTTL), refusal.TooOld)
}

func TestNewWindowHasNoHighest(t *testing.T) {
	if _, any := NewWindow().Highest(); any {
		t.Error("an empty window has a highest counter")
	}
}

// TestWindowAgreesWithAPlainSet compares with a memory that forgets nothing:
// never a second acceptance, and no refusal of a new counter that is near the
// highest while the stream is in order of blocks.
func TestWindowAgreesWithAPlainSet(t *testing.T) {
	w, r := NewWindow(), rand.New(rand.NewPCG(4, 4))
	seen, next, now := map[uint64]bool{}, uint64(0), start
	for range 300_000 {
		now = now.Add(time.Duration(r.IntN(40)) * time.Millisecond)
		c := next
		if r.IntN(4) == 0 && next > 100 {
			c = next - uint64(r.IntN(100))
		} else {
			next++
		}
		err := use(w, c, now)
		if err == nil && seen[c] {
			t.Fatalf("counter %d was taken twice", c)
		}
		if err != nil && !seen[c] && refusal.Of(err) == refusal.Replay {
			t.Fatalf("counter %d was never used and is called a replay", c)
		}
		if err != nil && c == next-1 && !seen[c] {
			t.Fatalf("the next counter %d of the stream was refused: %v", c, err)
		}
		if err == nil {
			seen[c] = true
		}
	}
}

func FuzzWindow(f *testing.F) {
	f.Add([]byte{0, 1, 1, 200, 3, 0, 255, 255})
	f.Fuzz(func(t *testing.T, script []byte) {
		w, now, base := NewWindow(), start, uint64(0)
		seen := map[uint64]bool{}
		for i := 0; i+1 < len(script); i += 2 {
			switch script[i] % 4 {
			case 0:
				base += uint64(script[i+1]) * 32
			case 1:
				base -= min(base, uint64(script[i+1])*32)
			case 2:
				now = now.Add(time.Duration(script[i+1]) * time.Second)
			}
			c := base + uint64(script[i+1])
			if use(w, c, now) == nil {
				if seen[c] {
					t.Fatalf("counter %d was taken twice", c)
				}
				seen[c] = true
			}
		}
	})
}

func TestWindowAllocatesOncePerBlockAtMost(t *testing.T) {
	w := NewWindow()
	var c uint64
	perRun := testing.AllocsPerRun(200, func() {
		for range 10 * blockBits {
			if use(w, c, start) != nil {
				t.Error("refused")
			}
			c++
		}
	})
	if perRun > 10 {
		t.Errorf("%.1f allocations for 640 counters in 10 blocks", perRun)
	}
	if n := testing.AllocsPerRun(100, func() { _ = use(w, c-1, start); _ = use(w, 0, start) }); n != 0 {
		t.Errorf("refusing a copy allocates %.1f times", n)
	}
}

func BenchmarkWindow(b *testing.B) {
	w := NewWindow()
	var c uint64
	b.ReportAllocs()
	for b.Loop() {
		if w.Check(c, start) == nil {
			w.Set(c, start)
		}
		c++
	}
}
