package transport

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	mrand "math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute // bounds every wait of a test

// pipe is one end of an in-memory network.
type pipe struct {
	in, out chan []byte
	stop    chan struct{}
	once    sync.Once

	mu      sync.Mutex
	meddle  func(p []byte) [][]byte // guarded by mu; what becomes of a packet on the way out; nil passes it
	batches []int                   // guarded by mu; packets per WritePackets
	largest int                     // guarded by mu
	packets int                     // guarded by mu
	size    int                     // guarded by mu; of a packet, 0 is PacketSize
}

func newPipes() (a, b *pipe) {
	ab, ba := make(chan []byte, 1<<14), make(chan []byte, 1<<14)
	a = &pipe{in: ba, out: ab, stop: make(chan struct{})}
	b = &pipe{in: ab, out: ba, stop: make(chan struct{})}
	return a, b
}

func (p *pipe) PacketSize() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(p.size, PacketSize)
}

func (p *pipe) WritePackets(b []byte, size int) error {
	p.note(len(b), size)
	p.mu.Lock()
	meddle := p.meddle
	p.mu.Unlock()
	for len(b) > 0 {
		n := min(size, len(b))
		packets := [][]byte{b[:n]}
		if meddle != nil {
			packets = meddle(b[:n])
		}
		for _, q := range packets {
			select {
			case p.out <- bytes.Clone(q):
			default: // a full queue loses packets
			}
		}
		b = b[n:]
	}
	return nil
}

func (p *pipe) note(n, size int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	count := (n + size - 1) / size
	p.batches = append(p.batches, count)
	p.packets += count
	p.largest = max(p.largest, min(n, size))
}

func (p *pipe) cut(meddle func([]byte) [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.meddle = meddle
}

func (p *pipe) sent() (packets, largest int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.packets, p.largest
}

func (p *pipe) ReadPackets(pkts []Packet) (int, error) {
	select {
	case b := <-p.in:
		pkts[0].Data = pkts[0].Buf[3 : 3+copy(pkts[0].Buf[3:], b)] // not at the start, as session does
		return 1, nil
	case <-p.stop:
		return 0, net.ErrClosed
	}
}

func (p *pipe) Interrupt() { p.once.Do(func() { close(p.stop) }) }

// connect makes both ends over the pipes.
func connect(t testing.TB, a, b Packets) (operator, agent *Conn) { return connectAs(t, a, b, Few) }

func connectAs(t testing.TB, a, b Packets, load Load) (operator, agent *Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		var err error
		agent, err = Accept(ctx, b, load)
		done <- err
	}()
	operator, err := Dial(ctx, a, load)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return operator, agent
}

// both is connect for tests that close at their end.
func both(t testing.TB) (operator, agent *Conn) {
	t.Helper()
	a, b := newPipes()
	operator, agent = connect(t, a, b)
	t.Cleanup(func() { operator.Close(); agent.Close() })
	return operator, agent
}

// echo answers every stream with what it receives.
func echo(c *Conn) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		s, err := c.AcceptStream(context.Background())
		if err != nil {
			return
		}
		wg.Go(func() {
			if _, err := io.Copy(s, s); err != nil {
				s.Reset(7)
				return
			}
			s.CloseWrite()
		})
	}
}

