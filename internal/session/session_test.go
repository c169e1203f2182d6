package session

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/transport"
)

func TestReadyArrivesAsTheAgentSaidIt(t *testing.T) {
	w, _, _ := memWorld(t)
	defer w.close()
	if w.operator.Ready() != testReady {
		t.Errorf("operator has %+v", w.operator.Ready())
	}
}

func TestProgramWithInputOutputAndStatus(t *testing.T) {
	w, _, _ := memWorld(t)
	defer w.close()
	w.cat(random(t, 1<<20))
	w.cat(nil)

	ch, err := w.operator.OpenSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.Exec(t.Context(), [][]byte{[]byte("fail"), {}}); err != nil {
		t.Fatal(err)
	}
	var out, errs []byte
	var wg sync.WaitGroup
	wg.Go(func() { out, _ = io.ReadAll(ch.Stdout()) })
	wg.Go(func() { errs, _ = io.ReadAll(ch.Stderr()) })
	exit, err := ch.Wait()
	wg.Wait()
	if string(out) != "out" || string(errs) != "err" || exit.Status != 3 || err != nil {
		t.Errorf("%q, %q, %+v, %v", out, errs, exit, err)
	}
	if _, err := ch.Stdin().Write([]byte("late")); err != io.ErrClosedPipe {
		t.Errorf("writing after the end: %v", err)
	}
}

func TestRefusedProgramHasCodeAndText(t *testing.T) {
	w, _, _ := memWorld(t)
	defer w.close()
	ch, err := w.operator.OpenSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = ch.Exec(t.Context(), [][]byte{[]byte("nothing")})
	if refusal.Of(err) != refusal.CommandNotFound || !strings.Contains(err.Error(), "no such program") {
		t.Errorf("exec: %v", err)
	}
	exit, err := ch.Wait()
	if err != nil || exit.Refusal == nil || exit.Refusal.Code != refusal.CommandNotFound {
		t.Errorf("exit %+v: %v", exit, err)
	}
	if err := ch.Exec(t.Context(), [][]byte{[]byte("cat")}); refusal.Of(err) != refusal.BadArgument {
		t.Errorf("second program on one channel: %v", err)
	}
}

// shellWorld gives the test both ends of one started shell.
func shellWorld(t *testing.T, prepare func(*Channel)) (ch *Channel, sch *ServerChannel, requests []Request, w *world) {
	t.Helper()
	lo, la := newMemLinks()
	w = &world{t: t}
	w.operator, w.agent = connect(t, newShake(t), lo, la)
	ch, err := w.operator.OpenSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if prepare != nil {
		prepare(ch)
	}
	started := make(chan error, 1)
	go func() { started <- ch.Shell(context.Background()) }()
	if sch, err = w.agent.AcceptChannel(t.Context()); err != nil {
		t.Fatal(err)
	}
	for {
		r, err := sch.NextRequest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		requests = append(requests, r)
		if _, ok := r.(ShellRequest); ok {
			break
		}
	}
	if err := sch.Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	return ch, sch, requests, w
}

func TestRequestsArriveInOrderWithTheirValues(t *testing.T) {
	pty := PTY{Term: "xterm-256color", Size: Size{Columns: 132, Rows: 43, Width: 1000, Height: 700}, Modes: []Mode{{Op: 1, Value: 3}, {Op: 53, Value: 1}}}
	_, _, requests, w := shellWorld(t, func(ch *Channel) {
		if err := ch.RequestPTY(pty); err != nil {
			t.Error(err)
		}
		if err := ch.WindowChange(Size{Columns: 90, Rows: 20}); err != nil {
			t.Error(err)
		}
		if err := ch.Setenv("LANG", "de_DE.UTF-8"); err != nil {
			t.Error(err)
		}
	})
	defer w.close()
	p, ok := requests[0].(PTYRequest)
	if !ok || p.PTY.Term != pty.Term || p.PTY.Size != pty.Size || !slices.Equal(p.PTY.Modes, pty.Modes) {
		t.Errorf("first request is %+v", requests[0])
	}
	if requests[1] != (WindowChange{Size{Columns: 90, Rows: 20}}) || requests[2] != (EnvRequest{"LANG", "de_DE.UTF-8"}) {
		t.Errorf("then %+v, %+v", requests[1], requests[2])
	}
}

