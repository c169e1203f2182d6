package transport

import (
	"slices"
	"time"
)

// What arrives. Everything here is called by the reader with the connection's lock
// held; an error ends the connection.

// takePacket handles one packet.
func (c *Conn) takePacket(b []byte, now time.Duration) error {
	h, b, err := parseHeader(b)
	if err != nil {
		return err
	}
	if c.arr.known(h.number) {
		// No number is used twice and the seal lets no copy in, so this is no repeat: it comes
		// later than what is remembered. Its sender is to hear at once that it is there.
		c.arr.instant = true
		return nil
	}
	eliciting, keep, acks := false, true, 0
	for len(b) > 0 {
		if b, err = c.frame.parse(b); err != nil {
			return err
		}
		if c.frame.kind == frameAck {
			if acks++; acks > 1 { // each walks through what is under way
				return errMalformed
			}
		}
		fits, err := c.takeFrame(&c.frame, now)
		if err != nil {
			return err
		}
		keep = keep && fits
		eliciting = eliciting || c.frame.kind != framePadding && c.frame.kind != frameAck
	}
	if keep {
		c.arr.add(h, eliciting, c.rec.trip(), now)
	}
	return nil
}

// takeFrame reports false when a frame cannot be kept now: its packet is not
// acknowledged then, and its contents come again.
func (c *Conn) takeFrame(f *frame, now time.Duration) (fits bool, err error) {
	switch f.kind {
	case frameAck:
		return true, c.takeAck(f, now)
	case frameClose:
		return true, ErrClosed
	case frameMaxData:
		if f.value > c.sendLimit {
			c.sendLimit = f.value
			c.unblockLocked()
		}
		return true, nil
	case frameMaxStreams:
		if f.value > c.openLimit {
			c.openLimit = f.value
			close(c.openable)
			c.openable = make(chan struct{})
		}
		return true, nil
	case framePadding, framePing:
		return true, nil
	}
	s, err := c.findLocked(f.id)
	if s == nil || err != nil {
		return true, err
	}
	switch f.kind {
	case frameMaxStreamData:
		if f.value > s.allowed {
			s.allowed = f.value
			c.activateLocked(s)
		}
	case frameStop:
		s.cutLocked(f.code, true)
	case frameReset:
		return true, s.takeReset(f)
	default:
		return s.takeData(f)
	}
	return true, nil
}

// findLocked finds a stream, and opens those of the peer's that were not known
// yet, in order. nil is a stream that is over.
func (c *Conn) findLocked(id uint64) (*Stream, error) {
	if id%2 == c.side {
		if id/2 >= c.opened {
			return nil, errMalformed
		}
		return c.streams[id], nil
	}
	if id/2 >= c.acceptLimit {
		return nil, errMalformed
	}
	for ; c.accepted <= id/2; c.accepted++ {
		s := newStream(c, 2*c.accepted+1-c.side)
		c.streams[s.id] = s
		c.waiting = append(c.waiting, s)
		wake(c.acceptable)
	}
	return c.streams[id], nil
}

// growLocked books that the stream is known to reach an offset, and holds the peer
// to its limits.
func (s *Stream) growLocked(end uint64, last bool) error {
	c := s.conn
	if s.hasFinal && (end > s.final || last && end != s.final) || last && end < s.highest {
		return errMalformed
	}
	if end > s.highest {
		more := end - s.highest
		if end > s.limit || more > c.receiveLimit-c.received {
			return errMalformed
		}
		c.received += more
		s.highest = end
		if s.refused != nil {
			c.consumedLocked(more)
			s.read = end
		}
	}
	if last {
		s.hasFinal, s.final = true, end
	}
	return nil
}

