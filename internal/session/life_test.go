package session

import (
	"bytes"
	"context"
	"errors"
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

func TestDialWithoutAgentIsUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShake(t)
		lo, _ := newMemLinks()
		began := time.Now()
		_, err := Dial(t.Context(), s.dial(lo))
		if refusal.Of(err) != refusal.Unreachable || time.Since(began) != DialLimit {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		// 5 ms, doubled up to 1 s: 22 copies in 15 s, each with the transport's
		// first packets, and the transport's own repeats.
		if n := lo.count(); n < 22 || n > 22*(1+maxHeld)+45 {
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

// TestAnAgedKeyCarriesNoData: with nobody to rekey, packets wait.
func TestAnAgedKeyCarriesNoData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lo, la := newMemLinks()
		s := newShake(t)
		var agent *Conn
		done := make(chan struct{})
		go func() {
			defer close(done)
			agent, _ = Accept(t.Context(), s.accept(la))
		}()
		c, err := newConn(seal.Operator, lo, s.keys, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.paths.refresh(lo, time.Now())
		if c.transport, err = c.connect(t.Context(), s.m3, loadOf(false)); err != nil {
			t.Fatal(err)
		}
		<-done
		time.Sleep(seal.HardAge + time.Second) // nothing of the operator runs but its streams
		sent := lo.count()
		if err := c.WritePackets([]byte("a packet"), 8); err != nil || !c.waiting.Load() {
			t.Errorf("waiting %t, %v", c.waiting.Load(), err)
		}
		if lo.count() != sent {
			t.Errorf("%d datagrams under an aged key", lo.count()-sent)
		}
		c.fail(errTest)
		c.teardown()
		agent.Close()
	})
}

// transportFrame is the length of a datagram with a frame of n bytes.
func transportFrame(n int) int { return segment(n) - 4 }

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
		keys, err := s.agent.Confirm(b[0].B)
		if err != nil {
			t.Error(err)
			return
		}
		c, err := newConn(seal.Agent, la, keys, nil)
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
		if keys, err = s.agent.Confirm(b[0].B); err != nil {
			t.Error(err)
			return
		}
		c, err := newConn(seal.Agent, la, keys, nil)
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

// TestAStreamThatSaysNothingIsGivenUp: it would hold a place for ever.
func TestAStreamThatSaysNothingIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, _ := memWorld(t)
		defer w.close()
		s, err := w.operator.transport.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := s.Write([]byte{0, 0}); err != nil {
			t.Fatal(err)
		}
		var reset *transport.ResetError
		if _, err := s.Read(make([]byte, 1)); !errors.As(err, &reset) || !reset.Remote || time.Since(began) < openLimit {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		w.cat([]byte("the session goes on"))
	})
}
