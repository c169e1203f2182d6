package session

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tucdesk/tucdesk/internal/transport"
)

// groupOf makes the packets of one group and its repair.
func groupOf(t *testing.T, m *mender, first uint64, n int) (packets [][]byte, repair []byte) {
	t.Helper()
	for i := range n {
		p := random(t, transport.PacketSize)
		packets = append(packets, p)
		repair = m.sentLocked(first+uint64(i), p, time.Now())
	}
	return packets, bytes.Clone(repair)
}

func TestOneLostPacketOfAGroupComesBack(t *testing.T) {
	for missing := range repairGroup - 1 {
		var m mender
		m.left.Store(repairFirst)
		const first = 7 * repairGroup
		packets, repair := groupOf(t, &m, first, repairGroup-1)
		if repair == nil {
			t.Fatal("no repair at the end of a group")
		}
		got := mended{on: true}
		for i, p := range packets {
			if i != missing {
				got.arrived(first+uint64(i), p)
			}
		}
		p, err := got.repair(bytes.Clone(repair))
		if err != nil || !bytes.Equal(p, packets[missing]) {
			t.Errorf("packet %d is another one: %v", missing, err)
		}
		if p, err := got.repair(bytes.Clone(repair)); p != nil || err != nil {
			t.Errorf("a second time: %v", err)
		}
	}
}

func TestRepairsThatDoNotFitGiveNothing(t *testing.T) {
	var m mender
	m.left.Store(repairFirst)
	packets, repair := groupOf(t, &m, 0, repairGroup-1)
	for name, arrive := range map[string]func(*mended){
		"nothing is missing": func(g *mended) {
			for i, p := range packets {
				g.arrived(uint64(i), p)
			}
		},
		"two are missing": func(g *mended) {
			for i, p := range packets[2:] {
				g.arrived(uint64(i+2), p)
			}
		},
		"all are missing": func(*mended) {},
		"it is of another group": func(g *mended) {
			for i, p := range packets[1:] {
				g.arrived(uint64(i+1+repairKept*repairGroup), p)
			}
		},
	} {
		g := mended{on: true}
		arrive(&g)
		if p, err := g.repair(bytes.Clone(repair)); p != nil || err != nil {
			t.Errorf("%s: %d bytes, %v", name, len(p), err)
		}
	}
	for _, n := range []int{0, repairHead, repairBody - 1, repairBody + 1} {
		if _, err := new(mended).repair(make([]byte, n)); err == nil {
			t.Errorf("a repair of %d bytes was taken", n)
		}
	}
}

// TestCleanLinksPayForRepairsAtTheBeginningOnly, and full queues make no more.
func TestCleanLinksPayForRepairsAtTheBeginningOnly(t *testing.T) {
	var m mender
	m.left.Store(1)
	m.look(repairLook, 0)
	if _, repair := groupOf(t, &m, 0, repairGroup-1); repair != nil {
		t.Error("a repair without a loss")
	}
	m.look(2*repairLook, repairGroup)
	if _, repair := groupOf(t, &m, repairGroup, repairGroup-1); repair != nil {
		t.Error("a repair for a full queue")
	}
	m.look(3*repairLook, repairGroup+1)
	if _, repair := groupOf(t, &m, 2*repairGroup, repairGroup-1); repair == nil {
		t.Error("no repair after a loss")
	}
}

// TestSingleLossesOfAFastSenderAreNoBurst: one in a thousand is more than a group
// in a second of 200 Mbit/s. A look that comes early waits for the rest, and one
// that comes late says the same.
func TestSingleLossesOfAFastSenderAreNoBurst(t *testing.T) {
	for name, c := range map[string]struct {
		sent, lost uint64
		repairs    bool
	}{
		"single losses, late look": {20000, 20, true},
		"a burst, late look":       {repairLook * 2, repairGroup * 2, false},
		"a loss, early look":       {repairLook - 1, 1, false},
		"a loss":                   {repairLook, 1, true},
	} {
		var m mender
		m.look(c.sent, c.lost)
		if got := m.left.Load() > 0; got != c.repairs {
			t.Errorf("%s: repairs %v", name, got)
		}
	}
	var m mender
	m.look(repairLook/2, repairGroup/2)
	m.look(repairLook, repairGroup)
	if m.left.Load() > 0 {
		t.Error("a burst in two looks is taken for single losses")
	}
}

// TestLooksAreAskedForByPackets: a second is too long for a fast sender, whose
// packets come 40 at a time.
func TestLooksAreAskedForByPackets(t *testing.T) {
	var m mender
	var at []int
	for sent := 40; sent <= 2000; sent += 40 {
		if m.wroteLocked(40) {
			at = append(at, sent)
		}
	}
	if !slices.Equal(at, []int{520, 1040, 1560}) {
		t.Errorf("asked after %v packets", at)
	}
}

// TestRandomLossesAreRepaired loses one datagram in 400 of a transfer each way.
func TestRandomLossesAreRepaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lo, la := memWorld(t)
		defer w.close()
		lose := func() func([]byte) [][]byte {
			n := 0
			return func(d []byte) [][]byte {
				if n++; n%400 == 0 {
					return nil
				}
				return [][]byte{d}
			}
		}
		lo.setMeddle(lose())
		la.setMeddle(lose())
		w.catWithin(random(t, 8<<20), time.Minute)
		if s := w.operator.Stats().Streams; s.Lost*800 > s.Sent {
			t.Errorf("%d of %d packets were lost for the transport, one in 400 on the way", s.Lost, s.Sent)
		}
	})
}
