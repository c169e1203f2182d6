package session

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// opposite accepts one pipe at c and hands it over.
func opposite(t *testing.T, c *Conn, port uint16) (<-chan *Pipe, <-chan Opening) {
	pipes, openings := make(chan *Pipe, 1), make(chan Opening, 1)
	go func() {
		a, err := c.AcceptPipe(context.Background())
		if err != nil {
			t.Error(err)
			close(pipes)
			return
		}
		openings <- a.Opening
		p, err := a.Accept(port)
		if err != nil {
			t.Error(err)
		}
		pipes <- p
	}()
	return pipes, openings
}

func TestPipesCarryBytesBothWaysAndEndByHalves(t *testing.T) {
	w, _, _ := memWorld(t)
	defer w.close()
	for _, c := range []struct {
		from, to *Conn
		o        Opening
	}{
		{w.operator, w.agent, Opening{Kind: DirectTCP, Host: "db.lan", Port: 5432}},
		{w.operator, w.agent, Opening{Kind: ListenSocket, Host: "/run/x.sock"}},
		{w.agent, w.operator, Opening{Kind: ForwardedTCP, Host: "10.0.0.1", Port: 4711, Of: 8}},
	} {
		pipes, openings := opposite(t, c.to, 7)
		near, err := c.from.OpenPipe(t.Context(), c.o)
		if err != nil {
			t.Fatal(err)
		}
		far := <-pipes
		if got := <-openings; got != c.o || near.Port() != 7 || near.ID() != far.ID() {
			t.Errorf("opened with %+v, got %+v, port %d", c.o, got, near.Port())
		}
		data := random(t, 1<<20)
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = near.Write(data)
			_ = near.CloseWrite()
		})
		got, err := io.ReadAll(far)
		wg.Wait()
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes of %d arrived: %v", len(got), len(data), err)
		}
		// The other direction goes on after the first has ended.
		_, _ = far.Write([]byte("late"))
		_ = far.CloseWrite()
		_ = far.Close()
		if got, err := io.ReadAll(near); string(got) != "late" || err != nil {
			t.Errorf("after the half-close: %q, %v", got, err)
		}
		_ = near.Close()
	}
}

func TestRefusedPipeHasCodeAndTextAndTheSessionLives(t *testing.T) {
	w, _, _ := memWorld(t)
	defer w.close()
	go func() {
		if a, err := w.agent.AcceptPipe(context.Background()); err == nil {
			a.Refuse(refusal.New(refusal.PolicyDenied, "blocked by rule no-mail"))
		}
	}()
	_, err := w.operator.OpenPipe(t.Context(), Opening{Kind: DirectTCP, Host: "mail.lan", Port: 25})
	if refusal.Of(err) != refusal.PolicyDenied || err.Error() != "policy_denied: blocked by rule no-mail" {
		t.Errorf("got %v", err)
	}
	w.cat([]byte("still here"))
}

func TestResetOfAPipeIsNoEndOfFile(t *testing.T) {
	w, _, _ := memWorld(t)
	defer w.close()
	pipes, _ := opposite(t, w.agent, 0)
	near, err := w.operator.OpenPipe(t.Context(), Opening{Kind: DirectTCP, Host: "a", Port: 1})
	if err != nil {
		t.Fatal(err)
	}
	far := <-pipes
	_ = near.Close()
	if _, err := io.ReadAll(far); err == nil {
		t.Error("a connection that was cut looks like one that ended")
	}
	_ = far.Close()
}

// A stuck reader stalls only its own stream.
func TestAStuckPipeHoldsUpNoOther(t *testing.T) {
	w, _, _ := memWorld(t)
	defer w.close()
	pipes, _ := opposite(t, w.agent, 0)
	stuck, err := w.operator.OpenPipe(t.Context(), Opening{Kind: DirectTCP, Host: "a", Port: 1})
	if err != nil {
		t.Fatal(err)
	}
	far := <-pipes
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = stuck.Write(make([]byte, 64<<20)) })
	w.cat(random(t, 1<<20))
	_ = far.Close()
	wg.Wait()
	_ = stuck.Close()
}

func TestPipesThatOnlyTheAgentOpensAreRefusedFromTheOperator(t *testing.T) {
	w, _, _ := memWorld(t)
	defer w.close()
	if _, err := w.operator.OpenPipe(t.Context(), Opening{Kind: AgentSocket}); err == nil {
		t.Error("the operator opened a channel to its own agent at the machine")
	}
	<-w.operator.Done()
}

func TestTargetsOutsideTheLimitsAreRefusedHere(t *testing.T) {
	w, _, _ := memWorld(t)
	defer w.close()
	if _, err := w.operator.OpenPipe(t.Context(), Opening{Kind: DirectSocket, Host: string(make([]byte, maxHost+1))}); refusal.Of(err) != refusal.BadArgument {
		t.Errorf("got %v", err)
	}
	w.cat([]byte("still here"))
}

func FuzzOpening(f *testing.F) {
	f.Add(Opening{Kind: DirectTCP, Host: "db.lan", Port: 5432}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := parser{b: b}
		k := Kind(p.string(maxName))
		o := p.opening(k)
		if p.end() == nil && !bytes.Equal(o.append(nil), b) {
			t.Errorf("%x is read as %+v", b, o)
		}
	})
}
