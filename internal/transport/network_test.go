package transport

import (
	"bytes"
	"container/heap"
	"io"
	mrand "math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// wire is one direction of an emulated link, in the time of synctest.
type wire struct {
	mu       sync.Mutex
	rng      *mrand.Rand
	rate     float64 // bytes per second; 0 is endless
	delay    time.Duration
	jitter   time.Duration
	queue    time.Duration // longest wait
	loss     float64
	doubled  float64
	dark     bool          // loses everything
	turn     time.Duration // works that long, then rests as long, as who shares a processor
	free     time.Time
	flight   flight
	changed  chan struct{}
	order    int
	overflow int
	longest  time.Duration // longest wait in the queue that was seen
}

type parcel struct {
	at    time.Time
	order int
	b     []byte
}

// flight is a heap of what is under way, by its arrival.
type flight []parcel

func (f flight) Len() int { return len(f) }
func (f flight) Less(i, j int) bool {
	return f[i].at.Before(f[j].at) || f[i].at.Equal(f[j].at) && f[i].order < f[j].order
}
func (f flight) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flight) Push(x any)   { *f = append(*f, x.(parcel)) }
func (f *flight) Pop() any {
	old := *f
	x := old[len(old)-1]
	*f = old[:len(old)-1]
	return x
}

func (w *wire) put(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.dark || w.rng.Float64() < w.loss {
		return
	}
	if w.free.Before(now) {
		w.free = now
	}
	wait := w.free.Sub(now)
	if w.queue > 0 && wait > w.queue {
		w.overflow++
		return
	}
	w.longest = max(w.longest, wait)
	if w.rate > 0 {
		w.free = w.free.Add(time.Duration(float64(len(b)) / w.rate * float64(time.Second)))
		if w.turn > 0 {
			if rest := time.Duration(w.free.UnixNano()) % (2 * w.turn); rest >= w.turn {
				w.free = w.free.Add(2*w.turn - rest)
			}
		}
	}
	copies := 1
	if w.rng.Float64() < w.doubled {
		copies = 2
	}
	for range copies {
		at := w.free.Add(w.delay)
		if w.jitter > 0 {
			at = at.Add(time.Duration(w.rng.Int64N(int64(w.jitter))))
		}
		w.order++
		heap.Push(&w.flight, parcel{at, w.order, bytes.Clone(b)})
	}
	wake(w.changed)
}

func (w *wire) set(f func(*wire)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w)
}

// labEnd is one end of an emulated link.
type labEnd struct {
	in, out *wire
	stop    chan struct{}
	once    sync.Once
}

func (l *labEnd) PacketSize() int { return PacketSize }

func (l *labEnd) WritePackets(p []byte, size int) error {
	for len(p) > 0 {
		n := min(size, len(p))
		l.out.put(p[:n])
		p = p[n:]
	}
	return nil
}

func (l *labEnd) ReadPackets(pkts []Packet) (int, error) {
	for {
		n, next := 0, time.Hour
		l.in.mu.Lock()
		for n < len(pkts) && len(l.in.flight) > 0 {
			if next = time.Until(l.in.flight[0].at); next > 0 {
				break
			}
			p := heap.Pop(&l.in.flight).(parcel)
			pkts[n].Data = pkts[n].Buf[:copy(pkts[n].Buf, p.b)]
			n++
		}
		l.in.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		t := time.NewTimer(next)
		select {
		case <-t.C:
		case <-l.in.changed:
		case <-l.stop:
			t.Stop()
			return 0, net.ErrClosed
		}
		t.Stop()
	}
}

func (l *labEnd) Interrupt() { l.once.Do(func() { close(l.stop) }) }

// newLab makes a link; f configures both directions.
func newLab(seed uint64, f func(*wire)) (a, b *labEnd) {
	var w [2]*wire
	for i := range w {
		w[i] = &wire{rng: mrand.New(mrand.NewPCG(seed, uint64(i))), changed: make(chan struct{}, 1)}
		f(w[i])
	}
	return &labEnd{in: w[1], out: w[0], stop: make(chan struct{})}, &labEnd{in: w[0], out: w[1], stop: make(chan struct{})}
}

// carry sends size bytes from agent to operator and returns how long that took. Every byte
// is compared.
func carry(t testing.TB, operator, agent *Conn, size int) time.Duration {
	s, err := agent.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := io.Copy(s, io.LimitReader(&counter{}, int64(size))); err != nil {
			t.Errorf("writing: %v", err)
		}
		_ = s.CloseWrite()
	})
	r, err := operator.AcceptStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var want counter
	got, buf, cmp := 0, make([]byte, 32<<10), make([]byte, 32<<10)
	for err == nil {
		var n int
		n, err = r.Read(buf)
		_, _ = want.Read(cmp[:n])
		if !bytes.Equal(buf[:n], cmp[:n]) {
			t.Fatalf("bytes differ behind offset %d", got)
		}
		got += n
	}
	if err != io.EOF || got != size {
		t.Fatalf("%d of %d bytes: %v", got, size, err)
	}
	wg.Wait()
	return time.Since(began)
}

// counter yields bytes that tell their offset.
type counter struct{ n uint32 }

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(c.n>>8) ^ byte(c.n*7)
		c.n++
	}
	return len(p), nil
}

