package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// packet is one packet of a hostile peer.
func packet(number uint64, frames ...[]byte) []byte {
	return append(appendHeader(nil, header{number: number, low: 0}), slices.Concat(frames...)...)
}

func data(id, offset uint64, b string) []byte {
	return append(append(appendStreamHead(nil, frameStream|bitLength, id, offset), byte(len(b))), b...)
}

// fill writes as much of b as Write takes without waiting.
func fill(s *Stream, b []byte) {
	if room := s.conn.roomLocked() - int(s.written-s.next); room > 0 {
		_, _ = s.Write(b[:min(len(b), room)])
	}
}

// lone is an operator's end whose sender and reader do not run.
func lone() *Conn {
	a, _ := newPipes()
	return newConn(a, 0, Few)
}

// honest is what somebody may acknowledge who got everything.
func honest(c *Conn) []span {
	all := spans{{0, c.rec.next}}
	for _, n := range c.rec.skipped {
		if n > 0 {
			all.remove(span{n, n + 1})
		}
	}
	return all
}

func TestAPeerThatBreaksALimitIsRefused(t *testing.T) {
	for name, frames := range map[string][]byte{
		"a stream of ours that we never opened":  data(0, 0, "x"),
		"a stream beyond the limit":              data(2*MaxStreams+1, 0, "x"),
		"data beyond the stream's window":        data(1, Few.windows().first, "x"),
		"an offset that overflows":               data(1, maxValue, "x"),
		"data behind the end":                    slices.Concat(appendReset(nil, 1, 0, 5), data(1, 5, "x")),
		"an end before data that came":           slices.Concat(data(1, 5, "x"), appendReset(nil, 1, 0, 5)),
		"another end":                            slices.Concat(appendReset(nil, 1, 0, 5), appendReset(nil, 1, 0, 6)),
		"a reset beyond the window":              appendReset(nil, 1, 0, Few.windows().first+1),
		"an acknowledgement of what never was":   appendAck(nil, []span{{0, 9}}, 0, 1200),
		"a number that is not in its least form": {frameMaxData, 0x80, 0x00},
		"a frame of no kind":                     {0x09},
		"bytes in the padding":                   {framePadding, 1},
	} {
		c := lone()
		if err := c.takePacket(packet(0, frames), 0); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestGapsOfAStreamAreBounded: what comes beyond is neither kept nor acknowledged, in
// whichever order it comes, but for what the reader waits for.
func TestGapsOfAStreamAreBounded(t *testing.T) {
	const pieces = maxGaps + 100
	var c *Conn
	for order, offset := range map[string]func(n uint64) uint64{
		"up":   func(n uint64) uint64 { return 2*n + 1 },
		"down": func(n uint64) uint64 { return 2*(pieces-n) + 1 },
	} {
		c = lone()
		for n := range uint64(pieces) {
			if err := c.takePacket(packet(n, data(1, offset(n), "x")), 0); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(c.streams[1].arrived); n > maxGaps {
			t.Errorf("%s: %d pieces are kept", order, n)
		}
		if c.arr.known(maxGaps + 50) {
			t.Errorf("%s: a packet that was not kept is acknowledged", order)
		}
		if err := c.takePacket(packet(pieces, data(1, 0, "x")), 0); err != nil || c.streams[1].ready() == 0 {
			t.Errorf("%s: what the reader waits for was dropped: %v", order, err)
		}
	}
	for n := range uint64(1000) {
		_ = c.takePacket(packet(1<<20+2*n, []byte{framePing}), 0)
	}
	if n := len(c.arr.got); n > maxRanges {
		t.Errorf("%d ranges of packets are kept", n)
	}
}

// TestManyStreamsAreCheap: what a stream costs that holds nothing.
func TestManyStreamsAreCheap(t *testing.T) {
	c := lone()
	allocs := testing.AllocsPerRun(1, func() {
		c.accepted = 0
		if err := c.takePacket(packet(c.rec.next, data(2*MaxStreams-1, 0, "")), 0); err != nil {
			t.Fatal(err)
		}
		c.arr = arrivals{}
	})
	if per := allocs / MaxStreams; per > 4 {
		t.Errorf("%.1f allocations for a stream", per)
	}
}

// TestIdleStreamsHoldNoBuffers: what has been read, and what has arrived, leaves
// nothing behind but the stream.
func TestIdleStreamsHoldNoBuffers(t *testing.T) {
	operator, agent := both(t)
	var streams []*Stream
	for range 10 {
		s, err := operator.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b := []byte("x")
		if _, err := s.Write(b); err != nil {
			t.Fatal(err)
		}
		r, err := agent.AcceptStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(b); err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s, r)
	}
	for _, s := range streams {
		held := func() int {
			s.conn.mu.Lock()
			defer s.conn.mu.Unlock()
			return len(s.in.chunks) + len(s.out.chunks)
		}
		for end := time.Now().Add(patience); held() > 0; {
			if time.Now().After(end) {
				t.Fatalf("stream %d holds %d buffers", s.ID(), held())
			}
			runtime.Gosched()
		}
	}
}

func TestSpansAreTheSetOfTheirNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s spans
		var want [64]bool
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			lo := rapid.Uint64Range(0, 63).Draw(t, "lo")
			hi := rapid.Uint64Range(lo, 64).Draw(t, "hi")
			what := rapid.IntRange(0, 4).Draw(t, "what")
			switch {
			case what == 0:
				s.before(lo / 4)
			case what < 3:
				s.add(span{lo, hi})
			default:
				s.remove(span{lo, hi})
			}
			for i := range want {
				n := uint64(i)
				switch {
				case what == 0 && n < lo/4:
					want[i] = false
				case what != 0 && n >= lo && n < hi:
					want[i] = what < 3
				}
				if s.has(n) != want[i] {
					t.Fatalf("%v: has(%d) is %v", s, n, s.has(n))
				}
			}
			for i := 1; i < len(s); i++ {
				if s[i].lo <= s[i-1].hi || s[i].lo >= s[i].hi {
					t.Fatalf("not in order: %v", s)
				}
			}
		}
	})
}

