package session

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tucdesk/tucdesk/internal/transport"
)

// setUp says whether the relay of one end works, as a link finds out by itself.
func (l *memLink) setUp(up bool) {
	l.mu.Lock()
	l.relays[0].Up = up
	l.mu.Unlock()
	poke(l.changed)
}

// programme is a running "cat" at the agent.
func (w *world) programme(t *testing.T) (press, await func(key byte)) {
	t.Helper()
	ch, err := w.operator.OpenSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.Exec(t.Context(), [][]byte{[]byte("cat")}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	press = func(key byte) {
		if _, err := ch.Stdin().Write([]byte{key}); err != nil {
			t.Fatal(err)
		}
	}
	await = func(key byte) {
		if _, err := ch.Stdout().Read(b); err != nil || b[0] != key {
			t.Fatalf("key %d came back as %d: %v", key, b[0], err)
		}
	}
	return press, await
}

// TestNetworkComesBackToAKeyThatWaits: however long the network was away, the key
// that was pressed meanwhile shows soon, and the transport has not learnt that a
// round trip takes as long as the outage: it would wait that long for the next
// loss.
func TestNetworkComesBackToAKeyThatWaits(t *testing.T) {
	const trip = 50 * time.Millisecond
	for _, redial := range []time.Duration{0, 700 * time.Millisecond} { // by which the link finds its relay again
		for away := 2 * time.Second; away < 20*time.Second; away += 980 * time.Millisecond {
			t.Run(fmt.Sprintf("%v then %v", away, redial), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					lo, la := newMemLinks()
					delay(lo, trip/2)
					delay(la, trip/2)
					w := newWorld(t, lo, la)
					press, await := w.programme(t)
					for i := range byte(10) {
						press(i)
						await(i)
						time.Sleep(100 * time.Millisecond)
					}
					press(10)
					await(10)
					lo.kill(oneRelay, true) // before the acknowledgement of that echo
					time.Sleep(time.Second)
					press(11)
					time.Sleep(away / 4)
					lo.setUp(redial == 0)
					time.Sleep(away - away/4)
					lo.kill(oneRelay, false)
					back := time.Now()
					time.Sleep(redial)
					lo.setUp(true)
					await(11)
					if took := time.Since(back) - redial; took > 1500*time.Millisecond {
						t.Errorf("the key shows after %v", took)
					}
					time.Sleep(time.Second)
					for side, s := range map[string]transport.Stats{"operator": w.operator.Stats().Streams, "agent": w.agent.Stats().Streams} {
						if s.RTT > 3*trip {
							t.Errorf("%s: a round trip of %v is %v", side, trip, s.RTT)
						}
					}
					w.close()
				})
			})
		}
	}
}

// TestNetworkComesBackToAFullWindow: nothing new can be sent then, and what was
// held is what makes the peer answer.
func TestNetworkComesBackToAFullWindow(t *testing.T) {
	for _, away := range []time.Duration{5 * time.Second, 20 * time.Second, 50 * time.Second} {
		t.Run(away.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lo, la := newMemLinks()
				delay(lo, 25*time.Millisecond)
				delay(la, 25*time.Millisecond)
				w := newWorld(t, lo, la)
				ch, err := w.operator.OpenSession(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if err := ch.Exec(t.Context(), [][]byte{[]byte("cat")}); err != nil {
					t.Fatal(err)
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					b := make([]byte, 64<<10)
					for {
						if _, err := ch.Stdin().Write(b); err != nil {
							return
						}
					}
				}()
				b := make([]byte, 64<<10)
				read := func(least int) {
					for n := 0; n < least; {
						m, err := ch.Stdout().Read(b)
						if err != nil {
							t.Fatal(err)
						}
						n += m
					}
				}
				read(256 << 10)
				lo.kill(oneRelay, true)
				go func() { time.Sleep(away); lo.kill(oneRelay, false) }()
				time.Sleep(away)
				back := time.Now()
				read(512 << 10)
				if took := time.Since(back); took > 4*time.Second {
					t.Errorf("512 KiB took %v", took)
				}
				ch.Close()
				<-done
				w.close()
			})
		})
	}
}

// TestASessionThatOpensSlowlyOpens: a machine that is busy, or a path that is long,
// takes seconds between the first datagram and the last of the beginning. That is no
// sleep: whoever drops the packets of that time never opens the session.
func TestASessionThatOpensSlowlyOpens(t *testing.T) {
	for _, trip := range []time.Duration{time.Second, 2100 * time.Millisecond, 3 * time.Second} {
		t.Run(trip.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lo, la := newMemLinks()
				delay(lo, trip/2)
				delay(la, trip/2)
				w := newWorld(t, lo, la)
				w.cat([]byte("here"))
				w.close()
			})
		})
	}
}
