package link

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// next mints the credential that follows cred.
func (r *testRelay) next(t testing.TB, cred wire.Relay, life time.Duration) wire.Relay {
	t.Helper()
	name, err := credential.Parse(cred.Username)
	if err != nil {
		t.Fatal(err)
	}
	c := credential.Mint(r.secret, name.Pair, name.Role, time.Now(), life)
	cred.Username, cred.Password, cred.ExpiresAt = c.Username, c.Password, wire.At(c.ExpiresAt)
	return cred
}

func (l *Link) renewWithin(t testing.TB, limit time.Duration, cred wire.Relay) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return l.Renew(ctx, cred)
}

// stream sends one numbered datagram every few milliseconds for a time, waits at most
// linger for those under way and returns how many were sent and which came.
func stream(t testing.TB, from, to *Link, length, linger time.Duration, meanwhile func(elapsed time.Duration)) (sent int, came []uint32) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var arrived atomic.Int64
	go func() {
		defer close(done)
		for {
			batch, err := to.ReadBatch(ctx)
			if err != nil {
				return
			}
			for _, d := range batch {
				came = append(came, binary.BigEndian.Uint32(d.B))
			}
			arrived.Store(int64(len(came)))
		}
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < length; <-tick.C {
		b := segments(1, 64)
		binary.BigEndian.PutUint32(b[Headroom:], uint32(sent))
		if from.WriteSegments(relay1, b, 64) == nil {
			sent++
		}
		meanwhile(time.Since(began))
	}
	for end := time.Now().Add(linger); arrived.Load() < int64(sent) && time.Now().Before(end); <-tick.C {
	}
	cancel()
	<-done
	return sent, came
}

// TestRenewedCredentialCarriesTheLinkOn: credentials of three seconds, a link of
// seven, and nothing is lost. Without renewal the same link ends.
func TestRenewedCredentialCarriesTheLinkOn(t *testing.T) {
	t.Parallel()
	r := startRelay(t)
	for name, e := range map[string]wire.RelayEndpoint{"udp": {UDP: r.udp}, "tcp": {TCP: r.tcp}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, longer := range []time.Duration{1, 2, 4} {
				sent, came, late := renewing(t, r, e, longer, 600*time.Millisecond, patience)
				if late {
					continue // a busy machine; what is lost then says nothing
				}
				if len(came) != sent || !slices.IsSorted(came) {
					t.Errorf("%d of %d datagrams came", len(came), sent)
				}
				return
			}
			t.Error("no renewal was in time")
		})
	}
	t.Run("not renewed", func(t *testing.T) {
		t.Parallel()
		for _, longer := range []time.Duration{1, 2, 4} {
			sent, came, late := renewing(t, r, wire.RelayEndpoint{UDP: r.udp}, longer, time.Hour, time.Second)
			if late {
				continue
			}
			if len(came) > sent*3/4 {
				t.Errorf("%d of %d datagrams came over a link without a credential", len(came), sent)
			}
			return
		}
		t.Error("no link was in time")
	})
}

// dialInTime opens a link whose credential ends soon, or returns nil where a busy machine
// took longer.
func dialInTime(t *testing.T, cred wire.Relay) *Link {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l, err := Open(ctx, Config{Relay: cred})
	if err == nil {
		t.Cleanup(func() { l.Close() })
	} else if time.Now().Before(cred.ExpiresAt.Time()) {
		t.Fatal(err)
	}
	return l
}

// renewing sends for seven seconds over a link whose credentials live for three, of
// which the cut to whole seconds leaves two; the first renewal is after one pause. All
// that takes so many times longer, for the machine that was late with the try before. late
// says that one was taken too late, when it or the one before had ended, or the link opened.
func renewing(t *testing.T, r *testRelay, e wire.RelayEndpoint, longer, pause, linger time.Duration) (sent int, came []uint32, late bool) {
	t.Helper()
	life, length := longer*3*time.Second, longer*7*time.Second
	pause *= longer
	co, ca := r.mint(e)
	co, ca = r.next(t, co, life), r.next(t, ca, life)
	operator, agent := dialInTime(t, co), dialInTime(t, ca)
	if operator == nil || agent == nil {
		return 0, nil, true
	}
	until(t, "the channels", func() bool {
		o, a := operator.one(), agent.one()
		late = time.Now().After(co.ExpiresAt.Time())
		return late || o != nil && o.bound.Load() && a != nil && a.bound.Load()
	})
	if late {
		return 0, nil, true
	}
	ends := map[*Link]time.Time{operator: co.ExpiresAt.Time(), agent: ca.ExpiresAt.Time()}
	var failed error
	due := pause
	sent, came = stream(t, operator, agent, length, linger, func(elapsed time.Duration) {
		if elapsed < due {
			return
		}
		due = elapsed + pause
		for l, cred := range map[*Link]wire.Relay{operator: co, agent: ca} {
			fresh := r.next(t, cred, life)
			failed = errors.Join(failed, l.renewWithin(t, patience, fresh))
			late = late || time.Now().After(ends[l]) || time.Now().After(fresh.ExpiresAt.Time())
			ends[l] = fresh.ExpiresAt.Time()
		}
	})
	late = late || errors.Is(failed, errSilent) // a relay that had no processor for half a second
	if failed != nil && !late {
		t.Error(failed)
	}
	return sent, came, late
}

