package transport

import (
	"crypto/rand"
	"encoding/binary"
	"slices"
	"time"
)

// Times of loss recovery.
const (
	ackDelayMost   = 20 * time.Millisecond // a receiver waits no longer; our choice
	timerLeast     = time.Millisecond      // finer than a timer is on a busy machine
	firstTrip      = 200 * time.Millisecond
	probeMost      = time.Second      // between two probes …
	probeMostLater = 30 * time.Second // … and after tirelessFor without an answer
	tirelessFor    = 30 * time.Second
	// maxRecords bounds the packets that are remembered.
	maxRecords = 1 << 16
	// A number is left out among the first skipFirst, then every skipLeast to
	// skipLeast+skipMore: each costs an acknowledgement.
	skipFirst, skipLeast, skipMore = 256, 512, 2048
	// skips are remembered, which reaches as far back as the packets that are.
	skips = maxRecords / skipLeast
)

type fate byte

const (
	settled fate = iota // acknowledged, or never worth it
	flying
	lost
)

// ref says which part of a stream a packet carried, so that its loss or arrival can
// be booked.
type ref struct {
	kind byte // of the frame
	fin  bool
	s    *Stream
	data span
}

// fewRefs is how many parts of streams a record keeps the memory of: more are in
// packets of thousands of small streams, and there may be maxRecords of those.
const fewRefs = 16

// record is a sent packet. Records stand in a ring and keep their refs' memory.
type record struct {
	fate      fate
	limited   bool // the application had no more
	size      int
	sent      time.Duration
	delivered uint64        // bytes delivered when it was sent
	since     time.Duration // when those were
	first     time.Duration // when the newest packet among those had been sent
	refs      []ref
}

// recovery knows what is under way. The connection's lock guards it.
type recovery struct {
	ring  []record // by packet number; a power of two
	low   uint64   // oldest number in use
	first uint64   // none before is flying
	next  uint64   // number of the next packet
	bytes int      // under way

	srtt, rttvar time.Duration    // srtt is 0 until measured
	worst        [2]time.Duration // longest round trips of late: this period and the one before
	worstAt      time.Duration    // when this period began
	fresh        uint64           // only packets from here on measure a round trip
	window       time.Duration    // of reordering, beyond the round trip
	newest       uint64           // highest number that was acknowledged

	delivered   uint64
	deliveredAt time.Duration
	firstSent   time.Duration
	limitedTill uint64 // the application limits until that much was delivered

	lossAt   time.Duration // when the next packet will be taken for lost; 0 never
	lastSent time.Duration // of what wants an acknowledgement
	probes   int           // without an answer
	heard    time.Duration // the last acknowledgement
	sent     uint64
	lost     uint64
	doubted  int // records whose fate is lost

	skip    uint64        // the next number that no packet will have
	skipped [skips]uint64 // and the last ones, in a ring
	skipAt  int           // how many there were
}

func (r *recovery) at(n uint64) *record { return &r.ring[n&uint64(len(r.ring)-1)] }

// begin returns the record of the next packet, cleared; now and then it leaves out a
// number. It reports false when too many are under way. Those of which nothing can be learnt give their places back
// here too, not only when an acknowledgement comes: acknowledgements of ours need
// places and are not acknowledged themselves.
func (r *recovery) begin(now time.Duration) (*record, bool) {
	p, ok := r.place(now)
	if ok && r.next == r.skip {
		r.skipped[r.skipAt%skips] = r.skip
		r.skipAt++
		r.next++
		r.skip = r.next + skipLeast + draw(skipMore)
		return r.place(now)
	}
	return p, ok
}

// draw is a number below n, a power of two. The peer must not guess it.
func draw(n uint64) uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:]) % n
}

