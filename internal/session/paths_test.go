package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"maps"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// typist echoes single keys through the session and times each.
func (w *world) typist(keys int, pause time.Duration) (slowest time.Duration) {
	w.t.Helper()
	ch, err := w.operator.OpenSession(w.t.(*testing.T).Context())
	if err != nil {
		w.t.Fatal(err)
	}
	defer ch.Close()
	if err := ch.Exec(w.t.(*testing.T).Context(), [][]byte{[]byte("cat")}); err != nil {
		w.t.Fatal(err)
	}
	b := make([]byte, 1)
	for i := range keys {
		began := time.Now()
		if _, err := ch.Stdin().Write([]byte{byte(i)}); err != nil {
			w.t.Fatal(err)
		}
		if _, err := ch.Stdout().Read(b); err != nil || b[0] != byte(i) {
			w.t.Fatalf("key %d came back as %d: %v", i, b[0], err)
		}
		slowest = max(slowest, time.Since(began))
		time.Sleep(pause)
	}
	ch.Stdin().Close()
	if _, err := ch.Wait(); err != nil {
		w.t.Fatal(err)
	}
	return slowest
}

// TestALostDatagramDelaysNoKey: every third datagram is lost when it is first
// sent, and no key waits for a timeout.
func TestALostDatagramDelaysNoKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lo, la := memWorld(t)
		time.Sleep(time.Second)
		for _, l := range []*memLink{lo, la} {
			seen := map[uint64]bool{}
			var mu sync.Mutex
			l.setMeddle(func(d []byte) [][]byte {
				mu.Lock()
				defer mu.Unlock()
				counter := binary.BigEndian.Uint64(d[8:])
				if counter%3 == 0 && !seen[counter] {
					seen[counter] = true
					return nil
				}
				return [][]byte{d}
			})
		}
		if slowest := w.typist(50, 200*time.Millisecond); slowest > 4*copyAfter {
			t.Errorf("a key took %v", slowest)
		}
		w.close()
	})
}

// TestBulkIsNotSentTwice: copies are for what a person waits for.
func TestBulkIsNotSentTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // what a busy machine answers late is sent again
		w, lo, _ := memWorld(t)
		defer w.close()
		w.cat([]byte("warm"))
		before := lo.count()
		const size = 4 << 20
		w.cat(random(t, size))
		if n := lo.count() - before; n > size/1100*12/10 {
			t.Errorf("%d datagrams for %d bytes", n, size)
		}
	})
}

// TestRelayKilledWhileDataFlows: with a second relay alive no byte is lost and
// the pause is short.
func TestRelayKilledWhileDataFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lo, la := newMemNet(2)
		delay(lo, 25*time.Millisecond)
		delay(la, 25*time.Millisecond)
		w := newWorld(t, lo, la)
		time.Sleep(2 * time.Second)
		via := w.operator.Path().Via
		lo.kill(via, true)
		if slowest := w.typist(20, 50*time.Millisecond); slowest > time.Second {
			t.Errorf("a key took %v", slowest)
		}
		if now := w.operator.Path(); now.Lost || now.Via == via {
			t.Errorf("path %+v, was %v", now, via)
		}
		w.close()
	})
}

// TestSilentRelayIsAskedForInADoubt: a NAT that forgot us makes relay and direct
// path silent at once. Whether our place on the relay is gone must be asked when
// the path is doubted, not when it has been given up seconds later.
func TestSilentRelayIsAskedForInADoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lo, _ := memWorld(t)
		w.typist(10, 100*time.Millisecond)
		ch, err := w.operator.OpenSession(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := ch.Exec(t.Context(), [][]byte{[]byte("cat")}); err != nil {
			t.Fatal(err)
		}
		lo.kill(oneRelay, true)
		killed := time.Now()
		if _, err := ch.Stdin().Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		lo.mu.Lock()
		if !lo.rechecked.After(killed) {
			t.Error("the relay was not asked for")
		}
		lo.mu.Unlock()
		lo.kill(oneRelay, false)
		_ = ch.Close()
		w.close()
	})
}

