package session

import (
	"bytes"
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
	m.look(0)
	if _, repair := groupOf(t, &m, 0, repairGroup-1); repair != nil {
		t.Error("a repair without a loss")
	}
	m.look(repairGroup)
	if _, repair := groupOf(t, &m, repairGroup, repairGroup-1); repair != nil {
		t.Error("a repair for a full queue")
	}
	m.look(repairGroup + 1)
	if _, repair := groupOf(t, &m, 2*repairGroup, repairGroup-1); repair == nil {
		t.Error("no repair after a loss")
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
