package transport

import (
	"encoding/binary"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// outbound is what is to be sent. The connection's lock guards all but out, which
// is the sender's alone.
type outbound struct {
	out     []byte
	urgent  queue     // streams that had nothing to send until now: keys and their echo
	bulk    queue     // streams that go on
	blocked []*Stream // waiting for the connection's limit

	tellData, tellStreams, tellPing bool
	forced                          int // packets that go out whatever the window says

	size     int     // of a packet now; guarded as the rest, written by the sender
	tokens   float64 // bytes that the pace allows now
	tokensAt time.Duration
}

// queue is a first-in-first-out queue of streams that keeps its memory.
type queue struct {
	s    []*Stream
	head int
}

func (q *queue) empty() bool { return q.head == len(q.s) }

func (q *queue) push(s *Stream) {
	if q.head > 64 && q.head > len(q.s)/2 {
		n := copy(q.s, q.s[q.head:])
		clear(q.s[n:])
		q.s, q.head = q.s[:n], 0
	}
	q.s = append(q.s, s)
}

func (q *queue) pop() *Stream {
	s := q.s[q.head]
	q.s[q.head] = nil
	if q.head++; q.head == len(q.s) {
		q.s, q.head = q.s[:0], 0
	}
	return s
}

// lateness is what the pace makes good when the sender came late: the path was
// idle in that time.
const lateness = 10 * time.Millisecond

// activateLocked queues a stream that may have something to send.
func (c *Conn) activateLocked(s *Stream) {
	if !s.queued && !s.gone {
		s.queued = true
		c.urgent.push(s)
	}
	c.poke()
}

func (c *Conn) unblockLocked() {
	for i, s := range c.blocked {
		s.blocked = false
		c.activateLocked(s)
		c.blocked[i] = nil
	}
	c.blocked = c.blocked[:0]
}

// roomLocked is how many unsent bytes a stream may hold.
//
// The share of thousands is small, since nobody may read any of them.
func (c *Conn) roomLocked() int {
	share := max(int(c.windows.whole)/4/max(len(c.streams), 1), chunkSize)
	return min(max(c.model.window/2, leastUnsent), mostUnsent, share)
}

// maySendLocked is how many bytes of all streams may have been sent: what the peer
// allows, as long as it acknowledges. One that says it read on and leaves a hole would
// have us keep everything behind that.
func (c *Conn) maySendLocked() uint64 { return min(c.sendLimit, c.settledBytes+2*c.windows.whole) }

// settledLocked books bytes that need not be kept any more.
func (c *Conn) settledLocked(n uint64) {
	c.settledBytes += n
	if len(c.blocked) > 0 && c.sentBytes < c.maySendLocked() {
		c.unblockLocked()
	}
}

// waitLocked waits for a stream to change, or for the end.
func (c *Conn) waitLocked(changed chan struct{}) {
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-changed:
	case <-c.done:
	}
}

// receive is the reader: it runs until the connection ends.
func (c *Conn) receive() {
	pkts := make([]Packet, maxBatch)
	room := make([]byte, len(pkts)*PacketRoom)
	for i := range pkts {
		pkts[i].Buf = room[i*PacketRoom:][:PacketRoom:PacketRoom]
	}
	for {
		n, err := c.packets.ReadPackets(pkts)
		c.mu.Lock()
		now := c.now()
		for i := 0; i < n && err == nil; i++ {
			err = c.takePacket(pkts[i].Data, now)
		}
		if err != nil {
			c.leave = c.leave || c.err == nil && refusal.Of(err) == refusal.ProtocolError
			c.endLocked(err)
		}
		ended := c.err != nil
		c.mu.Unlock()
		c.poke()
		if ended {
			return
		}
	}
}

// send is the sender: it runs until the connection ends.
func (c *Conn) send() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	c.out = make([]byte, 0, maxBatchBytes)
	for {
		wait, ok := c.pump()
		if !ok {
			return
		}
		timer.Reset(wait)
		select {
		case <-c.wakeup:
		case <-timer.C:
		}
	}
}

// pump sends what may be sent now and returns how long there is nothing to do.
func (c *Conn) pump() (wait time.Duration, ok bool) {
	for {
		size := c.packets.PacketSize()
		c.mu.Lock()
		now := c.now()
		if c.err != nil {
			c.farewellUnlock()
			return 0, false
		}
		c.size = size
		c.model.packet = size
		c.timersLocked(now)
		c.fillLocked(now)
		if len(c.out) == 0 {
			wait = max(c.nextLocked(now)-now, 0)
			c.mu.Unlock()
			return wait, true
		}
		c.mu.Unlock()
		if err := c.packets.WritePackets(c.out, size); err != nil {
			c.mu.Lock()
			c.endLocked(err)
			c.mu.Unlock()
		}
	}
}

