package labtest

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// Paces of what is typed or copied.
var (
	typing  = pace{1, 100 * time.Millisecond}
	talking = pace{1000, 10 * time.Millisecond} // enough to see at once which way it goes
	copying = pace{20000, 10 * time.Millisecond}
)

// gapMost bounds a pause after a path has failed, with room for a machine that does
// other things: what goes on by itself only after a timer of the protocol, of 30 s and
// more, is later. What is usual is measured by internal/bench.
const gapMost = 15 * time.Second

// pace is so many bytes each time.
type pace struct {
	bytes int
	every time.Duration
}

// stream is a session with a program at the other end that sends back what it
// gets. What we send is noise that nobody can guess, and every byte that comes
// back is compared at its place.
type stream struct {
	t     testing.TB
	w     *world
	proc  *process
	in    io.WriteCloser
	begun time.Time // when the client was started

	seed     [32]byte
	out      *rand.ChaCha8 // used by feed alone
	back     *rand.ChaCha8 // used by read alone
	sent     atomic.Int64
	got      atomic.Int64
	first    atomic.Int64 // when the first byte came back, in nanoseconds since 1970
	read     chan struct{}
	stopFeed chan struct{}
	fed      sync.WaitGroup

	mu    sync.Mutex
	last  time.Time     // guarded by mu: when something came back
	gap   time.Duration // guarded by mu: the longest pause since
	wrong string        // guarded by mu: what was wrong first
}

// open starts cat on the machine, by the operator's client, and returns when the
// first bytes have come back.
func (w *world) open(p pace) *stream {
	w.t.Helper()
	s := w.start(p, "exec", "-v", machineName, "--", "cat")
	eventually(w.t, "the session opens", func() bool {
		if !s.proc.alive() {
			w.t.Fatalf("the client ended: %s", s.proc.err.String())
		}
		return s.got.Load() > 0
	})
	return s
}

// start is open without waiting, with the client's arguments.
func (w *world) start(p pace, args ...string) *stream {
	w.t.Helper()
	s := &stream{t: w.t, w: w, read: make(chan struct{}), stopFeed: make(chan struct{}), begun: time.Now()}
	for i := range s.seed {
		s.seed[i] = byte(rand.Uint32())
	}
	s.out, s.back = rand.NewChaCha8(s.seed), rand.NewChaCha8(s.seed)
	cmd := w.client(w.laptop, args...)
	r, out, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.Stdout = out
	if s.in, err = cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	s.proc = launch(w.t, cmd)
	_ = out.Close()
	go s.check(r)
	s.feed(p)
	w.t.Cleanup(func() { s.hush(); _ = s.in.Close(); s.proc.stop(); <-s.read })
	return s
}

// check compares what comes back.
func (s *stream) check(r *os.File) {
	defer close(s.read)
	defer r.Close()
	b, want := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := r.Read(b)
		if n > 0 {
			_, _ = s.back.Read(want[:n])
			s.note(n, bytes.Equal(b[:n], want[:n]))
		}
		if err != nil {
			return
		}
	}
}

func (s *stream) note(n int, right bool) {
	now := time.Now()
	s.first.CompareAndSwap(0, now.UnixNano())
	s.mu.Lock()
	if !s.last.IsZero() {
		s.gap = max(s.gap, now.Sub(s.last))
	}
	s.last = now
	if at := s.got.Load(); !right && s.wrong == "" {
		s.wrong = fmt.Sprintf("wrong bytes between %d and %d", at, at+int64(n))
	}
	s.mu.Unlock()
	s.got.Add(int64(n))
}

// feed sends at a pace, in the background, until hush.
func (s *stream) feed(p pace) {
	s.fed.Go(func() {
		b := make([]byte, p.bytes)
		tick := time.NewTicker(p.every)
		defer tick.Stop()
		for {
			_, _ = s.out.Read(b)
			n, err := s.in.Write(b)
			s.sent.Add(int64(n))
			if err != nil {
				return
			}
			select {
			case <-tick.C:
			case <-s.stopFeed:
				return
			}
		}
	})
}

// hush ends feed.
func (s *stream) hush() {
	select {
	case <-s.stopFeed:
	default:
		close(s.stopFeed)
	}
}

// opened is when the first byte came back: the prompt.
func (s *stream) opened() time.Time { return time.Unix(0, s.first.Load()) }

