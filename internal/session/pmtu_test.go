package session

import (
	"bytes"
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tucdesk/tucdesk/internal/path"
)

// directWorld is a session between two machines that reach each other directly by a
// network of an MTU.
func directWorld(t *testing.T, mtu int) (w *world, lo, la *memLink) {
	lo, la = newMemLinks()
	for i, l := range []*memLink{lo, la} {
		l.local = []path.Candidate{{Kind: path.Host, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 44, byte(i + 3)}), 9)}}
		l.mtu, l.lag = mtu, time.Millisecond
	}
	w = newWorld(t, lo, la)
	for w.operator.Path().Via.Relayed() || w.agent.Path().Via.Relayed() {
		time.Sleep(10 * time.Millisecond)
	}
	return w, lo, la
}

func (l *memLink) setMTU(mtu int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mtu, l.largest = mtu, 0
}

func (l *memLink) longest() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.largest
}

// TestLongDatagramsGoWhereTheyPass: where the network carries them the data goes in
// long ones, elsewhere nothing but a question or two is that long, and when a network
// stops carrying them, without a word, the data goes on in short ones.
func TestLongDatagramsGoWhereTheyPass(t *testing.T) {
	for name, c := range map[string]struct {
		before, after int
		want          int // datagrams a megabyte takes, at most
		longest       int // of them, at first
		patience      time.Duration
	}{
		"jumbo frames":         {9000, 9000, 600, path.Large, time.Second},
		"Ethernet":             {1452, 1452, 1600, path.Wide, time.Second},
		"no longer jumbo":      {9000, 1452, 4000, path.Large, 5 * time.Second},
		"no longer Ethernet":   {1452, 1248, 4000, path.Wide, 5 * time.Second},
		"only small datagrams": {1248, 1248, 3000, path.Size, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, lo, la := directWorld(t, c.before)
				w.cat(random(t, 2<<20))
				time.Sleep(2 * time.Second)
				w.cat(random(t, 2<<20))
				if lo.longest() != c.longest {
					t.Errorf("the longest datagram has %d bytes", lo.longest())
				}
				lo.setMTU(c.after)
				la.setMTU(c.after)
				lo.mu.Lock()
				sent := lo.sent
				lo.mu.Unlock()
				began := time.Now()
				w.cat(random(t, 1<<20))
				lo.mu.Lock()
				sent = lo.sent - sent
				lo.mu.Unlock()
				if sent > c.want {
					t.Errorf("a megabyte took %d datagrams", sent)
				}
				if took := time.Since(began); took > c.patience {
					t.Errorf("a megabyte took %v", took)
				}
				w.close()
			})
		})
	}
}

// TestARelayCarriesWhatFitsItsFrames and nothing longer.
func TestARelayCarriesWhatFitsItsFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lo, la := newMemLinks()
		lo.mtu, la.mtu, lo.lag, la.lag = 9000, 9000, time.Millisecond, time.Millisecond
		w := newWorld(t, lo, la)
		w.cat(random(t, 2<<20))
		time.Sleep(2 * time.Second)
		w.cat(random(t, 1<<20))
		if !w.operator.Path().Via.Relayed() || lo.longest() != path.Wide {
			t.Errorf("%v, and the longest datagram has %d bytes", w.operator.Path().Via, lo.longest())
		}
		w.close()
	})
}

// TestLongDatagramsEndWithTheirPath: a relay carries none that long, and what was made for the
// direct path is sent anew.
func TestLongDatagramsEndWithTheirPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lo, _ := directWorld(t, 9000)
		ch, err := w.operator.OpenSession(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := ch.Exec(t.Context(), [][]byte{[]byte("cat")}); err != nil {
			t.Fatal(err)
		}
		want := random(t, 16<<20)
		go func() {
			_, _ = ch.Stdin().Write(want)
			_ = ch.Stdin().Close()
		}()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(ch.Stdout(), got[:12<<20]); err != nil {
			t.Fatal(err)
		}
		if lo.longest() != path.Large {
			t.Errorf("the longest datagram has %d bytes", lo.longest())
		}
		lo.kill(w.operator.Path().Via, true)
		lo.kill(w.agent.Path().Via, true)
		if _, err := io.ReadFull(ch.Stdout(), got[12<<20:]); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Error("other bytes arrived")
		}
		ch.Close()
		w.close()
	})
}