func mbits(size int, d time.Duration) float64 { return float64(size) * 8 / 1e6 / d.Seconds() }

// TestABlackoutEndsAtOnce: after ten seconds without a network and Poke, data flows
// within round trips, and no round trip was measured across the pause.
func TestABlackoutEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newLab(1, func(w *wire) { w.rate, w.delay = 25e6, 25*time.Millisecond })
		operator, agent := connect(t, a, b)
		defer agent.Close()
		defer operator.Close()
		carry(t, operator, agent, 4<<20)
		var wg sync.WaitGroup
		dark := func(yes bool) {
			a.out.set(func(w *wire) { w.dark = yes })
			b.out.set(func(w *wire) { w.dark = yes })
		}
		dark(true)
		began := time.Now()
		wg.Go(func() { carry(t, operator, agent, 100) })
		time.Sleep(10 * time.Second)
		dark(false)
		agent.Poke()
		wg.Wait()
		if d := time.Since(began) - 10*time.Second; d > 200*time.Millisecond {
			t.Errorf("the first bytes came %v after the network", d)
		}
		// The queue of the copy before is at most as long as a window in startup holds.
		if rtt := agent.Stats().RTT; rtt > 140*time.Millisecond {
			t.Errorf("the round trip became %v", rtt)
		}
	})
}

// TestAPathSwitchLosesNothing: the delay changes under way, so whole batches overtake
// each other or pause.
func TestAPathSwitchLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newLab(1, func(w *wire) { w.rate, w.delay = 25e6, 60*time.Millisecond })
		operator, agent := connect(t, a, b)
		defer agent.Close()
		defer operator.Close()
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range 6 {
				time.Sleep(400 * time.Millisecond)
				d := 5 * time.Millisecond
				if i%2 == 1 {
					d = 60 * time.Millisecond
				}
				a.out.set(func(w *wire) { w.delay = d })
				b.out.set(func(w *wire) { w.delay = d })
			}
		})
		const size = 20 << 20
		d := carry(t, operator, agent, size)
		wg.Wait()
		if rate := mbits(size, d); rate < 60 {
			t.Errorf("%.0f Mbit/s", rate)
		}
	})
}

// TestKeysPassBulk: a key's echo beside a copy that fills the link.
func TestKeysPassBulk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newLab(1, func(w *wire) { w.rate, w.delay, w.queue = 2.5e6, 25*time.Millisecond, 2*time.Second })
		operator, agent := connect(t, a, b)
		defer agent.Close()
		defer operator.Close()
		var wg sync.WaitGroup
		wg.Go(func() { carry(t, operator, agent, 20<<20) })
		time.Sleep(time.Second)
		s, err := operator.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.Write([]byte{0})
		r, err := agent.AcceptStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { io.Copy(r, r) })
		worst := time.Duration(0)
		for i := range 20 {
			began := time.Now()
			if i > 0 {
				s.Write([]byte{byte(i)})
			}
			io.ReadFull(s, make([]byte, 1))
			worst = max(worst, time.Since(began))
			time.Sleep(100 * time.Millisecond)
		}
		s.Reset(0)
		wg.Wait()
		t.Logf("slowest echo %v", worst)
		if worst > 250*time.Millisecond {
			t.Errorf("an echo took %v beside bulk", worst)
		}
	})
}

// TestAStuckReaderStallsItsStreamOnly: everybody else's data passes.
func TestAStuckReaderStallsItsStreamOnly(t *testing.T) {
	operator, agent := both(t)
	for range 100 {
		s, err := agent.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(make([]byte, Few.windows().first)); err != nil { // as much as it takes
			t.Fatal(err)
		}
		if _, err := operator.AcceptStream(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	carry(t, operator, agent, 20<<20)
}

// TestEveryByteArrivesOnceAndInOrder on links of every kind.
func TestEveryByteArrivesOnceAndInOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		delay := time.Duration(rapid.IntRange(0, 80).Draw(rt, "delay")) * time.Millisecond
		jitter := time.Duration(rapid.IntRange(0, 50).Draw(rt, "jitter")) * time.Millisecond
		loss := rapid.Float64Range(0, 0.15).Draw(rt, "loss")
		doubled := rapid.Float64Range(0, 0.3).Draw(rt, "doubled")
		rate := rapid.Float64Range(2e5, 1e8).Draw(rt, "rate")
		size := rapid.IntRange(0, 300_000).Draw(rt, "size")
		dark := rapid.IntRange(0, 3000).Draw(rt, "dark")
		synctest.Test(t, func(t *testing.T) {
			a, b := newLab(seed, func(w *wire) {
				w.rate, w.delay, w.jitter, w.loss, w.doubled, w.queue = rate, delay, jitter, loss, doubled, 300*time.Millisecond
			})
			operator, agent := connect(t, a, b)
			defer agent.Close()
			defer operator.Close()
			var wg sync.WaitGroup
			wg.Go(func() {
				time.Sleep(100 * time.Millisecond)
				b.out.set(func(w *wire) { w.dark = true })
				time.Sleep(time.Duration(dark) * time.Millisecond)
				b.out.set(func(w *wire) { w.dark = false })
				if dark%2 == 0 {
					agent.Poke()
				}
			})
			carry(t, operator, agent, size)
			wg.Wait()
		})
	})
}