// TestSessionOutlivesALostNetwork: everything is gone for a while, longer than
// any key may live, and comes back.
func TestSessionOutlivesALostNetwork(t *testing.T) {
	for _, gone := range []time.Duration{5 * time.Second, 5 * time.Minute, 3 * time.Hour} {
		t.Run(gone.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, lo, _ := memWorld(t)
				time.Sleep(time.Second)
				lo.kill(oneRelay, true)
				changed := w.operator.PathChanged()
				var wg sync.WaitGroup
				wg.Go(func() { w.catWithin(random(t, 10_000), 4*time.Hour) }) // begins while nothing gets through
				time.Sleep(gone)
				select {
				case <-changed:
				default:
					t.Error("nobody was told that the path is lost")
				}
				if !w.operator.Path().Lost {
					t.Errorf("path %+v", w.operator.Path())
				}
				lo.kill(oneRelay, false)
				poke(lo.changed)
				began := time.Now()
				wg.Wait()
				if d := time.Since(began); d > 20*time.Second {
					t.Errorf("it took %v to go on", d)
				}
				w.close()
			})
		})
	}
}

// TestLostForLongerThanResumeEndsTheSession at both ends, each by its own clock.
func TestLostForLongerThanResumeEndsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lo, _ := memWorld(t)
		time.Sleep(time.Second)
		lo.kill(oneRelay, true)
		began := time.Now()
		<-w.operator.Done()
		<-w.agent.Done()
		if d := time.Since(began); d < testReady.MaxResume || d > testReady.MaxResume+2*lookAtLeast {
			t.Errorf("ended after %v", d)
		}
		if refusal.Of(w.operator.Err()) != refusal.Unreachable || refusal.Of(w.agent.Err()) != refusal.Unreachable {
			t.Errorf("ended with %v, %v", w.operator.Err(), w.agent.Err())
		}
		w.close()
	})
}

func TestIdleSessionCostsAlmostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lo, la := newMemNet(2)
		w := newWorld(t, lo, la)
		time.Sleep(time.Minute)
		before := lo.count() + la.count()
		time.Sleep(9 * time.Minute) // less than a key lives
		n := lo.count() + la.count() - before
		// The issue: at most 100 bytes a second. A probe is 96 bytes sealed, 4 in
		// a channel, 28 in UDP.
		if perSecond := float64(n*(96+4+28)) / (9 * 60); perSecond > 100 {
			t.Errorf("%d datagrams, %.1f bytes a second", n, perSecond)
		}
		w.close()
	})
}