// append writes f as parse read it.
func (f *frame) append(b []byte) []byte {
	switch f.kind {
	case frameAck:
		low := make([]span, 0, len(f.ranges))
		for i := range f.ranges {
			low = append(low, f.ranges[len(f.ranges)-1-i])
		}
		return appendAck(b, low, f.delay, 1<<16)
	case frameReset:
		return appendReset(b, f.id, f.code, f.value)
	case frameStop:
		return appendStop(b, frameStop, f.id, f.code)
	case frameMaxData, frameMaxStreams:
		return appendLimit(b, f.kind, f.value)
	case frameMaxStreamData:
		return appendStreamLimit(b, f.id, f.value)
	}
	if f.kind&^(bitFin|bitLength) != frameStream {
		return append(b, f.kind)
	}
	b = appendStreamHead(b, f.kind, f.id, f.value)
	if f.kind&bitLength != 0 {
		b = binary.AppendUvarint(b, uint64(len(f.data)))
	}
	return append(b, f.data...)
}

// FuzzFrames: what parses is written back as the same bytes, and no packet makes an
// end panic.
func FuzzFrames(f *testing.F) {
	f.Add(packet(7, data(1, 3, "hello"), []byte{framePing}, []byte{framePadding, 0, 0}))
	f.Add(packet(1, appendAck(nil, []span{{0, 3}, {5, 9}, {20, 21}}, 77, 1200)))
	f.Add(packet(2, appendReset(nil, 1, 9, 4), appendStop(nil, frameStop, 3, 8), appendLimit(nil, frameMaxData, 1<<40)))
	f.Add(packet(3, appendStreamLimit(nil, 1, 1<<20), appendLimit(nil, frameMaxStreams, 99), []byte{frameClose}))
	f.Add(packet(4, append(appendStreamHead(nil, frameStream|bitFin, 5, 0), "to the end"...)))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := lone()
		c.rec.next, c.rec.low, c.rec.first = 16, 16, 16
		_ = c.takePacket(b, 0)
		h, rest, err := parseHeader(b)
		if err != nil {
			return
		}
		if got := appendHeader(nil, h); !bytes.Equal(got, b[:len(b)-len(rest)]) {
			t.Fatalf("header %x became %x", b, got)
		}
		for len(rest) > 0 {
			var fr frame
			next, err := fr.parse(rest)
			if err != nil {
				return
			}
			if fr.kind == framePadding {
				return
			}
			if got := fr.append(nil); !bytes.Equal(got, rest[:len(rest)-len(next)]) {
				t.Fatalf("frame %x became %x", rest[:len(rest)-len(next)], got)
			}
			rest = next
		}
	})
}

