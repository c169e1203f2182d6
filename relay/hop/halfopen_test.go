package hop

import (
	"bytes"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tucdesk/tucdesk/internal/udp"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// TestM12TheOldestHalfOpenClientsMakeRoom, in a time that stands still: a busy machine
// gives them up before there are too many.
func TestM12TheOldestHalfOpenClientsMakeRoom(t *testing.T) {
	first, id := hello(t), newIdentity(t)
	synctest.Test(t, func(t *testing.T) {
		sock, err := udp.Listen(netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var stats Stats
		l, err := Listen(sock, ListenerOptions{
			Identity: id, Enter: guard.NewGate(0, 0).Enter, Take: func(netip.Addr, int) bool { return true }, Stats: &stats,
		})
		if err != nil {
			t.Fatal(err)
		}
		const more = 200
		client := func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), 9)
		}
		for i := range maxHalfOpen + more {
			l.receive(bytes.Clone(first), client(i), nil)
		}
		synctest.Wait()
		l.mu.Lock()
		for _, i := range []int{0, more - 1, more, maxHalfOpen + more - 1} {
			if there := l.peers[client(i)] != nil; there != (i >= more) {
				t.Errorf("client %d is there: %v", i, there)
			}
		}
		l.mu.Unlock()
		if n, gone := l.halfOpen(), stats.Displaced.Load(); n != maxHalfOpen || gone != more {
			t.Errorf("%d half open, %d displaced", n, gone)
		}
		time.Sleep(unprovedWithin)
		synctest.Wait()
		if n := l.halfOpen(); n != 0 {
			t.Errorf("%d are not given up", n)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		l.wg.Wait()
	})
}