// TestMalformedPathFrameEndsTheSession: only the peer can have sealed it.
func TestMalformedPathFrameEndsTheSession(t *testing.T) {
	for typ := framePathFirst; typ <= framePathLast; typ++ {
		w, _, la := memWorld(t)
		d, err := w.operator.sealed.Seal(nil, appendFrameBlock(typ, []byte{1}), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		inject(la, d)
		<-w.agent.Done()
		if refusal.Of(w.agent.Err()) != refusal.ProtocolError {
			t.Errorf("frame %#x: %v", typ, w.agent.Err())
		}
		w.close()
	}
}

// TestA3CopyFromAnotherPathMovesNothing: what a thief of datagrams repeats by
// another way is a replay, and the session stays where it is.
func TestA3CopyFromAnotherPathMovesNothing(t *testing.T) {
	w, lo, la := memWorld(t)
	defer w.close()
	d := w.capture(lo)
	via := w.agent.Path().Via
	before := w.agent.Stats().Replayed
	la.in <- link.Datagram{Via: path.Via{Relay: 2}, B: bytes.Clone(d)}
	until(t, "the replay", func() bool { return w.agent.Stats().Replayed > before })
	if now := w.agent.Path().Via; now != via {
		t.Errorf("moved from %v to %v", via, now)
	}
	w.cat([]byte("still here"))
}

// probed returns where p sends probes within some seconds after the peer has named
// these addresses, in a list of that sequence.
func probed(t *testing.T, p *paths, now time.Time, sequence uint32, list ...netip.AddrPort) map[netip.AddrPort]bool {
	t.Helper()
	body := append(binary.BigEndian.AppendUint32(nil, sequence), byte(len(list)))
	for _, a := range list {
		ip := a.Addr().As16()
		body = binary.BigEndian.AppendUint16(append(append(body, byte(path.Host)), ip[:]...), a.Port())
	}
	if err := p.frame(oneRelay, frameType(path.Candidates), body, now); err != nil {
		t.Fatal(err)
	}
	to := map[netip.AddrPort]bool{}
	for range 100 {
		probes, next := p.due(now)
		for _, q := range probes {
			if !q.Via.Relayed() {
				to[q.Via.Addr] = true
			}
		}
		now = next
	}
	return to
}

// TestM2NothingGoesToRelaysOrEverybodyOnAPeersWord: not in the network of the
// beginning, and not in one that this machine has come to since.
func TestM2NothingGoesToRelaysOrEverybodyOnAPeersWord(t *testing.T) {
	relay, other := netip.MustParseAddrPort("203.0.113.5:3478"), netip.MustParseAddrPort("203.0.113.5:3479")
	home, office := netip.MustParseAddrPort("192.168.7.255:9"), netip.MustParseAddrPort("10.1.63.255:9")
	in := func(prefix string) func() ([]net.Addr, error) {
		ip, n, err := net.ParseCIDR(prefix)
		return func() ([]net.Addr, error) { return []net.Addr{&net.IPNet{IP: ip, Mask: n.Mask}}, err }
	}
	lo, _ := newMemLinks()
	lo.relay, lo.local = relay, []path.Candidate{{Kind: path.Host, Addr: netip.MustParseAddrPort("10.1.44.3:9")}}
	now := time.Now()
	p := newPaths(seal.Operator, lo, now)
	for i, c := range []struct {
		network string
		want    map[netip.AddrPort]bool
	}{
		{"192.168.7.20/24", map[netip.AddrPort]bool{other: true, office: true}},
		{"10.1.44.3/18", map[netip.AddrPort]bool{other: true, home: true}},
	} {
		p.interfaces = in(c.network)
		p.refresh(lo, now)
		if got := probed(t, p, now, uint32(i+1), relay, other, home, office); !maps.Equal(got, c.want) {
			t.Errorf("in %s: probes to %v", c.network, got)
		}
		now = now.Add(time.Hour)
	}
}

// TestPingIsTheNetworksRoundTrip: neither a channel nor a busy process is in it.
func TestPingIsTheNetworksRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lo, la := memWorld(t)
		defer w.close()
		w.cat([]byte("hello"))
		const lag = 30 * time.Millisecond
		delay(lo, lag)
		delay(la, lag)
		for range 3 {
			if trip, err := w.operator.Ping(t.Context()); err != nil || trip != 2*lag {
				t.Errorf("%v, %v", trip, err)
			}
			time.Sleep(time.Second)
		}
		lo.kill(oneRelay, true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if trip, err := w.operator.Ping(ctx); err == nil {
			t.Errorf("%v by a dead path", trip)
		}
		lo.kill(oneRelay, false)
	})
}

// How long a session may be without a way is over while the machine sleeps, too, when
// its own clock stands still; a clock that is set back lengthens nothing. And what
// arrives after that is too late: who wakes may be sent something before anybody has
// looked at the clock.
func TestSilenceCountsWhileTheMachineSleeps(t *testing.T) {
	for name, c := range map[string]struct{ own, wall, want time.Duration }{
		"awake":    {time.Minute, time.Minute, time.Minute},
		"asleep":   {time.Second, 8 * time.Hour, 8 * time.Hour},
		"set back": {2 * time.Minute, -time.Hour, 2 * time.Minute},
	} {
		if got := passed(c.own, c.wall); got != c.want {
			t.Errorf("%s: %v have passed, not %v", name, got, c.want)
		}
	}
	lo, _ := newMemLinks()
	now := time.Now()
	p := newPaths(seal.Operator, lo, now)
	for _, later := range []time.Duration{time.Minute, time.Hour, time.Second} {
		now = now.Add(later)
		p.arrived(arrival{via: path.Via{Addr: netip.MustParseAddrPort("10.1.44.3:9")}, bytes: 100}, now)
	}
	if got := p.silence(now); got != time.Hour {
		t.Errorf("it was silent for %v", got)
	}
}
