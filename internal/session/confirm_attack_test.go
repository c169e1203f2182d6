package session

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

func TestB11WrongConfirmsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lo, la := newMemLinks()
		s, other := newShake(t), newShake(t)
		shown := 0
		cfg := s.accept(la)
		confirm := cfg.Confirm
		cfg.Confirm = func(m3 []byte) (k *handshake.Keys, r Ready, err error) {
			shown++
			return confirm(m3)
		}
		for i := range 8 * len(s.m3) { // every flipped bit
			flipped := bytes.Clone(s.m3)
			flipped[i/8] ^= 1 << (i % 8)
			inject(la, flipped)
		}
		inject(la, other.m3) // of another session
		rebound := bytes.Clone(other.m3)
		copy(rebound[4:8], s.m3[4:8]) // … with our index: another key
		inject(la, rebound)
		for n := range s.m3 {
			inject(la, s.m3[:n])
		}
		var agent *Conn
		accepted := make(chan error, 1)
		go func() {
			var err error
			agent, err = Accept(t.Context(), cfg)
			accepted <- err
		}()
		synctest.Wait()
		if la.count() != 0 {
			t.Errorf("the agent answered %d times", la.count())
		}
		operator, err := Dial(t.Context(), s.dial(lo))
		if err != nil {
			t.Fatal(err)
		}
		if err := <-accepted; err != nil {
			t.Fatal(err)
		}
		if agent.Stats().Stray == 0 || shown > 8*len(s.m3)+2 {
			t.Errorf("counts: %+v, shown %d", agent.Stats(), shown)
		}
		operator.Close()
		agent.Close()
	})
}

func TestB11RepeatedConfirmGetsReadyAgainButNotWithoutLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lo, la := newMemLinks()
		s := newShake(t)
		operator, agent := connect(t, s, lo, la)
		time.Sleep(time.Second)
		before := la.count()
		for range 1000 {
			inject(la, s.m3)
		}
		synctest.Wait()
		if n := la.count() - before; n != 1 {
			t.Errorf("1,000 copies got %d answers", n)
		}
		other := newShake(t)
		stray := agent.Stats().Stray
		inject(la, other.m3)
		inject(lo, s.m3) // the operator never takes one
		synctest.Wait()
		if agent.Stats().Stray != stray+1 || operator.Stats().Stray != 1 {
			t.Errorf("strays: %d, %d", agent.Stats().Stray-stray, operator.Stats().Stray)
		}
		operator.Close()
		agent.Close()
	})
}

func TestB11EndlessWrongConfirmsEndTheWaiting(t *testing.T) {
	_, la := newMemLinks()
	s := newShake(t)
	wrong := bytes.Clone(s.m3)
	wrong[len(wrong)-1] ^= 1
	for range maxConfirms {
		inject(la, wrong)
	}
	if _, err := Accept(context.Background(), s.accept(la)); refusal.Of(err) != refusal.HandshakeFailed {
		t.Errorf("got %v", err)
	}
}
