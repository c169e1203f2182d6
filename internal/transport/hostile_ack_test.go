package transport

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// TestAcknowledgementsDoNotUseUpThePlaces: ours are not acknowledged, and a peer that
// asks for very many of them, and has nothing from us to acknowledge, must not end what
// we can send.
func TestAcknowledgementsDoNotUseUpThePlaces(t *testing.T) {
	c := lone()
	for n := range uint64(maxRecords + 1000) {
		now := time.Duration(n) * time.Millisecond
		if err := c.takePacket(packet(n, []byte{framePing}), now); err != nil {
			t.Fatal(err)
		}
		c.arr.instant, c.tellPing = true, false
		c.fillLocked(now)
		if len(c.out) == 0 {
			t.Fatalf("acknowledgement %d was not sent", n)
		}
	}
	if n := len(c.rec.ring); n > 64 {
		t.Errorf("%d packets are remembered", n)
	}
}

// TestAPacketThatIsNeverAcknowledgedHoldsUpNothing: the peer keeps back one answer for
// ever and asks for very many.
func TestAPacketThatIsNeverAcknowledgedHoldsUpNothing(t *testing.T) {
	c := lone()
	c.fillLocked(0)
	if len(c.out) == 0 || c.rec.bytes == 0 {
		t.Fatal("nothing is under way")
	}
	for n := range uint64(maxRecords + 1000) {
		now := time.Duration(n) * time.Millisecond
		if err := c.takePacket(packet(n, []byte{framePing}), now); err != nil {
			t.Fatal(err)
		}
		c.arr.instant, c.tellPing = true, false
		if c.fillLocked(now); len(c.out) == 0 {
			t.Fatalf("acknowledgement %d was not sent", n)
		}
	}
}

// TestOneAcknowledgementInAPacket: each walks through up to maxRecords.
func TestOneAcknowledgementInAPacket(t *testing.T) {
	c := lone()
	c.out = make([]byte, 0, maxBatchBytes)
	c.fillLocked(0)
	ack := appendAck(nil, []span{{0, 1}}, 0, PacketSize)
	if err := c.takePacket(packet(0, ack, ack), 0); !errors.Is(err, errMalformed) {
		t.Error(err)
	}
}

// TestAHoleThatIsNeverAcknowledgedIsBounded: whatever windows the peer opens.
func TestAHoleThatIsNeverAcknowledgedIsBounded(t *testing.T) {
	c := lone()
	c.out = make([]byte, 0, maxBatchBytes)
	c.windows.whole = 1 << 20
	s, err := c.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.takePacket(packet(0, appendLimit(nil, frameMaxData, maxValue), appendStreamLimit(nil, 0, maxValue)), 0)
	b := make([]byte, 16<<10)
	for n := uint64(1); n < 2_000 && s.written < 4*c.windows.whole; n++ {
		now := time.Duration(n) * time.Millisecond
		fill(s, b)
		from := c.rec.next
		c.fillLocked(now)
		var got spans
		for i := from; i < c.rec.next; i++ {
			if !slices.ContainsFunc(c.rec.at(i).refs, func(x ref) bool { return x.kind == frameStream && x.data.lo == 0 }) {
				got.add(span{i, i + 1})
			}
		}
		if len(got) > 0 {
			_ = c.takePacket(packet(n, appendAck(nil, got, 0, PacketSize)), now)
		}
	}
	if held, most := s.written-s.settled, 2*c.windows.whole+mostUnsent; held < c.windows.whole || held > most {
		t.Errorf("%d bytes are held", held)
	}
}

// TestAcknowledgementsOfWhatNeverArrivedEndTheConnection: whoever answers before a
// packet is there, or for those that were lost, would make the sender take the path for
// endless (RFC 9000, 21.4).
func TestAcknowledgementsOfWhatNeverArrivedEndTheConnection(t *testing.T) {
	for name, acked := range map[string]func(c *Conn, from uint64) []span{
		"everything":     func(c *Conn, _ uint64) []span { return []span{{0, c.rec.next}} },
		"the newest":     func(c *Conn, from uint64) []span { return []span{{from, c.rec.next}} },
		"one by one":     func(c *Conn, from uint64) []span { return []span{{from, from + 1}} },
		"every other":    func(c *Conn, from uint64) []span { return []span{{from, from + 1}, {from + 2, from + 3}} },
		"what it gets":   func(c *Conn, _ uint64) []span { return honest(c) },
		"only the start": func(c *Conn, _ uint64) []span { return []span{{0, 1}} },
	} {
		c := lone()
		c.out = make([]byte, 0, maxBatchBytes)
		s, err := c.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.takePacket(packet(0, appendLimit(nil, frameMaxData, maxValue), appendStreamLimit(nil, 0, maxValue)), 0)
		b, number := make([]byte, 16<<10), uint64(1)
		for acking := uint64(0); err == nil && c.rec.next < 8_000 && number < 8_000; {
			now := time.Duration(number) * 100 * time.Microsecond
			if s.written-s.settled < 1<<20 {
				fill(s, b)
			}
			c.timersLocked(now)
			c.fillLocked(now)
			for range 40 {
				if x := acked(c, acking); err == nil && x[0].lo < x[0].hi && x[len(x)-1].hi <= c.rec.next {
					err = c.takePacket(packet(number, appendAck(nil, x, 0, PacketSize)), now)
					acking = x[len(x)-1].hi
					number++ // or it would be known
					if name == "one by one" || name == "every other" {
						continue
					}
				}
				break
			}
			number++
		}
		if good := name == "what it gets" || name == "only the start"; good != (err == nil) || !good && err != errOptimistic {
			t.Errorf("%s: %v after %d packets", name, err, c.rec.next)
		}
	}
}

// TestBothEndsLearnOfOptimism: the connection ends by name, and the peer hears of it.
func TestBothEndsLearnOfOptimism(t *testing.T) {
	operator, agent := both(t)
	operator.mu.Lock()
	operator.rec.skip = operator.rec.next // the next number is left out, …
	operator.mu.Unlock()
	s, err := operator.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if _, err := agent.AcceptStream(t.Context()); err != nil {
		t.Fatal(err)
	}
	agent.mu.Lock()
	agent.arr.got = spans{{0, agent.arr.got[len(agent.arr.got)-1].hi}} // … and acknowledged
	agent.arr.instant = true
	agent.mu.Unlock()
	agent.poke()
	for _, c := range []*Conn{operator, agent} {
		select {
		case <-c.Done():
		case <-time.After(patience):
			t.Fatal("the connection goes on")
		}
	}
	if err := operator.Err(); err != errOptimistic {
		t.Errorf("%v, %+v", err, operator.Stats())
	}
	if err := agent.Err(); err != ErrClosed {
		t.Error(err)
	}
}