// pause forgets the pauses so far, and returns the longest.
func (s *stream) pause() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gap
	if !s.last.IsZero() {
		g = max(g, time.Since(s.last))
	}
	s.gap = 0
	return g
}

// goesOn waits until what is sent from now on has come back, and returns how long
// that took.
func (s *stream) goesOn(limit time.Duration) time.Duration {
	s.t.Helper()
	want := s.sent.Load() + 1
	return within(s.t, limit, "what is typed now comes back", func() bool {
		s.alive()
		return s.got.Load() >= want
	})
}

// alive fails the test if the session has ended.
func (s *stream) alive() {
	s.t.Helper()
	if !s.proc.alive() {
		s.t.Fatalf("the session ended after %d of %d bytes: %s", s.got.Load(), s.sent.Load(), s.proc.err.String())
	}
}

// finish ends the program by the end of its input and wants everything back. It
// returns what the client says of the way that was used, "relay-udp …" or
// "direct …".
func (s *stream) finish() (way string) {
	s.t.Helper()
	s.hush()
	// A write that waits for the network ends when the process does.
	done := make(chan struct{})
	go func() { s.fed.Wait(); _ = s.in.Close(); close(done) }()
	code, _, said := s.proc.finish()
	<-s.read
	<-done
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wrong != "" {
		s.t.Errorf("%s", s.wrong)
	}
	if got, sent := s.got.Load(), s.sent.Load(); got != sent || code != 0 {
		s.t.Errorf("%d of %d bytes came back, exit %d: %s", got, sent, code, tail(said, 2000))
	}
	for line := range strings.Lines(said) { // the last word; ways that came before have lines of their own
		if ways, _, ok := strings.Cut(line, "; session after "); ok {
			way, _, _ = strings.Cut(strings.TrimPrefix(ways, "path "), ";")
		}
	}
	return way
}

// Which way a talking stream goes is seen within seeWithin: in one look it makes
// more than seeBytes on a relay's link, while challenges do not.
const (
	lookEvery = 20 * time.Millisecond
	seeWithin = 300 * time.Millisecond
	seeBytes  = 1500
)

// untilDirect waits until a talking stream passes no relay any more, and returns
// how long after its first byte that began. It fails after limit.
func (s *stream) untilDirect(limit time.Duration) time.Duration {
	s.t.Helper()
	return s.until(limit, "direct", func(quiet time.Duration) bool { return quiet > seeWithin })
}

// untilRelayed waits until a talking stream passes relays.
func (s *stream) untilRelayed(limit time.Duration) {
	s.t.Helper()
	s.until(limit, "relayed", func(quiet time.Duration) bool { return quiet == 0 })
}

// until calls a predicate with how long the relays have carried nothing while the
// stream moved. It returns when they last did, counted from the prompt.
func (s *stream) until(limit time.Duration, what string, reached func(quiet time.Duration) bool) time.Duration {
	s.t.Helper()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	start, last := time.Now(), time.Now()
	bytes, got, moved := s.w.relayed(), s.got.Load(), s.got.Load()
	passed := bytes // when moved was all that had come back
	for {
		<-tick.C
		s.alive()
		now, b, g := time.Now(), s.w.relayed(), s.got.Load()
		// With little processor no look has much in it; then what the relays have carried
		// since is as much as what came back, and what challenges carry is not.
		slow := now.Sub(last) > seeWithin && g > moved && b-passed >= uint64(g-moved)
		if b-bytes > seeBytes && g > got || slow {
			last, moved, passed = now, g, b
		}
		if g == got {
			last = last.Add(lookEvery) // it stood still: that says nothing
		}
		bytes, got = b, g
		if quiet := now.Sub(last); (quiet == 0 || g > moved) && reached(quiet) {
			return last.Sub(s.opened())
		}
		if now.Sub(start) > limit {
			s.t.Fatalf("the session is not %s after %v; %d of %d bytes came back, %d bytes passed the relays", what, limit, g, s.sent.Load(), b)
		}
	}
}

// wantDirect fails the test unless the client says that the way was direct.
func wantDirect(t testing.TB, way string) {
	t.Helper()
	if !strings.HasPrefix(way, "direct ") {
		t.Errorf("the client says %q, want a direct path", way)
	}
}

// nats makes two routers, one for each end.
func (w *world) nats(operator, machine netlab.Behaviour) (a, b *netlab.NAT) {
	return w.inet.NAT(operator), w.inet.NAT(machine)
}
