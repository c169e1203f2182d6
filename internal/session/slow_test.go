package session

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestSessionsOpenAndLastOverVeryLongRoundTrips: by satellite, by a link that somebody
// else fills. A key shows after the round trip and little more, also after a pause, and
// nobody is told meanwhile that the way was lost.
func TestSessionsOpenAndLastOverVeryLongRoundTrips(t *testing.T) {
	for _, trip := range []time.Duration{50 * time.Millisecond, time.Second, 2900 * time.Millisecond, 4 * time.Second, 7 * time.Second, 10 * time.Second} {
		t.Run(trip.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lo, la := newMemLinks()
				delay(lo, trip/2)
				delay(la, trip/2)
				began := time.Now()
				w := newWorld(t, lo, la)
				if took := time.Since(began); took > 3*trip/2+time.Second {
					t.Errorf("open after %v", took)
				}
				press, await := w.programme(t)
				for i, pause := range []time.Duration{0, 0, time.Second, trip, 30 * time.Second, 3 * time.Minute, 0} {
					time.Sleep(pause)
					pressed := time.Now()
					press(byte(i))
					await(byte(i))
					if took := time.Since(pressed); took > trip+trip/4+50*time.Millisecond {
						t.Errorf("key %d after %v shows after %v", i, pause, took)
					}
					if p := w.operator.Path(); p.Lost || p.Since.After(began) {
						t.Errorf("key %d: the way was lost %v ago", i, time.Since(p.Since))
					}
				}
				const size = 1 << 20
				sent := time.Now()
				w.catWithin(random(t, size), 20*trip+20*time.Second)
				t.Logf("1 MiB there and back took %v", time.Since(sent))
				w.close()
			})
		})
	}
}

// TestALinkThatFillsUp: from one moment to the next everything takes ten seconds. For a
// while that cannot be told from a way that has died; then it is a long one.
func TestALinkThatFillsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lo, la := newMemLinks()
		w := newWorld(t, lo, la)
		press, await := w.programme(t)
		key := func(i byte) time.Duration {
			pressed := time.Now()
			press(i)
			await(i)
			return time.Since(pressed)
		}
		for i := range byte(20) {
			key(i)
			time.Sleep(100 * time.Millisecond)
		}
		for i, trip := range []time.Duration{10 * time.Second, 50 * time.Millisecond, 6 * time.Second} {
			delay(lo, trip/2)
			delay(la, trip/2)
			if took := key(100); took > 3*trip+time.Second {
				t.Errorf("%d: the first key shows after %v", i, took)
			}
			for range 3 {
				key(101)
			}
			settled := time.Now()
			for range 10 {
				if took := key(102); took > trip+trip/4+50*time.Millisecond {
					t.Errorf("%d: a key shows after %v", i, took)
				}
			}
			if p := w.operator.Path(); p.Lost || p.Since.After(settled) {
				t.Errorf("%d: the way was lost %v ago", i, time.Since(p.Since))
			}
		}
		w.close()
	})
}

// TestALongPathThatDiesIsNoticed in some round trips, and its return at once.
func TestALongPathThatDiesIsNoticed(t *testing.T) {
	for _, trip := range []time.Duration{50 * time.Millisecond, 4 * time.Second, 10 * time.Second} {
		for _, away := range []time.Duration{time.Minute, 10 * time.Minute} {
			t.Run(fmt.Sprint(trip, " ", away), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					lo, la := newMemLinks()
					delay(lo, trip/2)
					delay(la, trip/2)
					w := newWorld(t, lo, la)
					press, await := w.programme(t)
					for i := range byte(8) {
						press(i)
						await(i)
					}
					lo.kill(oneRelay, true)
					died := time.Now()
					press(8)
					// What comes between a look and the wait for the next change would be missed.
					for next := w.operator.PathChanged(); !w.operator.Path().Lost; next = w.operator.PathChanged() {
						<-next
					}
					if took, most := time.Since(died), max(3200*time.Millisecond, 4*trip); took > most {
						t.Errorf("noticed after %v, want %v", took, most)
					}
					time.Sleep(away - time.Since(died))
					lo.kill(oneRelay, false)
					back := time.Now()
					await(8)
					if took, most := time.Since(back), 3*trip+16*time.Second; took > most {
						t.Errorf("the key shows %v after the network", took)
					}
					w.close()
				})
			})
		}
	}
}