// TestSignalsDoNotWaitBehindData: the program does not read, the window is full,
// and still Ctrl-C arrives.
func TestSignalsDoNotWaitBehindData(t *testing.T) {
	ch, sch, _, w := shellWorld(t, nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := ch.Stdin().Write(make([]byte, 64<<20)); err == nil {
			t.Error("64 MiB fit into a window")
		}
	})
	defer wg.Wait()
	defer w.close()
	if _, err := io.ReadFull(sch.Stdin(), make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := ch.Signal("INT"); err != nil {
		t.Fatal(err)
	}
	if err := ch.WindowChange(Size{Columns: 1, Rows: 2}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []Request{SignalRequest{"INT"}, WindowChange{Size{Columns: 1, Rows: 2}}} {
		if r, err := sch.NextRequest(t.Context()); err != nil || r != want {
			t.Errorf("got %+v, %v; want %+v", r, err, want)
		}
	}
}

func TestOperatorThatGivesUpIsNoticed(t *testing.T) {
	ch, sch, _, w := shellWorld(t, nil)
	defer w.close()
	ch.Close()
	ch.Close()
	select {
	case <-sch.Gone():
	case <-time.After(patience):
		t.Fatal("the agent does not notice")
	}
	if _, err := sch.NextRequest(t.Context()); err != io.EOF {
		t.Errorf("next request: %v", err)
	}
	if _, err := sch.Stdout().Write([]byte("x")); err == nil {
		t.Error("output was taken")
	}
	if _, err := ch.Wait(); err == nil {
		t.Error("a channel that was given up has an exit")
	}
	if w.operator.Err() != nil || w.agent.Err() != nil {
		t.Errorf("the session ended: %v, %v", w.operator.Err(), w.agent.Err())
	}
}

func TestExitBySignalArrives(t *testing.T) {
	ch, sch, _, w := shellWorld(t, nil)
	defer w.close()
	want := Exit{Signal: "SEGV", CoreDumped: true}
	if err := sch.Exit(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if exit, err := ch.Wait(); err != nil || exit != want {
		t.Errorf("%+v, %v", exit, err)
	}
	sch.Close()
}

func TestUnknownChannelTypeIsRefusedAndTheSessionLives(t *testing.T) {
	w, _, _ := memWorld(t)
	defer w.close()
	s, err := w.operator.openStream(t.Context(), "direct-tcpip")
	if err != nil {
		t.Fatal(err)
	}
	r := messageReader{r: s}
	typ, body, err := r.next()
	p := parser{b: body}
	e := p.refusal()
	if err != nil || typ != msgOpenFailure || p.end() != nil || e.Code != refusal.BadRequest {
		t.Errorf("answer %d, %v, %v", typ, e, err)
	}
	w.cat([]byte("still here"))
}

func TestCloseEndsEverythingAtBothEnds(t *testing.T) {
	ch, sch, _, w := shellWorld(t, nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := io.ReadAll(ch.Stdout()); err != ErrClosed {
			t.Errorf("reading output: %v", err)
		}
	})
	wg.Go(func() {
		if _, err := io.ReadAll(sch.Stdin()); err != ErrClosed {
			t.Errorf("reading input: %v", err)
		}
	})
	w.operator.Close()
	w.operator.Close()
	<-w.agent.Done()
	w.agent.Close()
	wg.Wait()
	if w.operator.Err() != ErrClosed || w.agent.Err() != ErrClosed {
		t.Errorf("errors %v, %v", w.operator.Err(), w.agent.Err())
	}
	if _, err := w.operator.OpenSession(t.Context()); err != ErrClosed {
		t.Errorf("open: %v", err)
	}
	if _, err := w.agent.AcceptChannel(t.Context()); err != ErrClosed {
		t.Errorf("accept: %v", err)
	}
	if _, err := w.operator.sealed.Seal(nil, nil, time.Now()); err != seal.ErrClosed {
		t.Errorf("keys are still there: %v", err)
	}
}

func TestReasonOfCloseReachesTheOtherEnd(t *testing.T) {
	w, _, _ := memWorld(t)
	w.agent.CloseWith(refusal.Expired)
	<-w.operator.Done()
	if refusal.Of(w.operator.Err()) != refusal.Expired || refusal.Of(w.agent.Err()) != refusal.Expired {
		t.Errorf("errors %v, %v", w.operator.Err(), w.agent.Err())
	}
	w.close()
}

func TestDialWithoutAgentIsUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShake(t)
		lo, _ := newMemLinks()
		began := time.Now()
		_, err := Dial(t.Context(), s.dial(lo))
		if refusal.Of(err) != refusal.Unreachable || time.Since(began) != DialLimit {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		// 20 ms, doubled up to 1 s: 15 copies in 10 s, each with the transport's
		// first packets, and the transport's own repeats.
		if n := lo.count(); n < 15 || n > 15*(1+maxHeld)+30 {
			t.Errorf("%d datagrams were sent", n)
		}
		if s.keys.Exporter() != [32]byte{} {
			t.Error("keys were not erased")
		}
	})
}

func TestAcceptWithoutOperatorIsUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShake(t)
		_, la := newMemLinks()
		if _, err := Accept(t.Context(), s.accept(la)); refusal.Of(err) != refusal.Unreachable {
			t.Errorf("got %v", err)
		}
		if la.count() != 0 {
			t.Errorf("the agent sent %d datagrams to nobody", la.count())
		}
	})
}

// TestConfirmIsRepeatedUntilReadyComes: the first copies and the first READY are
// lost; the session starts all the same.
func TestConfirmIsRepeatedUntilReadyComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lo, la := newMemLinks()
		lose := func(n int) func([]byte) [][]byte {
			return func(d []byte) [][]byte {
				if n--; n >= 0 {
					return nil
				}
				return [][]byte{d}
			}
		}
		lo.setMeddle(lose(6))
		la.setMeddle(lose(2))
		w := newWorld(t, lo, la)
		w.cat([]byte("hello"))
		w.close()
	})
}

// TestPacketsThatOvertakeConfirmAreKept: otherwise the transport would begin
// with a timeout.
func TestPacketsThatOvertakeConfirmAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lo, la := newMemLinks()
		var held []byte
		lo.setMeddle(func(d []byte) [][]byte {
			if held == nil && d[0] != seal.Type {
				held = bytes.Clone(d)
				return nil
			}
			if d[0] == seal.Type && len(held) > 1 {
				out := [][]byte{d, held}
				held = []byte{0}
				return out
			}
			return [][]byte{d}
		})
		began := time.Now()
		w := newWorld(t, lo, la)
		if d := time.Since(began); d != 0 {
			t.Errorf("starting took %v on a network without delay", d)
		}
		w.close()
	})
}

func TestKeysAreRenewedWhileDataFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lo, la := memWorld(t)
		epochs := map[byte]int{}
		var mu sync.Mutex
		watch := func(d []byte) [][]byte {
			mu.Lock()
			defer mu.Unlock()
			if d[0] == seal.Type {
				epochs[d[1]]++
			}
			return [][]byte{d}
		}
		lo.setMeddle(watch)
		la.setMeddle(watch)
		for range 7 {
			w.cat([]byte("before and after"))
			time.Sleep(5 * time.Minute) // fake time
		}
		mu.Lock()
		if len(epochs) < 4 {
			t.Errorf("epochs seen in 35 minutes: %v", epochs)
		}
		mu.Unlock()
		w.close()
	})
}

func TestLostRekeyIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, la := memWorld(t)
		sealedRekeyed := transportFrame(seal.RekeySize)
		var dropped atomic.Int32
		la.setMeddle(func(d []byte) [][]byte {
			if len(d) == sealedRekeyed && dropped.Add(1) <= 3 {
				return nil
			}
			return [][]byte{d}
		})
		time.Sleep(seal.SoftAge + time.Minute)
		if dropped.Load() <= 3 || w.operator.Err() != nil {
			t.Errorf("%d datagrams looked at, session: %v", dropped.Load(), w.operator.Err())
		}
		w.cat([]byte("in the new epoch"))
		w.close()
	})
}

// TestWornKeyEndsTheSession: with nobody to rekey, the hard limit stops sealing.
func TestWornKeyEndsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lo, la := newMemLinks()
		s := newShake(t)
		var agent *Conn
		done := make(chan struct{})
		go func() {
			defer close(done)
			agent, _ = Accept(t.Context(), s.accept(la))
		}()
		c, exporter, err := newConn(seal.Operator, lo, s.keys, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.transport, err = c.connect(t.Context(), s.m3, exporter); err != nil {
			t.Fatal(err)
		}
		<-done
		<-c.Done()
		if refusal.Of(c.Err()) != refusal.RekeyRequired {
			t.Errorf("ended with %v", c.Err())
		}
		c.teardown()
		agent.Close()
	})
}

// transportFrame is the length of a datagram with a frame of n bytes.
func transportFrame(n int) int { return segment(n) - 4 }

func TestSilentPeerIsDeclaredDeadAfterNinetySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lo, la := memWorld(t)
		time.Sleep(time.Second)
		nothing := func([]byte) [][]byte { return nil }
		lo.setMeddle(nothing)
		la.setMeddle(nothing)
		began := time.Now()
		<-w.operator.Done()
		<-w.agent.Done()
		if d := time.Since(began); d > 2*transport.DeadAfter {
			t.Errorf("declared dead after %v", d)
		}
		if refusal.Of(w.operator.Err()) != refusal.Unreachable {
			t.Errorf("operator: %v", w.operator.Err())
		}
		w.close()
	})
}

func TestIdleSessionSendsKeepAlivesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lo, la := memWorld(t)
		time.Sleep(time.Second)
		before := lo.count() + la.count()
		time.Sleep(time.Hour)
		if n := lo.count() + la.count() - before; n > 6*int(time.Hour/transport.KeepAlive) {
			t.Errorf("%d datagrams in an idle hour", n)
		}
		if w.operator.Err() != nil || w.agent.Err() != nil {
			t.Errorf("ended: %v, %v", w.operator.Err(), w.agent.Err())
		}
		w.close()
	})
}

func TestWrongH4EndsTheDial(t *testing.T) {
	lo, la := newMemLinks()
	s := newShake(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		// An agent that has the keys and yet confirms something else.
		b, err := la.ReadBatch(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		keys, err := s.agent.Confirm(b[0])
		if err != nil {
			t.Error(err)
			return
		}
		c, _, err := newConn(seal.Agent, la, keys, nil)
		if err != nil {
			t.Error(err)
			return
		}
		c.sendFrame(frameReady, testReady.marshal(key.Hash{9}))
		c.fail(errTest)
	})
	_, err := Dial(ctx, s.dial(lo))
	wg.Wait()
	if refusal.Of(err) != refusal.HandshakeFailed {
		t.Errorf("got %v", err)
	}
}

func TestAgentThatClosesInsteadOfReadyIsHeard(t *testing.T) {
	lo, la := newMemLinks()
	s := newShake(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		b, err := la.ReadBatch(context.Background())
		if err != nil {
			t.Error(err)
			return
		}
		var keys *handshake.Keys
		if keys, err = s.agent.Confirm(b[0]); err != nil {
			t.Error(err)
			return
		}
		c, _, err := newConn(seal.Agent, la, keys, nil)
		if err != nil {
			t.Error(err)
			return
		}
		c.sendFrame(frameClose, []byte(refusal.TooMany))
		c.fail(errTest)
	})
	_, err := Dial(t.Context(), s.dial(lo))
	wg.Wait()
	if refusal.Of(err) != refusal.TooMany {
		t.Errorf("got %v", err)
	}
}