// TestT4OnlyTheSameUserRenews: what the relay refuses, or does not answer, leaves
// the link as it was.
func TestT4OnlyTheSameUserRenews(t *testing.T) {
	r := startRelay(t)
	for _, e := range []wire.RelayEndpoint{{UDP: r.udp}, {TCP: r.tcp}} {
		co, ca := r.mint(e)
		operator, agent := dial(t, co), dial(t, ca)
		ready(t, operator, agent)
		stranger, _ := r.mint(e)
		wrong := r.next(t, co, 30*time.Minute)
		wrong.Password = append(wire.Bytes{1}, wrong.Password[1:]...)
		for name, c := range map[string]struct {
			cred wire.Relay
			want error
		}{
			"another session":  {stranger, refusal.New(refusal.RelayFailed, "")},
			"the other role":   {r.next(t, ca, time.Hour), refusal.New(refusal.RelayFailed, "")},
			"wrong password":   {wrong, refusal.New(refusal.RelayFailed, "")},
			"expired":          {r.next(t, co, -time.Second), refusal.New(refusal.RelayFailed, "")},
			"not a credential": {wire.Relay{Username: "x"}, refusal.New(refusal.RelayFailed, "")},
		} {
			err := operator.renewWithin(t, 300*time.Millisecond, c.cred)
			if !errors.Is(err, c.want) && (refusal.Of(c.want) == "" || refusal.Of(err) != refusal.Of(c.want)) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if name, _ := operator.one().turn.identity.newest(); name != co.Username {
			t.Error("a refused credential is in use")
		}
		if err := operator.WriteSegments(relay1, segments(2, 64), 64); err != nil {
			t.Fatal(err)
		}
		receive(t, agent, 2)
	}
}

// TestEverythingIsSignedByTheNewestCredential: the old one would be refused after
// its end, and with it permission, channel and the farewell.
func TestEverythingIsSignedByTheNewestCredential(t *testing.T) {
	r := startRelay(t)
	p := newProxy(t, r.udp, nil)
	old, _ := r.mint(wire.RelayEndpoint{UDP: p.addr})
	l := dial(t, old)
	until(t, "the channel", l.one().bound.Load)
	cred := r.next(t, old, 50*time.Minute)
	if err := l.renewWithin(t, patience, cred); err != nil {
		t.Fatal(err)
	}
	if err := l.one().turn.permit(); err != nil {
		t.Errorf("permission: %v", err)
	}
	if got := p.signer(guard.CreatePermissionRequest); got != cred.Username {
		t.Errorf("permission asked by %q", got)
	}
	until(t, "the allocation", func() bool { return r.server.Snapshot().Allocations == 1 })
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	until(t, "the farewell", func() bool { return r.server.Snapshot().Allocations == 0 })
	if got := p.signer(guard.RefreshRequest); got != cred.Username {
		t.Errorf("farewell by %q", got)
	}
	if err := l.renewWithin(t, patience, cred); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestRelayThatTheNewListDoesNotNameGetsNoNewCredential: an operator of relays
// takes one out of the list because it is not to be trusted any more.
func TestRelayThatTheNewListDoesNotNameGetsNoNewCredential(t *testing.T) {
	secret := credential.NewSecret()
	r, other := startFull(t, secret), startFull(t, secret)
	left, stays := newProxy(t, r.udp, nil), newProxy(t, other.udp, nil)
	at := wire.RelayEndpoint{UDP: stays.addr}
	old, _ := r.mint(wire.RelayEndpoint{UDP: left.addr}, at)
	l := dial(t, old)
	both := func() bool {
		a, b := l.one(), l.slots[1].current.Load()
		return a != nil && b != nil && a.bound.Load() && b.bound.Load()
	}
	until(t, "both relays", both)
	gone := l.one()
	cred := r.next(t, old, 50*time.Minute)
	cred.Endpoints = []wire.RelayEndpoint{at}
	if err := l.renewWithin(t, patience, cred); err != nil {
		t.Fatal(err)
	}
	if got := stays.signer(guard.RefreshRequest); got != cred.Username {
		t.Errorf("the relay that stays has seen %q", got)
	}
	if err := gone.ask(); err == nil { // a doubt that comes late
		t.Error("the relay of before is asked with the new credential")
	}
	until(t, "the only relay", func() bool { s := l.Relays(); return len(s) == 1 && s[0].Up && s[0].Name == stays.addr })
	<-gone.done
	if left.showed(cred.Username) {
		t.Error("the relay that was taken out has seen the new credential")
	}
}

// TestRelayThatTheNewListNamesElsewhereIsKept: a server takes the first relay out of
// service, or lists them in another order, and nothing that works is dropped.
func TestRelayThatTheNewListNamesElsewhereIsKept(t *testing.T) {
	secret := credential.NewSecret()
	r, other := startFull(t, secret), startFull(t, secret)
	a, b := wire.RelayEndpoint{UDP: r.udp}, wire.RelayEndpoint{UDP: other.udp}
	old, _ := r.mint(a, b)
	l := dial(t, old)
	until(t, "both relays", func() bool {
		list := l.Relays()
		return len(list) == 2 && list[0].Up && list[1].Up
	})
	first, second := l.slots[0].current.Load(), l.slots[1].current.Load()
	for _, list := range [][]wire.RelayEndpoint{{b, a}, {b}} {
		cred := r.next(t, old, 50*time.Minute)
		cred.Endpoints = list
		if err := l.renewWithin(t, patience, cred); err != nil {
			t.Fatal(err)
		}
		if got := l.Relays(); len(got) != len(list) || got[0].Name != b.UDP || got[0].Via != second.via || !got[0].Up {
			t.Errorf("%+v", got)
		}
		if l.slots[1].current.Load() != second {
			t.Error("the relay that stays was dialled anew")
		}
		if len(list) == 2 && l.slots[0].current.Load() != first {
			t.Error("the relay that is second now was dialled anew")
		}
	}
	<-first.done
}

func TestListsOfRelaysFindTheirSlots(t *testing.T) {
	at := func(names string) (list []wire.RelayEndpoint) {
		for _, n := range names {
			e := wire.RelayEndpoint{UDP: string(n) + ".invalid:1"}
			if n == '-' {
				e = wire.RelayEndpoint{}
			}
			list = append(list, e)
		}
		return list
	}
	for _, c := range []struct{ before, list, slots, order string }{
		{"ab", "ab", "ab", "ab"}, {"ab", "ba", "ab", "ba"}, {"abc", "bc", "-bc", "bc"}, {"abc", "dc", "d-c", "dc"},
		{"ab", "cab", "abc", "cab"}, {"abcd", "efgh", "efgh", "efgh"}, {"abc", "bb", "-b-", "b"}, {"ab", "-b-c", "cb", "bc"}, {"", "ab", "ab", "ab"},
	} {
		l := newLink(Config{Relay: wire.Relay{Endpoints: at(c.before)}})
		l.list(at(c.list))
		l.cancel()
		l.wg.Wait() // of the names
		for i, e := range at(c.slots) {
			if got := l.slots[i].relay(); got != e {
				t.Errorf("%+v: slot %d has %v", c, i, got)
			}
		}
		if got := l.endpoints(); !slices.Equal(got, at(c.order)) {
			t.Errorf("%+v: the order is %v", c, got)
		}
		if got := *l.order.Load(); len(got) != len(l.slots) {
			t.Errorf("%+v: %d slots", c, len(got))
		}
	}
}

func TestRenewalSurvivesLossAndAnOldNonce(t *testing.T) {
	r := startRelay(t)
	lost := 0
	p := newProxy(t, r.udp, func(typ guard.Type, _ []byte) bool {
		if typ == guard.RefreshSuccess {
			lost++
		}
		return typ != guard.RefreshSuccess || lost > 1
	})
	cred, _ := r.mint(wire.RelayEndpoint{UDP: p.addr})
	l := dial(t, cred)
	until(t, "the channel", l.one().bound.Load)
	if err := l.one().turn.permit(); err != nil { // or the answer to ours brings the new nonce
		t.Fatal(err)
	}
	id := &l.one().turn.identity
	id.mu.Lock()
	id.nonce = []byte("0123456789abcdef")
	id.mu.Unlock()
	began := time.Now()
	if err := l.renewWithin(t, patience, r.next(t, cred, time.Hour)); err != nil {
		t.Fatal(err)
	}
	// Old nonce, lost answer, answer; and again where an answer is late.
	if n := p.count(guard.RefreshRequest); n < 3 || n > 2+int(time.Since(began)/resendFirst) {
		t.Errorf("%d Refresh requests in %v", n, time.Since(began))
	}
}

// TestForgedAnswerRenewsNothing: every bit of the integrity is looked at.
func TestForgedAnswerRenewsNothing(t *testing.T) {
	r := startRelay(t)
	var bit atomic.Int32
	p := newProxy(t, r.udp, func(typ guard.Type, b []byte) bool {
		if mac, ok := guard.Find(b, guard.AttrIntegrity); ok && typ == guard.RefreshSuccess {
			mac[bit.Load()/8%20] ^= 1 << (bit.Load() % 8)
		}
		return true
	})
	cred, _ := r.mint(wire.RelayEndpoint{UDP: p.addr})
	l := dial(t, cred)
	for range 160 {
		if err := l.renewWithin(t, patience, r.next(t, cred, time.Hour)); refusal.Of(err) != refusal.RelayFailed {
			t.Fatalf("bit %d: %v", bit.Load(), err)
		}
		bit.Add(1)
	}
}

// asks runs Keep against a server that answers as told and returns when it was
// asked, and what was said of failures.
func asks(t *testing.T, lease wire.Lease, answer func(n int) (wire.Lease, error)) (at []time.Duration, told []time.Duration, ended time.Duration) {
	t.Helper()
	began := time.Now()
	Keep(t.Context(), lease, func(context.Context, wire.Lease) (wire.Lease, error) {
		at = append(at, time.Since(began))
		return answer(len(at))
	}, func(left time.Duration, _ error) { told = append(told, left) })
	return at, told, time.Since(began)
}

func lease(life time.Duration) wire.Lease {
	return wire.Lease{Lifetime: wire.Millis(life.Milliseconds()), Ticket: []byte("{}")}
}

func TestKeepAsksInTimeAndStopsWithTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at, told, ended := asks(t, lease(time.Hour), func(n int) (wire.Lease, error) {
			if n == 3 {
				return wire.Lease{Lifetime: 1000}, nil // the last one: it lives as long as the session may
			}
			return lease(30 * time.Minute), nil
		})
		if want := []time.Duration{40 * time.Minute, time.Hour, 80 * time.Minute}; !slices.Equal(at, want) || told != nil || ended != want[2] {
			t.Errorf("asked at %v, told %v, ended after %v", at, told, ended)
		}
		if at, _, ended := asks(t, wire.Lease{Lifetime: 3_600_000}, nil); at != nil || ended != 0 {
			t.Errorf("asked at %v without a ticket", at)
		}
	})
}

