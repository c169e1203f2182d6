package link

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
)

func begin(t *testing.T, endpoints ...wire.RelayEndpoint) *Link {
	t.Helper()
	l := Begin(Config{Relay: wire.Relay{Endpoints: endpoints}})
	t.Cleanup(func() { l.Close() })
	return l
}

func use(t *testing.T, l *Link, cred wire.Relay) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := l.Use(ctx, cred); err != nil {
		t.Fatal(err)
	}
}

// peers returns credentials of both ends for the same endpoint, and the agent's
// end of the link.
func peers(t *testing.T, r *testRelay, operator, agent wire.RelayEndpoint) (wire.Relay, *Link) {
	t.Helper()
	co, ca := r.mint(operator)
	ca.Endpoints = []wire.RelayEndpoint{agent}
	l := dial(t, ca)
	ready(t, l)
	return co, l
}

// TestDataFollowsTheRequestWithoutAnyAnswer: nothing but the challenge ever comes
// back, and what is sent arrives.
func TestDataFollowsTheRequestWithoutAnyAnswer(t *testing.T) {
	r := startRelay(t)
	p := newProxy(t, r.udp, func(t guard.Type, _ []byte) bool { return t == guard.AllocateError })
	at := wire.RelayEndpoint{UDP: p.addr}
	cred, agent := peers(t, r, at, wire.RelayEndpoint{UDP: r.udp})
	l := begin(t, at)
	until(t, "the challenge", func() bool { return p.count(guard.AllocateRequest) > 0 })
	if user := p.signer(guard.AllocateRequest); user != "" {
		t.Errorf("%q signed before there was a credential", user)
	}
	use(t, l, cred)
	if err := l.WriteSegments(relay1, segments(3, 128), 128); err != nil {
		t.Fatal(err)
	}
	receive(t, agent, 3)
	if s := l.by(); !s.Up || s.Kind != RelayUDP {
		t.Errorf("state is %v", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := l.Proven(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("proven without an answer: %v", err)
	}
}

func TestEveryKindIsDialledAhead(t *testing.T) {
	r := startFull(t, credential.NewSecret())
	for _, k := range allKinds {
		t.Run(string(k), func(t *testing.T) {
			cred, agent := peers(t, &r.testRelay, r.only(k), r.only(RelayUDP))
			l := begin(t, r.only(k))
			use(t, l, cred)
			if err := l.WriteSegments(relay1, segments(1, 128), 128); err != nil {
				t.Fatal(err)
			}
			receive(t, agent, 1)
			if err := l.Proven(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := l.by().Kind; got != k {
				t.Errorf("kind is %s", got)
			}
		})
	}
}

// TestRelayThatTheAnswerDoesNotNameGetsNoCredential: the hint may be old, or was
// written by somebody.
func TestRelayThatTheAnswerDoesNotNameGetsNoCredential(t *testing.T) {
	r := startRelay(t)
	old := newProxy(t, r.udp, nil)
	cred, agent := peers(t, r, wire.RelayEndpoint{UDP: r.udp}, wire.RelayEndpoint{UDP: r.udp})
	l := begin(t, wire.RelayEndpoint{UDP: old.addr}, wire.RelayEndpoint{UDP: old.addr, TCP: r.tcp})
	until(t, "the challenge", func() bool { return old.count(guard.AllocateRequest) > 0 })
	use(t, l, cred)
	if err := l.WriteSegments(relay1, segments(1, 128), 128); err != nil {
		t.Fatal(err)
	}
	receive(t, agent, 1)
	if user := old.signer(guard.AllocateRequest); user != "" {
		t.Errorf("the old relay was shown %q", user)
	}
	if list := l.Relays(); len(list) != 1 || list[0].Name != r.udp {
		t.Errorf("relays are %v", list)
	}
}

// TestHintThatCannotBeReachedCostsNothing: what was tried ahead is no reason to
// give up.
func TestHintThatCannotBeReachedCostsNothing(t *testing.T) {
	r := startRelay(t)
	l := begin(t, wire.RelayEndpoint{TCP: "127.0.0.1:1", TLS: "no address"})
	cred, _ := r.mint(wire.RelayEndpoint{UDP: r.udp})
	use(t, l, cred)
	if err := l.Proven(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCredentialThatComesWhenTheTimeIsUpIsUsed: it comes while a race that went
// ahead of it winds down. That race has not asked the relay for anything.
func TestCredentialThatComesWhenTheTimeIsUpIsUsed(t *testing.T) {
	t.Parallel()
	r := startRelay(t)
	at := wire.RelayEndpoint{TCP: r.tcp}
	var calls atomic.Int32
	windsDown := make(chan struct{})
	l := Begin(Config{Relay: wire.Relay{Endpoints: []wire.RelayEndpoint{at}}, Proxy: func(*http.Request) (*url.URL, error) {
		if calls.Add(1) == 1 {
			<-windsDown
		}
		return nil, nil
	}})
	defer l.Close()
	<-time.After(perRelay + 50*time.Millisecond)
	cred, _ := r.mint(at)
	used := make(chan error, 1)
	go func() { used <- l.Use(t.Context(), cred) }()
	until(t, "the credential", l.isEntitled)
	close(windsDown)
	if err := <-used; err != nil {
		t.Fatal(err)
	}
	if err := l.Proven(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestErrorOfAnotherRelayIsNotTheNewOnes: the list may change while a race on the
// relay of before fails.
func TestErrorOfAnotherRelayIsNotTheNewOnes(t *testing.T) {
	old, now := wire.RelayEndpoint{UDP: "192.0.2.1:1"}, wire.RelayEndpoint{UDP: "192.0.2.2:2"}
	l := newLink(Config{Relay: wire.Relay{Endpoints: []wire.RelayEndpoint{now}}})
	if l.slots[0].lost(old, errNoAnswer) {
		t.Error("the new relay is taken for the old one")
	}
	if s := l.by(); s.Err != nil {
		t.Errorf("the new relay has %v", s.Err)
	}
	if !l.slots[0].lost(now, errNoAnswer) || l.by().Err == nil {
		t.Error("its own error is not told")
	}
}

func TestRelayThatRefusesTheCredentialIsTold(t *testing.T) {
	r, other := startRelay(t), &testRelay{secret: credential.NewSecret()}
	at := wire.RelayEndpoint{UDP: r.udp, TCP: r.tcp}
	l := begin(t, at)
	cred, _ := other.mint(at)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := l.Use(ctx, cred); err != nil && refusal.Of(err) != refusal.RelayFailed {
		t.Fatal(err)
	}
	if err := l.Proven(ctx); refusal.Of(err) != refusal.RelayFailed {
		t.Errorf("got %v", err)
	}
}

func TestUseNeedsRelays(t *testing.T) {
	l := begin(t)
	for _, n := range []int{0, wire.MaxRelayEndpoints + 1} {
		if err := l.Use(t.Context(), wire.Relay{Endpoints: make([]wire.RelayEndpoint, n)}); refusal.Of(err) != refusal.RelayFailed {
			t.Errorf("%d relays: %v", n, err)
		}
	}
}

// TestGateLetsTheBestKindOfThoseThatWaitPassFirst, and after it one at a time.
func TestGateLetsTheBestKindOfThoseThatWaitPassFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		passed := make(chan int, 4)
		for _, rank := range []int{3, 1, 2} {
			go func() {
				if g.pass(t.Context(), rank) == nil {
					passed <- rank
				}
			}()
		}
		gone, cancel := context.WithCancel(t.Context())
		go func() {
			if g.pass(gone, 0) == nil {
				t.Error("who had given up has passed")
			}
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if len(passed) > 0 || !g.reached() {
			t.Fatal("the gate is open without a credential")
		}
		g.unlock()
		for _, want := range []int{1, 2, 3} {
			synctest.Wait()
			if got := <-passed; got != want || len(passed) > 0 {
				t.Errorf("%d passed, want %d alone", got, want)
			}
			g.leave()
		}
		if g.reached() {
			t.Error("somebody is left")
		}
	})
}
