package relay

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun"
	"github.com/tucdesk/tucdesk/relay/guard"
)

func ip(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

func TestRatePerSourceRefillsAndOneFloodLeavesTheOthersTheirShare(t *testing.T) {
	s := newSources(Limits{ControlPerSecond: 10, ControlTotal: 100})
	now := time.Now()
	took := 0
	for range 1000 {
		if s.take(ip(1), 10, now) {
			took++
		}
	}
	if took != 10*burstSeconds {
		t.Errorf("one source took %d at once", took)
	}
	if !s.take(ip(2), 10, now) {
		t.Error("the next source is shut out")
	}
	if now = now.Add(time.Second); !s.take(ip(1), 10, now) {
		t.Error("nothing refilled")
	}
}

func TestTotalRateBoundsInventedSources(t *testing.T) {
	s := newSources(Limits{ControlPerSecond: 10, ControlTotal: 100})
	now := time.Now()
	took := 0
	for i := range uint32(5000) {
		if s.take(ip(i), 10, now) {
			took++
		}
	}
	if took != 100 {
		t.Errorf("%d taken", took)
	}
}

// TestM6NeighboursDoNotStarveAnAllocation: what others send from the same address,
// or from invented ones, takes nothing from who has an allocation, and it takes
// nothing from them.
func TestM6NeighboursDoNotStarveAnAllocation(t *testing.T) {
	s := newSources(Limits{ControlPerSecond: 10, ControlTotal: 100})
	now := time.Now()
	for i := range uint32(1000) {
		s.take(ip(1), 10, now)
		s.take(ip(2+i), 10, now)
	}
	if s.take(ip(1), 10, now) || s.take(ip(5000), 10, now) {
		t.Fatal("the flood has not used up what it should")
	}
	a, b := new(allocation), new(allocation)
	took := 0
	for range 1000 {
		if s.takeOf(a, now) {
			took++
		}
	}
	if took != 10*burstSeconds {
		t.Errorf("an allocation took %d at once", took)
	}
	if !s.takeOf(b, now) {
		t.Error("the next allocation is shut out")
	}
	now = now.Add(time.Second)
	if first, second, third := s.takeOf(a, now), s.takeOf(a, now), s.takeOf(a, now); !first || !second || third {
		t.Error("a fifth of the rate has not refilled")
	}
	for range 1000 {
		s.takeOf(new(allocation), now)
	}
	if s.takeOf(new(allocation), now) {
		t.Error("allocations have no total")
	}
	if !s.take(ip(9000), 10, now) {
		t.Error("allocations starve strangers")
	}
}

func TestM6NeighbourBehindTheSameAddressCannotStopARefresh(t *testing.T) {
	s := serve(t, nil)
	oc, _ := mint(s)
	o := dialRaw(t, s, "udp", oc).join()
	neighbour := dialRaw(t, s, "udp", oc)
	flood := func() bool {
		for range 200 {
			neighbour.send(guard.NewMessage(guard.RefreshRequest, [12]byte{1}))
		}
		return s.Snapshot().Events["rate_limited"] > 0
	}
	until(t, "the neighbour to be over the rate of the address", flood)
	for range 5 {
		until(t, "the queue before pion to empty", func() bool { return len(s.front.in) == 0 }) // it holds more than a flood
		flood()
		if got := code(o.exchange(o.signed(stun.MethodRefresh), patience)); got != 0 {
			t.Fatalf("refresh beside a flood: %d", got)
		}
	}
}

func TestCreditIsOneAndAHalfTimesWhatCame(t *testing.T) {
	s := newSources(Limits{ControlPerSecond: 1000, ControlTotal: 1000})
	now := time.Now()
	if s.spend(ip(1), 1, now) {
		t.Error("answer without a question")
	}
	s.take(ip(1), 100, now)
	if s.spend(ip(1), 151, now) || !s.spend(ip(1), 150, now) || s.spend(ip(1), 1, now) {
		t.Error("credit is not 150 bytes")
	}
	for range 1000 {
		s.take(ip(1), 1500, now)
	}
	if s.spend(ip(1), maxCredit+1, now) {
		t.Error("credit is saved up without end")
	}
}

func TestMemoryOfSourcesIsBoundedAndForgettingGivesNoCredit(t *testing.T) {
	s := newSources(Limits{ControlPerSecond: 10, ControlTotal: 1 << 30})
	now := time.Now()
	s.take(ip(1), 1000, now)
	for i := range uint32(3 * maxSources) {
		s.take(ip(100+i), 10, now)
	}
	if n := len(s.young) + len(s.old); n > 2*maxSources {
		t.Errorf("%d sources remembered", n)
	}
	if s.spend(ip(1), 100, now) {
		t.Error("a forgotten source has credit")
	}
	s.take(ip(2), 1000, now)
	if now = now.Add(sourceLife + time.Second); !s.spend(ip(2), 100, now) {
		t.Error("a source of the old generation is forgotten too early")
	}
}
