package session

import (
	"time"

	"github.com/tucdesk/tucdesk/internal/path"
)

// After an outage. The transport's timer doubles while nothing is acknowledged, so
// that its next packet may be a minute off when the network is back. To repeat its
// old packets then is no cure: each says when it was sent, by its number, and an
// acknowledgement that comes ten seconds later is a round trip of ten seconds to
// the transport, at both ends, since old packets carry old acknowledgements as
// well. It would wait that long for the next loss. So whenever a path becomes
// better than it was, this end sends something new, whose acknowledgement says
// what is missing, and what is older than heldFor stays away from the peer. Our
// choices.
const (
	// heldFor is how old a packet may be that is sent after waiting: more than an
	// exchange of keys takes, or a wake, and little for a round trip.
	heldFor = 200 * time.Millisecond
	// nudgeWait is how long an acknowledgement may take before old packets go out
	// all the same: with a full congestion window the transport sends nothing new.
	nudgeWait = 250 * time.Millisecond
	// nudgeTries are made each time, since one may be lost.
	nudgeTries = 4
)

// packet is one of the transport that waits.
type packet struct {
	b  []byte
	at time.Time // when the transport sent it
}

// better reports whether data can go by more, or more surely, than when it was
// asked last.
func (p *paths) better(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _, state := p.m.Best(now)
	if p.m.Waking(now) {
		state = path.Gone
	}
	was := p.sure
	p.sure = state
	return state > was
}

// keepNudging runs for the life of the session.
func (c *Conn) keepNudging() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.nudge:
			c.freshen()
		}
	}
}

// freshen makes the transport send something new until it is acknowledged.
func (c *Conn) freshen() {
	t := time.NewTimer(nudgeWait)
	defer t.Stop()
	before := c.transport.Stats()
	for range nudgeTries {
		if c.transport.Nudge() != nil {
			return
		}
		t.Reset(nudgeWait)
		select {
		case <-c.ctx.Done():
			return
		case <-t.C:
		}
		now := c.transport.Stats()
		old := c.takeOld()
		if now.RTT != before.RTT || now.Latest != before.Latest {
			return
		}
		for _, p := range old {
			_ = c.sendFrame(framePacket, p.b)
		}
	}
}

func (c *Conn) takeOld() []packet {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	old := c.old
	c.old = nil
	return old
}