// farewellUnlock tells the peer that the connection has ended, once.
func (c *Conn) farewellUnlock() {
	leave := c.leave
	c.leave = false
	h := header{number: c.rec.next, low: c.rec.next}
	c.mu.Unlock()
	if leave {
		_ = c.packets.WritePackets(append(appendHeader(c.out[:0], h), frameClose), PacketSize)
	}
	c.packets.Interrupt()
}

// fillLocked builds a batch in out. All packets but the last are of full size.
func (c *Conn) fillLocked(now time.Duration) {
	c.out = c.out[:0]
	c.refillLocked(now)
	quantum := c.quantumLocked()
	paced := c.tokens >= min(quantum, float64(c.pendingLocked()))
	last := -1
	eliciting, forced := false, false
	for range c.batchLocked() {
		free := c.rec.bytes+c.size <= c.model.window && paced && c.tokens >= 0
		start := len(c.out)
		if !c.buildLocked(free || c.forced > 0, start/c.size*c.size < start, now, &eliciting) {
			break
		}
		last = (len(c.out) - 1) / c.size * c.size
		forced = forced || c.forced > 0
		c.forced = max(c.forced-1, 0)
	}
	if last >= 0 && eliciting && (forced || c.rec.bytes+c.size > c.model.window) {
		c.out[last] |= bitAckNow
	}
	if !c.sendableLocked() && c.rec.bytes+c.size <= c.model.window {
		c.rec.exhausted()
	}
	c.forced = 0
}

// batchLocked is how many packets go out at once.
func (c *Conn) batchLocked() int { return min(maxBatch, maxBatchBytes/c.size) }

// quantumLocked is how many bytes the pace gathers before they go out at once.
func (c *Conn) quantumLocked() float64 {
	return min(max(c.model.pacing/1000, float64(2*c.size)), float64(c.batchLocked()*c.size))
}

// pendingLocked is a guess of what is to be sent: one packet for the sparse.
func (c *Conn) pendingLocked() int {
	if c.bulk.empty() {
		return c.size
	}
	return c.batchLocked() * c.size
}

func (c *Conn) refillLocked(now time.Duration) {
	most := max(c.quantumLocked(), c.model.pacing*lateness.Seconds())
	c.tokens = min(c.tokens+c.model.pacing*(now-c.tokensAt).Seconds(), most)
	c.tokensAt = now
}

// sendableLocked reports whether something wants an own packet.
func (c *Conn) sendableLocked() bool {
	return c.tellData || c.tellStreams || c.tellPing || !c.urgent.empty() || !c.bulk.empty()
}

// buildLocked appends a packet, with data if that is allowed. pad says that the
// packet before is short.
func (c *Conn) buildLocked(allowed, pad bool, now time.Duration, eliciting *bool) bool {
	data := allowed && c.sendableLocked()
	ack := c.arr.due(now)
	if !data && !ack {
		return false
	}
	p := c.placeLocked(now)
	before := len(c.out)
	if pad {
		c.out = append(c.out, make([]byte, c.size-before%c.size)...)
	}
	start := len(c.out)
	c.out = appendHeader(c.out, header{number: c.rec.next, low: c.rec.low})
	with := ack || data && c.arr.count > 0
	if with {
		delay := max(now-c.arr.newest, 0)
		c.out = appendAck(c.out, c.arr.got, uint64(delay.Microseconds()), c.size-(len(c.out)-start)-leastRoom)
	}
	wants := false
	if data {
		wants = c.controlsLocked(p, start)
		wants = c.streamsLocked(p, start+c.size) || wants
	}
	if !wants && !ack {
		c.out = c.out[:before]
		return false
	}
	if with {
		c.arr.sent()
	}
	c.rec.wentOut(p, len(c.out)-start, wants, now)
	if wants {
		c.tokens -= float64(len(c.out) - start)
	}
	*eliciting = wants
	return true
}

// placeLocked returns the record of the next packet. When all places are in use the
// oldest packet gives its own back and its contents go again: a peer that has not
// acknowledged it so many packets later never will.
func (c *Conn) placeLocked(now time.Duration) *record {
	p, ok := c.rec.begin(now)
	if !ok {
		old := c.rec.at(c.rec.low)
		if old.fate == flying {
			c.loseOneLocked(old)
		}
		old.fate = settled
		c.rec.doubted--
		p, _ = c.rec.begin(now)
	}
	return p
}

