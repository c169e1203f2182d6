package link

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay"
	"github.com/tucdesk/tucdesk/relay/guard"
)

func (p *proxy) lose(t guard.Type, lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop = map[guard.Type]bool{t: lost}
}

func (p *proxy) channelData() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.data
}

// TestLostChannelBindsDoNotSlowTheSessionForLife: no ChannelBind arrives for three
// seconds while the sender is in full flow, at a relay with its usual limits. The
// channel is bound all the same, soon after, and data goes that way.
func TestLostChannelBindsDoNotSlowTheSessionForLife(t *testing.T) {
	t.Parallel()
	const outage = 3 * time.Second
	r := startLimitedRelay(t, relay.Limits{})
	p := newProxy(t, r.udp, nil)
	p.lose(guard.ChannelBindRequest, true)
	operator, agent := pair(t, r, wire.RelayEndpoint{UDP: p.addr}, wire.RelayEndpoint{UDP: r.udp})
	ready(t, agent)
	if err := operator.WriteSegments(relay1, segments(2, 64), 64); err != nil {
		t.Fatal(err)
	}
	receive(t, agent, 2) // slow, but not silent
	began := time.Now()
	heal := time.AfterFunc(outage, func() { p.lose(guard.ChannelBindRequest, false) })
	defer heal.Stop()
	used := map[*allocation]bool{} // more than one where the machine is so busy that the relay seems lost
	until(t, "the channel", func() bool {
		if err := operator.WriteSegments(relay1, segments(8, 1200), 1200); err != nil {
			t.Fatal(err)
		}
		a := operator.one()
		used[a] = true
		return a != nil && a.bound.Load()
	})
	if d := time.Since(began); d < outage || d > 2*outage+slack {
		t.Errorf("bound after %v", d)
	}
	if n := p.count(guard.SendIndication); n > len(used)*indicationBurst+indicationRate*int(time.Since(began)/time.Second+1) {
		t.Errorf("%d Send indications", n)
	}
	// What was sent before the answer comes through the proxy before the first of these.
	through := func(mark byte) {
		t.Helper()
		d := segments(1, 1000)
		d[Headroom] = mark
		if err := operator.WriteSegments(relay1, d, 1000); err != nil {
			t.Fatal(err)
		}
		for !slices.ContainsFunc(receive(t, agent, 1), func(got []byte) bool { return bytes.Equal(got, d[Headroom:]) }) {
			continue
		}
	}
	through(0xfe)
	slow, asked, fast := p.count(guard.SendIndication), p.count(guard.ChannelBindRequest), p.channelData()
	through(0xff)
	if p.count(guard.SendIndication) != slow || p.count(guard.ChannelBindRequest) != asked || p.channelData() <= fast {
		t.Error("data does not go by the channel, or it is bound again and again")
	}
}

// TestChannelThatWentWithItsAllocationIsBoundAgain: the relay still has the allocation
// that this end has given up, and the channel that is asked for behind the next request
// is bound to that one, which is then deleted. Data goes through all the same.
func TestChannelThatWentWithItsAllocationIsBoundAgain(t *testing.T) {
	r := startRelay(t)
	p := newProxy(t, r.udp, nil)
	operator, agent := pair(t, r, wire.RelayEndpoint{UDP: p.addr}, wire.RelayEndpoint{UDP: r.udp})
	ready(t, operator, agent)
	asked := p.count(guard.AllocateRequest)
	p.lose(guard.RefreshRequest, true) // the farewell, too
	old := operator.one()
	old.fail(errSilent)
	until(t, "the farewell", func() bool { return p.count(guard.RefreshRequest) > 0 })
	p.lose(guard.RefreshRequest, false)
	until(t, "another allocation", func() bool { a := operator.one(); return a != nil && a != old && a.granted.Load() })
	if n := p.count(guard.AllocateRequest) - asked; n < 3 {
		t.Fatalf("%d requests for it: the relay had forgotten the one before", n)
	}
	ready(t, operator)
	arrived := drain(t, agent)
	took := writing(t, "data", func() bool { return arrived.n[1].Load() > 0 }, func() {
		if err := operator.WriteSegments(relay1, segments(1, 64), 64); err != nil {
			t.Fatal(err)
		}
	})
	if took > slack {
		t.Errorf("nothing arrived for %v", took)
	}
}

// scripted is a relay's end without a network, so that a test can use a clock of
// its own. It answers ChannelBind as told.
type scripted struct {
	answer func(request []byte) []byte // nil is silence

	mu    sync.Mutex
	asked []time.Time // guarded by mu; ChannelBind requests

	in   chan []byte
	done chan struct{}
	once sync.Once
}

// read shows the answers to the allocation.
func (s *scripted) read(a *allocation) {
	b := &batch{}
	for {
		select {
		case f := <-s.in:
			a.sort(b, f, time.Now())
		case <-s.done:
			return
		}
	}
}

func (s *scripted) segments([]byte, int) error { return nil }
func (s *scripted) whole([]byte)               {}
func (s *scripted) close()                     { s.once.Do(func() { close(s.done) }) }