// TestTheWorkedExample is the one of the package's doc and of protocol 2.7.
func TestTheWorkedExample(t *testing.T) {
	f := frame{kind: frameStream | bitFin | bitLength, data: []byte("hi")}
	got := f.append(appendHeader(nil, header{number: 5}))
	if want := "\x40\x05\x05\x13\x00\x00\x02hi"; string(got) != want {
		t.Errorf("%x", got)
	}
}

// TestADelayThatOverflowsMeasuresNothing: it made the timer of probes fire for ever.
func TestADelayThatOverflowsMeasuresNothing(t *testing.T) {
	for _, delay := range []uint64{maxValue, 9223372036854776, 1 << 61, 3 << 60, 288230376151711} {
		c := lone()
		c.out = make([]byte, 0, maxBatchBytes)
		c.fillLocked(time.Second)
		ack := appendAck(nil, []span{{0, c.rec.next}}, delay, PacketSize)
		if err := c.takePacket(packet(0, ack), time.Second+50*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if d := c.rec.srtt; d != 10*time.Millisecond {
			t.Errorf("delay %d: %v", delay, d)
		}
	}
}

// TestStreamsThatNobodyAcceptsAreBounded: the peer gets no place back for one that it
// has given up before AcceptStream.
func TestStreamsThatNobodyAcceptsAreBounded(t *testing.T) {
	c := lone()
	c.out = make([]byte, 0, maxBatchBytes)
	var err error
	for n := uint64(0); err == nil && n < 2*MaxStreams; n++ {
		now := time.Duration(n) * time.Millisecond
		err = c.takePacket(packet(2*n, appendReset(nil, 2*n+1, 0, 0), appendStop(nil, frameStop, 2*n+1, 0)), now)
		c.fillLocked(now)
		_ = c.takePacket(packet(2*n+1, appendAck(nil, honest(c), 0, PacketSize)), now)
	}
	if !errors.Is(err, errMalformed) || len(c.waiting) > MaxStreams {
		t.Errorf("%d streams wait: %v", len(c.waiting), err)
	}
	for range MaxStreams {
		if _, err := c.AcceptStream(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if c.acceptLimit < 2*MaxStreams-MaxStreams/8 {
		t.Errorf("the limit is %d", c.acceptLimit)
	}
}

// TestWhatWaitsForTheConnectionsLimitIsForgottenWithItsStream: the list would grow.
func TestWhatWaitsForTheConnectionsLimitIsForgottenWithItsStream(t *testing.T) {
	c := lone()
	c.out = make([]byte, 0, maxBatchBytes)
	c.sentBytes = c.sendLimit
	for n := range uint64(100) {
		now := time.Duration(n) * time.Millisecond
		_ = c.takePacket(packet(3*n, data(2*n+1, 0, "x")), now)
		s, err := c.AcceptStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		c.fillLocked(now)
		_ = c.takePacket(packet(3*n+1, appendReset(nil, s.id, 0, 1), appendStop(nil, frameStop, s.id, 0)), now)
		c.fillLocked(now)
		_ = c.takePacket(packet(3*n+2, appendAck(nil, honest(c), 0, PacketSize)), now)
	}
	if len(c.blocked)+len(c.streams) > 0 {
		t.Errorf("%d and %d are kept", len(c.blocked), len(c.streams))
	}
}

// TestPiecesOfAllStreamsAreBounded: each costs sixteen bytes for one.
func TestPiecesOfAllStreamsAreBounded(t *testing.T) {
	c := lone()
	for n := range uint64(maxPieces + 5000) {
		if err := c.takePacket(packet(n, data(2*(n/1000)+1, 2*(n%1000)+1, "x")), 0); err != nil {
			t.Fatal(err)
		}
	}
	pieces := 0
	for _, s := range c.streams {
		pieces += len(s.arrived)
	}
	if pieces > maxPieces || pieces != c.pieces {
		t.Errorf("%d pieces are kept, %d counted", pieces, c.pieces)
	}
}
