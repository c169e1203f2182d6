package relay

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
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