func TestKeepTriesUntilTheCredentialEndsAndTellsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at, told, ended := asks(t, lease(time.Hour), func(int) (wire.Lease, error) { return wire.Lease{}, errors.New("no") })
		if len(at) != 8 || at[1]-at[0] != 150*time.Second {
			t.Errorf("asked at %v", at)
		}
		if len(told) != 1 || told[0] != 10*time.Minute || ended != time.Hour {
			t.Errorf("told with %v left, ended after %v", told, ended)
		}
		at, told, _ = asks(t, lease(time.Hour), func(n int) (wire.Lease, error) {
			if n == 1 {
				return wire.Lease{}, errors.New("no")
			}
			return wire.Lease{}, nil
		})
		if len(at) != 2 || told != nil {
			t.Errorf("asked at %v, told %v", at, told)
		}
	})
}

// TestKeepIsNotMadeToSpin: a server may say anything.
func TestKeepIsNotMadeToSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, life := range []time.Duration{-time.Hour, 0, time.Millisecond} {
			at, _, ended := asks(t, lease(life), func(int) (wire.Lease, error) { return wire.Lease{}, errors.New("no") })
			if len(at) > 9 || ended > time.Second {
				t.Errorf("life %v: asked at %v, ended after %v", life, at, ended)
			}
		}
		at, _, _ := asks(t, lease(1000*time.Hour), func(int) (wire.Lease, error) { return wire.Lease{}, nil })
		if len(at) != 1 || at[0] != 40*time.Minute {
			t.Errorf("asked at %v", at)
		}
	})
}

func TestKeepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 41*time.Minute)
		defer cancel()
		began := time.Now()
		Keep(ctx, lease(time.Hour), func(ctx context.Context, _ wire.Lease) (wire.Lease, error) {
			<-ctx.Done()
			return wire.Lease{}, ctx.Err()
		}, func(time.Duration, error) { t.Error("told, though nobody waits") })
		if d := time.Since(began); d != 41*time.Minute {
			t.Errorf("ended after %v", d)
		}
	})
}