func (s *Stream) takeData(f *frame) (fits bool, err error) {
	end := f.value + uint64(len(f.data))
	if (len(s.arrived) >= maxGaps || s.conn.pieces >= maxPieces) && f.value > s.read {
		return false, nil
	}
	if err := s.growLocked(end, f.fin); err != nil {
		return false, err
	}
	if s.refused != nil {
		s.forgetLocked()
		return true, nil
	}
	if end > s.read {
		at := max(f.value, s.read)
		s.in.write(f.data[at-f.value:], at, &s.conn.chunks)
		before := len(s.arrived)
		s.arrived.add(span{at, end})
		s.conn.pieces += len(s.arrived) - before
	}
	if s.ready() > 0 || f.fin {
		wake(s.canRead)
	}
	s.forgetLocked()
	return true, nil
}

func (s *Stream) takeReset(f *frame) error {
	whole := s.hasFinal && s.read == s.final // it comes too late to matter
	if err := s.growLocked(f.value, true); err != nil {
		return err
	}
	if s.refused == nil && !whole {
		s.refuseLocked(&ResetError{Code: f.code, Remote: true})
	}
	s.forgetLocked()
	return nil
}

// consumedLocked books bytes that no longer take memory.
func (c *Conn) consumedLocked(n uint64) {
	c.consumed += n
	if c.receiveLimit-c.consumed < c.windows.whole/2 {
		c.receiveLimit = c.consumed + c.windows.whole
		c.tellData = true
		c.poke()
	}
}

// removeLocked forgets a stream and lets the peer open another one.
func (c *Conn) removeLocked(s *Stream) {
	delete(c.streams, s.id)
	if s.blocked {
		c.blocked = slices.DeleteFunc(c.blocked, func(o *Stream) bool { return o == s })
	}
	if s.id%2 != c.side && s.taken {
		c.overLocked()
	}
}

// overLocked lets the peer open another stream for one that is over and that
// AcceptStream has returned: those that nobody took yet count, or they pile up.
func (c *Conn) overLocked() {
	c.closed++
	if c.closed+MaxStreams-c.acceptLimit >= MaxStreams/8 {
		c.acceptLimit = c.closed + MaxStreams
		c.tellStreams = true
		c.poke()
	}
}

// takeAck books what has arrived at the peer.
func (c *Conn) takeAck(f *frame, now time.Duration) error {
	r := &c.rec
	if f.ranges[0].hi > r.next {
		return errMalformed
	}
	if r.catches(f.ranges) {
		return errOptimistic
	}
	s := sample{now: now}
	var newest *record
	var newestNumber uint64
	for i := len(f.ranges) - 1; i >= 0; i-- {
		from := r.first
		if r.doubted > 0 {
			from = r.low
		}
		for n := max(f.ranges[i].lo, from, r.low); n < f.ranges[i].hi; n++ {
			p := r.at(n)
			if p.fate == settled {
				continue
			}
			c.landedLocked(p, n)
			s.acked += p.size
			if newest == nil || p.sent >= newest.sent {
				newest, newestNumber = p, n
			}
		}
	}
	if newest == nil {
		return nil
	}
	c.metOnce.Do(func() { close(c.met) })
	r.probes, r.heard = 0, now
	r.delivered += uint64(s.acked)
	r.deliveredAt = now
	if newestNumber >= r.fresh {
		if newestNumber == f.ranges[0].hi-1 {
			delay := time.Duration(min(f.delay, uint64(2*ackDelayMost/time.Microsecond))) * time.Microsecond
			s.trip = max(now-newest.sent-delay, time.Microsecond)
			r.measure(s.trip, now)
		}
		s.rate = r.rateOf(newest, now)
	}
	r.newest = max(r.newest, f.ranges[0].hi-1)
	r.firstSent = newest.sent
	s.prior, s.limited = newest.delivered, newest.limited
	s.lost = c.loseLocked(now)
	s.delivered, s.flying = r.delivered, r.bytes
	c.model.acknowledged(s)
	r.settle(now)
	return nil
}