// controlsLocked appends the frames of the connection to the packet that begins at
// start.
func (c *Conn) controlsLocked(p *record, start int) (any bool) {
	if c.tellPing {
		c.tellPing = false
		c.out = append(c.out, framePing)
		c.out[start] |= bitAckNow // somebody waits for the answer
		any = true
	}
	if c.tellData {
		c.tellData = false
		c.out = appendLimit(c.out, frameMaxData, c.receiveLimit)
		p.refs = append(p.refs, ref{kind: frameMaxData})
		any = true
	}
	if c.tellStreams {
		c.tellStreams = false
		c.out = appendLimit(c.out, frameMaxStreams, c.acceptLimit)
		p.refs = append(p.refs, ref{kind: frameMaxStreams})
		any = true
	}
	return any
}

// leastRoom is the room in a packet below which no further stream is begun: the
// longest control frames of one and the head of its data.
const leastRoom = 96

// streamsLocked fills the packet, which ends at end, from the streams.
func (c *Conn) streamsLocked(p *record, end int) (any bool) {
	for end-len(c.out) >= leastRoom {
		q := &c.urgent
		if q.empty() {
			if q = &c.bulk; q.empty() {
				return any
			}
		}
		s := q.pop()
		s.queued = false
		any = s.appendLocked(p, end) || any
		if s.sendableLocked() {
			s.queued = true
			c.bulk.push(s)
		}
	}
	return any
}

// sendableLocked reports whether the stream can send something now. It puts the
// stream aside if the connection's limit is in the way.
func (s *Stream) sendableLocked() bool {
	switch {
	case s.gone:
		return false
	case s.tellReset || s.tellStop || s.tellLimit:
		return true
	case s.cut != nil:
		return false
	case len(s.missing) > 0 || s.ended && !s.endSent && s.next == s.written:
		return true
	case s.next == s.written || s.next >= s.allowed:
		return false
	}
	c := s.conn
	if c.sentBytes < c.maySendLocked() {
		return true
	}
	if !s.blocked {
		s.blocked = true
		c.blocked = append(c.blocked, s)
	}
	return false
}

// appendLocked appends what the stream has for a packet that ends at end.
func (s *Stream) appendLocked(p *record, end int) (any bool) {
	c := s.conn
	if s.gone {
		return false
	}
	if s.tellReset {
		s.tellReset, any = false, true
		c.out = appendReset(c.out, s.id, s.cutCode, s.next)
		p.refs = append(p.refs, ref{kind: frameReset, s: s})
	}
	if s.tellStop {
		s.tellStop, any = false, true
		c.out = appendStop(c.out, frameStop, s.id, s.stopCode)
		p.refs = append(p.refs, ref{kind: frameStop, s: s})
	}
	if s.tellLimit {
		s.tellLimit, any = false, true
		c.out = appendStreamLimit(c.out, s.id, s.limit)
		p.refs = append(p.refs, ref{kind: frameMaxStreamData, s: s})
	}
	if s.cut != nil {
		return any
	}
	for len(s.missing) > 0 && end-len(c.out) >= leastRoom/2 {
		x := s.dataLocked(p, s.missing[0], end)
		s.missing.remove(x)
		any = true
	}
	if len(s.missing) > 0 || end-len(c.out) < leastRoom/2 {
		return any
	}
	limit := min(s.written, s.allowed, s.next+c.maySendLocked()-min(c.sentBytes, c.maySendLocked()))
	if limit > s.next || s.ended && !s.endSent && s.next == s.written {
		x := s.dataLocked(p, span{s.next, limit}, end)
		c.sentBytes += x.hi - s.next
		s.next = x.hi
		wake(s.canWrite)
		any = true
	}
	return any
}

// dataLocked appends one STREAM frame with the beginning of x, as much as fits.
func (s *Stream) dataLocked(p *record, x span, end int) span {
	c := s.conn
	kind := byte(frameStream)
	head := len(c.out)
	c.out = appendStreamHead(c.out, kind, s.id, x.lo)
	room := uint64(end - len(c.out))
	if x.hi-x.lo >= room {
		x.hi = x.lo + room
	} else {
		kind |= bitLength
		x.hi = min(x.hi, x.lo+room-2)
		c.out = binary.AppendUvarint(c.out, x.hi-x.lo)
	}
	fin := s.ended && x.hi == s.written
	if fin {
		kind |= bitFin
		s.endSent = true
	}
	c.out[head] = kind
	at := len(c.out)
	c.out = c.out[:at+int(x.hi-x.lo)]
	s.out.read(c.out[at:], x.lo)
	p.refs = append(p.refs, ref{kind: frameStream, fin: fin, s: s, data: x})
	return x
}
