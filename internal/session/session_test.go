package session

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/refusal"
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

// TestUnknownChannelTypeIsRefusedAndTheSessionLives, whoever opens it and whatever
// its opening says.
func TestUnknownChannelTypeIsRefusedAndTheSessionLives(t *testing.T) {
	w, _, _ := memWorld(t)
	defer w.close()
	for name, from := range map[string]*Conn{"operator": w.operator, "agent": w.agent} {
		s, err := from.transport.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m := messageWriter{s: s}
		if err := m.write(msgOpen, appendString(nil, "x11"), []byte("more of it")); err != nil {
			t.Fatal(err)
		}
		r := messageReader{r: s}
		typ, body, err := r.next()
		p := parser{b: body}
		e := p.refusal()
		if err != nil || typ != msgOpenFailure || p.end() != nil || e.Code != refusal.BadRequest {
			t.Errorf("from the %s: answer %d, %v, %v", name, typ, e, err)
		}
	}
	w.cat([]byte("still here"))
}

// TestChannelOfTheOtherSidesTypeEndsTheSession: programs are the operator's to ask for.
func TestChannelOfTheOtherSidesTypeEndsTheSession(t *testing.T) {
	for _, name := range []string{nameSession, nameControl} {
		w, _, _ := memWorld(t)
		if _, err := w.agent.openStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		<-w.operator.Done()
		if err := w.operator.Err(); refusal.Of(err) != refusal.ProtocolError {
			t.Errorf("%s: %v", name, err)
		}
		w.close()
	}
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