func random(t testing.TB, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// roundTrip sends data through one stream and compares what comes back.
func roundTrip(t testing.TB, c *Conn, data []byte) {
	t.Helper()
	s, err := c.OpenStream(t.Context())
	if err != nil {
		t.Error(err)
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.Write(data); err != nil {
			t.Errorf("write: %v", err)
		}
		if err := s.CloseWrite(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	got, err := io.ReadAll(s)
	wg.Wait()
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d of %d bytes came back: %v", len(got), len(data), err)
	}
}

func TestManyStreamsCarryDataIntact(t *testing.T) {
	operator, agent := both(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer operator.Close()
	wg.Go(func() { echo(agent) })
	var work sync.WaitGroup
	for i := range 20 {
		work.Go(func() { roundTrip(t, operator, random(t, 1<<i)) })
	}
	work.Wait()
}

func TestAgentOpensStreamsToo(t *testing.T) {
	operator, agent := both(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer agent.Close()
	wg.Go(func() { echo(operator) })
	roundTrip(t, agent, random(t, 100_000))
}

func TestStreamNumbersAgreeAtBothEnds(t *testing.T) {
	operator, agent := both(t)
	seen := map[uint64]bool{}
	for range 5 {
		s, err := operator.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.Write([]byte{1})
		r, err := agent.AcceptStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.ID() != r.ID() || seen[s.ID()] {
			t.Errorf("numbers %d and %d", s.ID(), r.ID())
		}
		seen[s.ID()] = true
	}
}

func TestLossDuplicationAndReorderingLoseNothing(t *testing.T) {
	a, b := newPipes()
	a.meddle, b.meddle = meddler(1), meddler(2)
	operator, agent := connect(t, a, b)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer agent.Close() // itself: the farewell is lost as anything else
	defer operator.Close()
	wg.Go(func() { echo(agent) })
	roundTrip(t, operator, random(t, 1<<20))
}

// TestPacketsGrowAndShrinkUnderWay: their length changes with the path, and what was
// made for the one before is lost.
func TestPacketsGrowAndShrinkUnderWay(t *testing.T) {
	a, b := newPipes()
	operator, agent := connect(t, a, b)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer agent.Close()
	defer operator.Close()
	wg.Go(func() { echo(agent) })
	for i, p := range []*pipe{a, b} {
		n, lose := 0, meddler(uint64(i))
		p.cut(func(q []byte) [][]byte {
			p.mu.Lock()
			defer p.mu.Unlock()
			if n++; n%50 == 0 {
				p.size = LargePacket + PacketSize - max(p.size, PacketSize)
			}
			if len(q) > max(p.size, PacketSize) {
				return nil
			}
			return lose(q)
		})
	}
	roundTrip(t, operator, random(t, 4<<20))
	if _, largest := a.sent(); largest != LargePacket {
		t.Errorf("the longest packet has %d bytes", largest)
	}
}

// meddler loses, doubles and delays the packets of one direction.
func meddler(seed uint64) func(p []byte) [][]byte {
	rng := mrand.New(mrand.NewPCG(seed, 2))
	var held []byte
	return func(p []byte) [][]byte {
		switch rng.IntN(50) {
		case 0:
			return nil
		case 1:
			return [][]byte{p, p, p}
		case 2:
			old := held
			held = bytes.Clone(p)
			if old == nil {
				return nil
			}
			return [][]byte{old}
		}
		return [][]byte{p}
	}
}

func TestPacketsStayWithinTheirSize(t *testing.T) {
	a, b := newPipes()
	operator, agent := connect(t, a, b)
	defer agent.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer operator.Close()
	wg.Go(func() { echo(agent) })
	roundTrip(t, operator, random(t, 1<<20))
	for _, p := range []*pipe{a, b} {
		if packets, largest := p.sent(); largest != PacketSize {
			t.Errorf("largest of %d packets is %d bytes", packets, largest)
		}
	}
}

// TestBatchesAreWritten: packets of bulk leave many at a time, each batch in one system
// call, which is most of what a packet costs.
func TestBatchesAreWritten(t *testing.T) {
	a, b := newPipes()
	operator, agent := connect(t, a, b)
	defer agent.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer operator.Close()
	wg.Go(func() { echo(agent) })
	roundTrip(t, operator, random(t, 4<<20))
	a.mu.Lock()
	defer a.mu.Unlock()
	const many = 24
	full := 0
	for _, n := range a.batches {
		if n >= many {
			full += n
		}
	}
	if full < a.packets/4 { // nearly all of them where nothing else keeps the processors
		t.Errorf("of %d packets %d were written in batches of at least %d", a.packets, full, many)
	}
}

func TestResetReachesThePeerWithItsCode(t *testing.T) {
	operator, agent := both(t)
	s, err := operator.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Write([]byte("x"))
	r, err := agent.AcceptStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Reset(42)
	var reset *ResetError
	if _, err := io.ReadAll(r); !errors.As(err, &reset) || reset.Code != 42 || !reset.Remote {
		t.Errorf("reading: %v", err)
	}
	select {
	case <-r.WriteDone():
	case <-time.After(patience):
		t.Fatal("the writing half does not end")
	}
	if _, err := r.Write([]byte("y")); !errors.As(err, &reset) || reset.Code != 42 {
		t.Errorf("writing: %v", err)
	}
	if _, err := s.Read(make([]byte, 1)); !errors.As(err, &reset) || reset.Remote {
		t.Errorf("own reading: %v", err)
	}
}

func TestStreamsBeyondTheLimitWait(t *testing.T) {
	operator, _ := both(t)
	for range MaxStreams {
		if _, err := operator.OpenStream(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := operator.OpenStream(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stream %d: %v", MaxStreams+1, err)
	}
}

func TestCloseWakesEverybodyAndIsRepeatable(t *testing.T) {
	operator, agent := both(t)
	s, err := operator.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if operator.Err() != nil {
		t.Errorf("living connection has error %v", operator.Err())
	}
	var wg sync.WaitGroup
	check := func(what string, f func() error) {
		wg.Go(func() {
			if err := f(); err != ErrClosed {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	check("read", func() error { _, err := s.Read(make([]byte, 1)); return err })
	check("accept", func() error { _, err := operator.AcceptStream(context.Background()); return err })
	check("accept at the peer", func() error { _, err := agent.AcceptStream(context.Background()); return err })
	operator.Close()
	operator.Close()
	wg.Wait()
	<-agent.Done()
	if operator.Err() != ErrClosed || agent.Err() != ErrClosed {
		t.Errorf("errors %v and %v", operator.Err(), agent.Err())
	}
	if _, err := operator.OpenStream(t.Context()); err != ErrClosed {
		t.Errorf("open after close: %v", err)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	a, _ := newPipes()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, a, Few); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestIdleConnectionLivesAndCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipes()
		operator, agent := connect(t, a, b)
		defer agent.Close()
		defer operator.Close()
		time.Sleep(time.Second) // fake time: let the handshake's acknowledgements pass
		before, _ := a.sent()
		time.Sleep(time.Hour)
		if operator.Err() != nil || agent.Err() != nil {
			t.Fatalf("ended: %v, %v", operator.Err(), agent.Err())
		}
		after, _ := a.sent()
		if n := after - before; n != 0 { // the paths are kept alive below, not here
			t.Errorf("%d packets in an idle hour", n)
		}
	})
}

// A hundred readers that are stuck, each with as much waiting as may, hold up neither
// one another nor the one that reads.
func TestStuckReadersOfManyStallOnlyThemselves(t *testing.T) {
	a, b := newPipes()
	operator, agent := connectAs(t, a, b, Many)
	t.Cleanup(func() { operator.Close(); agent.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer operator.Close()
	for range 100 {
		s, err := operator.OpenStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if _, err := s.Write(make([]byte, 1<<20)); err != ErrClosed {
				t.Errorf("a megabyte where nobody reads: %v", err)
			}
		})
		if _, err := agent.AcceptStream(ctx); err != nil {
			t.Fatal(err)
		}
	}
	s, err := operator.OpenStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const size = 8 << 20
	wg.Go(func() {
		_, _ = s.Write(make([]byte, size))
		_ = s.CloseWrite()
	})
	r, err := agent.AcceptStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); n != size || err != nil {
		t.Errorf("the stream that is read brings %d bytes: %v", n, err)
	}
	operator.Close()
}