// catches reports whether numbers that no packet had are among those acknowledged. A
// receiver that acknowledges what it has not got makes this end fill the network of
// somebody else, without an end and at a rate that no path limits (RFC 9000, 21.4). It
// cannot know where the traps are.
func (r *recovery) catches(acked []span) bool {
	for i := r.skipAt - 1; i >= max(r.skipAt-skips, 0); i-- {
		n := r.skipped[i%skips]
		if n < acked[len(acked)-1].lo {
			break
		}
		if slices.ContainsFunc(acked, func(x span) bool { return x.lo <= n && n < x.hi }) {
			return true
		}
	}
	return false
}

func (r *recovery) place(now time.Duration) (*record, bool) {
	if r.next-r.low >= uint64(len(r.ring)) {
		if r.settle(now); r.next-r.low >= uint64(len(r.ring)) && !r.grow() {
			return nil, false
		}
	}
	p := r.at(r.next)
	refs := p.refs[:0]
	*p = record{refs: refs}
	return p, true
}

func (r *recovery) grow() bool {
	if len(r.ring) >= maxRecords {
		return false
	}
	old := r.ring
	r.ring = make([]record, max(64, 2*len(old)))
	for n := r.low; n < r.next; n++ {
		*r.at(n) = old[n&uint64(len(old)-1)]
	}
	return true
}

// wentOut books the packet that begin returned.
func (r *recovery) wentOut(p *record, size int, eliciting bool, now time.Duration) {
	r.next++
	r.sent++
	if !eliciting {
		return
	}
	if r.bytes == 0 {
		r.deliveredAt, r.firstSent = now, now
	}
	p.fate, p.size, p.sent = flying, size, now
	p.delivered, p.since, p.first = r.delivered, r.deliveredAt, r.firstSent
	p.limited = r.delivered < r.limitedTill
	r.bytes += size
	r.lastSent = now
}

// exhausted books that the application had nothing more to send.
func (r *recovery) exhausted() { r.limitedTill = r.delivered + uint64(r.bytes) + 1 }

func (r *recovery) trip() time.Duration {
	if r.srtt == 0 {
		return firstTrip
	}
	return r.srtt
}

// measure takes a round trip.
func (r *recovery) measure(d, now time.Duration) {
	if now-r.worstAt > 2*max(r.worst[0], r.worst[1]) {
		r.worst, r.worstAt = [2]time.Duration{0, r.worst[0]}, now
	}
	r.worst[0] = max(r.worst[0], d)
	if r.srtt == 0 {
		r.srtt, r.rttvar = d, d/2
		return
	}
	r.rttvar += ((r.srtt - d).Abs() - r.rttvar) / 4
	r.srtt += (d - r.srtt) / 8
}

// patience is how long after sending a packet is taken for lost when a later one
// has arrived. It is a time, not a number of packets: where the path changes or
// two are used, whole batches overtake each other. For the same reason it goes by
// the longest round trip of late: those on the slower path are still coming.
func (r *recovery) patience() time.Duration {
	trip := max(r.trip(), r.worst[0], r.worst[1])
	return trip + max(trip/8, r.window, timerLeast)
}

// probeAt is when an answer is overdue; 0 is never.
func (r *recovery) probeAt(now time.Duration) time.Duration {
	if r.bytes == 0 {
		return 0
	}
	d := r.trip() + max(4*r.rttvar, timerLeast) + ackDelayMost
	most := probeMost
	if now > r.heard+tirelessFor && r.probes > 30 {
		most = probeMostLater
	}
	return r.lastSent + max(min(d<<min(r.probes, 10), most), d)
}

// settle forgets the oldest records that nothing can be learnt from any more.
func (r *recovery) settle(now time.Duration) {
	for r.low < r.next {
		p := r.at(r.low)
		if p.fate == flying || p.fate == lost && now-p.sent < 3*r.patience() {
			return
		}
		if p.fate == lost {
			r.doubted--
		}
		p.fate = settled
		clear(p.refs)
		if p.refs = p.refs[:0]; cap(p.refs) > fewRefs {
			p.refs = nil
		}
		r.low++
		r.first = max(r.first, r.low)
	}
}