// rateOf is the rate of delivery between the sending of p and its arrival.
func (r *recovery) rateOf(p *record, now time.Duration) float64 {
	d := max(now-p.since, p.sent-p.first)
	if d <= 0 {
		return 0
	}
	return float64(r.delivered-p.delivered) / d.Seconds()
}

// landedLocked books one packet that has arrived.
func (c *Conn) landedLocked(p *record, n uint64) {
	r := &c.rec
	if p.fate == flying {
		r.bytes -= p.size
	} else {
		r.doubted--
		r.lost--
		if n >= r.fresh { // it was only late
			r.window = min(max(2*r.window, r.trip()/4), r.trip())
			c.model.ceiling = 0
		}
	}
	p.fate = settled
	for i := range p.refs {
		c.landedRefLocked(&p.refs[i])
	}
	p.refs = p.refs[:0]
}

func (c *Conn) landedRefLocked(ref *ref) {
	s := ref.s
	ref.s = nil
	switch {
	case s == nil:
		return
	case ref.kind == frameReset:
		s.cutKnown = true
	case ref.kind == frameStream && s.cut == nil:
		s.endKnown = s.endKnown || ref.fin
		s.settleLocked(ref.data)
	}
	s.forgetLocked()
}

// settleLocked books bytes that have arrived.
func (s *Stream) settleLocked(x span) {
	if len(s.missing) > 0 {
		s.missing.remove(x)
	}
	if x.hi <= s.settled {
		return
	}
	if x.lo > s.settled {
		s.landed.add(x)
		return
	}
	old := s.settled
	s.settled = x.hi
	for len(s.landed) > 0 && s.landed[0].lo <= s.settled {
		s.settled = max(s.settled, s.landed[0].hi)
		s.landed = s.landed[:copy(s.landed, s.landed[1:])]
	}
	s.conn.settledLocked(s.settled - old)
	s.out.drop(s.settled, &s.conn.chunks)
	if s.settled == s.written {
		s.out.free(s.settled, &s.conn.chunks)
	}
}

// loseLocked takes packets for lost that later ones have overtaken by too much,
// and returns how many bytes they were.
func (c *Conn) loseLocked(now time.Duration) (bytes int) {
	r := &c.rec
	r.lossAt = 0
	patience := r.patience()
	for n := r.first; n < r.next; n++ {
		p := r.at(n)
		if p.fate != flying {
			if n == r.first {
				r.first++
			}
			continue
		}
		if n >= r.newest {
			break
		}
		if now-p.sent < patience {
			r.lossAt = p.sent + patience
			break
		}
		bytes += p.size
		c.loseOneLocked(p)
		if n == r.first {
			r.first++
		}
	}
	return bytes
}

func (c *Conn) loseOneLocked(p *record) {
	r := &c.rec
	p.fate = lost
	r.bytes -= p.size
	r.lost++
	r.doubted++
	for i := range p.refs {
		c.againLocked(p.refs[i])
	}
}

// againLocked has what a packet carried sent again, if that is still wanted.
func (c *Conn) againLocked(x ref) {
	s := x.s
	switch {
	case x.kind == frameMaxData:
		c.tellData = true
	case x.kind == frameMaxStreams:
		c.tellStreams = true
	case s == nil || s.gone:
		return
	case x.kind == frameReset:
		s.tellReset = !s.cutKnown
	case x.kind == frameStop:
		s.tellStop = !s.hasFinal
	case x.kind == frameMaxStreamData:
		s.tellLimit = !s.hasFinal && !s.stopped
	case x.kind == frameStream && s.cut == nil:
		if x.fin && !s.endKnown {
			s.endSent = false
		}
		if x.data.hi > s.settled {
			s.missing.add(span{max(x.data.lo, s.settled), x.data.hi})
			for _, l := range s.landed[s.landed.find(x.data.lo):] {
				if l.lo >= x.data.hi {
					break
				}
				s.missing.remove(l)
			}
		}
	}
	if s != nil {
		c.activateLocked(s)
	}
}