func (s *scripted) frame(b []byte) error {
	if guard.TypeOf(b) != guard.ChannelBindRequest {
		return nil
	}
	s.mu.Lock()
	s.asked = append(s.asked, time.Now())
	s.mu.Unlock()
	if a := s.answer(b); a != nil {
		s.in <- a
	}
	return nil
}

// tries returns when the channel was asked for since the last call.
func (s *scripted) tries(since time.Time) (at []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.asked {
		at = append(at, a.Sub(since))
	}
	s.asked = nil
	return at
}

// scriptedAllocation keeps a channel with a relay that answers so.
func scriptedAllocation(answer func(p *allocation, request []byte) []byte) (*allocation, *scripted) {
	s := &scripted{in: make(chan []byte, 9), done: make(chan struct{})}
	p := newAllocation(newLink(Config{}), relay1, RelayUDP, "")
	p.leg = s
	s.answer = func(request []byte) []byte { return answer(p, request) }
	p.turn.identity.take(wire.Relay{Username: "somebody", Password: make([]byte, 32)})
	p.turn.identity.note([12]byte{})
	p.turn.identity.learn(challenge(guard.NewMessage(guard.AllocateError, [12]byte{}), "first"))
	p.wg.Go(func() { s.read(p) })
	p.wg.Go(p.keepBound)
	return p, s
}

func challenge(msg []byte, nonce string) []byte {
	msg = guard.AppendAttribute(msg, guard.AttrRealm, []byte("realm"))
	return guard.AppendAttribute(msg, guard.AttrNonce, []byte(nonce))
}

// granted answers a request as the relay does: signed with the key of its user,
// and nothing but that.
func granted(p *allocation, request []byte) []byte {
	name, password := p.turn.identity.newest()
	_, key := p.turn.identity.sign(guard.NewMessage(guard.ChannelBindRequest, [12]byte{}), name, password)
	msg := guard.AppendAttribute(guard.NewMessage(guard.ChannelBindSuccess, guard.Transaction(request)), guard.AttrIntegrity, make([]byte, 20))
	copy(msg[len(msg)-20:], integrity(msg, key))
	return msg
}

func refused(request []byte, code int) []byte {
	msg := guard.NewMessage(guard.ChannelBindError, guard.Transaction(request))
	return guard.AppendAttribute(msg, guard.AttrErrorCode, []byte{0, 0, byte(code / 100), byte(code % 100)})
}

func TestChannelIsAskedForUntilItIsBoundAndThenRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard atomic.Bool
		p, s := scriptedAllocation(func(p *allocation, request []byte) []byte {
			if !heard.Load() {
				return nil
			}
			return granted(p, request)
		})
		began := time.Now()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		at := s.tries(began)
		if len(at) < 30 || len(at) > 40 || at[0] != 0 || at[1] != resendFirst || at[2] > 2*time.Second {
			t.Errorf("asked at %v", at)
		}
		for i := 1; i < len(at); i++ {
			if pause := at[i] - at[i-1]; pause < resendFirst || pause > bindMost {
				t.Errorf("pause of %v", pause)
			}
		}
		if p.bound.Load() {
			t.Error("bound without an answer")
		}
		heard.Store(true)
		time.Sleep(bindMost)
		synctest.Wait()
		if !p.bound.Load() || len(s.tries(began)) != 1 {
			t.Error("not bound, or asked on")
		}
		began = time.Now()
		time.Sleep(time.Hour)
		synctest.Wait()
		if at := s.tries(began); len(at) != 12 {
			t.Errorf("in an hour renewed at %v", at)
		}
		p.close()
		time.Sleep(time.Hour)
		if at := s.tries(began); len(at) != 0 {
			t.Errorf("asked after the end at %v", at)
		}
	})
}

// TestFailedRenewalOfTheChannelIsMadeUpFor: it stays in use as long as the relay
// must still have it, no longer, and is bound again when the relay answers.
func TestFailedRenewalOfTheChannelIsMadeUpFor(t *testing.T) {
	for name, no := range map[string]func(request []byte) []byte{
		"silence": func([]byte) []byte { return nil },
		"refused": func(request []byte) []byte { return refused(request, 400) },
		"forged": func(request []byte) []byte {
			return guard.NewMessage(guard.ChannelBindSuccess, guard.Transaction(request))
		},
		"no nonce is good": func(request []byte) []byte { return challenge(refused(request, staleNonce), "other") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var failing atomic.Bool
				p, s := scriptedAllocation(func(p *allocation, request []byte) []byte {
					if failing.Load() {
						return no(request)
					}
					return granted(p, request)
				})
				defer p.close()
				synctest.Wait()
				failing.Store(true)
				for _, c := range []struct {
					sleep time.Duration
					bound bool
				}{{time.Second, true}, {channelLife - 2*time.Second, true}, {2*bindMost + time.Second, false}} {
					time.Sleep(c.sleep)
					synctest.Wait()
					if p.bound.Load() != c.bound {
						t.Fatalf("after another %v bound: %v", c.sleep, !c.bound)
					}
				}
				if n := len(s.tries(time.Now())); n < 15 || n > 40*renewTries {
					t.Errorf("asked %d times", n)
				}
				failing.Store(false)
				time.Sleep(bindMost)
				synctest.Wait()
				if !p.bound.Load() {
					t.Error("not bound again")
				}
			})
		})
	}
}

func TestChannelIsBoundWithAFreshNonceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := scriptedAllocation(func(p *allocation, request []byte) []byte {
			if nonce, _ := guard.Find(request, guard.AttrNonce); string(nonce) != "fresh" {
				return challenge(refused(request, staleNonce), "fresh")
			}
			return granted(p, request)
		})
		defer p.close()
		began := time.Now()
		synctest.Wait()
		if at := s.tries(began); !p.bound.Load() || !slices.Equal(at, []time.Duration{0, 0}) {
			t.Errorf("asked at %v", at)
		}
	})
}

// TestEveryBitOfTheChannelsAnswerIsSigned: a forged success would send the data
// into a channel that is none.
func TestEveryBitOfTheChannelsAnswerIsSigned(t *testing.T) {
	r := startRelay(t)
	cred, _ := r.mint(wire.RelayEndpoint{UDP: r.udp})
	l := dial(t, cred)
	until(t, "the channel", l.one().bound.Load)
	answer := granted(l.one(), guard.NewMessage(guard.ChannelBindRequest, [12]byte{1}))
	name, password := l.one().turn.identity.newest()
	_, key := l.one().turn.identity.sign(guard.NewMessage(guard.ChannelBindRequest, [12]byte{}), name, password)
	if !answers(answer, key) {
		t.Fatal("the answer itself is refused")
	}
	for i := range len(answer) * 8 {
		answer[i/8] ^= 1 << (i % 8)
		if guard.Check(answer) == nil && answers(answer, key) {
			t.Errorf("bit %d is not covered", i)
		}
		answer[i/8] ^= 1 << (i % 8)
	}
}

// TestOnlyAnswersBringANonce: somebody who can send as the relay, and read nothing, would
// else keep it wrong.
func TestOnlyAnswersBringANonce(t *testing.T) {
	var i identity
	with := func(id byte) []byte {
		return challenge(guard.NewMessage(guard.AllocateError, [12]byte{id}), "nonce "+string('0'+rune(id)))
	}
	i.learn(with(0)) // nothing was asked
	i.resign(guard.NewMessage(guard.AllocateRequest, [12]byte{1}))
	i.learn(with(2))
	if i.nonce != nil {
		t.Errorf("learnt %q", i.nonce)
	}
	if i.learn(with(1)); string(i.nonce) != "nonce 1" {
		t.Errorf("the answer brought %q", i.nonce)
	}
	for range recently {
		i.resign(guard.NewMessage(guard.AllocateRequest, [12]byte{3}))
	}
	if i.learn(with(1)); string(i.nonce) != "nonce 1" {
		t.Errorf("an answer of long ago brought %q", i.nonce)
	}
}

// TestIndicationsLeaveRoomForControl: a burst, then a steady rate, with unused
// time saved up to the burst only.
func TestIndicationsLeaveRoomForControl(t *testing.T) {
	var a allowance
	now := time.Now()
	spend := func() (n int) {
		for a.take(now) {
			n++
		}
		return n
	}
	if n := spend(); n != indicationBurst {
		t.Errorf("%d at once", n)
	}
	for _, c := range []struct {
		later time.Duration
		want  int
	}{{0, 0}, {time.Second, indicationRate}, {time.Hour, indicationBurst}} {
		now = now.Add(c.later)
		if n := spend(); n != c.want {
			t.Errorf("%d after %v", n, c.later)
		}
	}
}

func TestDatagramTooLongForAnIndicationIsLost(t *testing.T) {
	r := startRelay(t)
	p := newProxy(t, r.udp, nil)
	cred, _ := r.mint(wire.RelayEndpoint{UDP: p.addr})
	l := dial(t, cred)
	if err := l.one().indicate(make([]byte, guard.MaxFrame-32)); err != nil {
		t.Error(err)
	}
	if err := l.one().bind(patience); err != nil { // and the link goes on
		t.Error(err)
	}
	if n := p.count(guard.SendIndication); n != 0 {
		t.Errorf("%d Send indications", n)
	}
	if _, err := l.one().try(canceled(), newRequest(guard.RefreshRequest), nil, patience); err != context.Canceled {
		t.Errorf("got %v", err)
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// TestALongWayToTheRelayGetsTimeToAnswer: by satellite or over a full line a relay that
// is asked whether it still knows us would be given up before it can have answered.
func TestALongWayToTheRelayGetsTimeToAnswer(t *testing.T) {
	for _, trip := range []time.Duration{0, time.Millisecond, 300 * time.Millisecond, 3 * time.Second, 5 * time.Second} {
		a := allocation{trip: trip}
		again := a.again()
		if askPauses*again < 3*trip || trip <= askMost && again > askMost {
			t.Errorf("at %v the question is sent again after %v", trip, again)
		}
	}
}
