package session

import (
	"time"

	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/transport"
)

// ReadPackets implements transport.Packets: it reads the link, opens datagrams
// into the transport's buffers and handles every other frame on the way.
func (c *Conn) ReadPackets(pkts []transport.Packet) (int, error) {
	for n := 0; ; {
		for len(c.pending) > 0 && n < len(pkts) {
			d := c.pending[0]
			c.pending = c.pending[1:]
			if c.receive(&pkts[n], d) {
				n++
			}
		}
		c.bookArrivals()
		if n > 0 {
			return n, nil
		}
		batch, err := c.link.ReadBatch(c.reading)
		if err != nil {
			if c.reading.Err() == nil {
				c.linkLost()
			}
			return 0, err
		}
		c.pending, c.now = batch, time.Now()
		c.stale = c.paths.waking(c.now)
	}
}

// arrival is what one way has brought since it was last booked: the lock of the
// paths is taken once for a batch, not once for a datagram.
type arrival struct {
	via    path.Via
	bytes  int
	newest bool // one of the datagrams was the newest of all so far
	data   bool // one held a packet
}

func (c *Conn) bookArrivals() {
	if c.from.bytes > 0 {
		c.paths.arrived(c.from, c.now)
		if c.waiting.Load() {
			poke(c.paths.poke)
		}
	}
	c.from = arrival{via: c.from.via}
}

// opened books a datagram that was authentic, before its frames are looked at.
func (c *Conn) opened(v path.Via, n int, newest bool) {
	if c.from.via != v {
		c.bookArrivals()
		c.from.via = v
	}
	c.from.bytes += n
	c.from.newest = c.from.newest || newest
}

// receive handles one datagram and reports whether it held a packet. What does
// not open is dropped without a word: anybody can have sent it.
func (c *Conn) receive(p *transport.Packet, d link.Datagram) bool {
	datagram := d.B
	if len(datagram) > path.Large || len(datagram) == 0 {
		c.stray.Add(1)
		return false
	}
	if datagram[0] != seal.Type && datagram[0] != seal.TypeControl {
		c.plain(datagram)
		return false
	}
	plaintext, o, err := c.sealed.Open(p.Buf[:0], datagram, c.now)
	if err != nil {
		return false
	}
	c.opened(d.Via, len(datagram), o.Newest)
	p.Data, err = c.frames(plaintext, d.Via, o)
	if err != nil {
		c.fail(err)
		return false
	}
	c.from.data = c.from.data || p.Data != nil
	return p.Data != nil && !c.stale // the transport repeats what it misses
}

// plain handles what is not sealed: a repeated CONFIRM gets READY again, but
// not faster than an honest operator repeats it (attack B11).
func (c *Conn) plain(datagram []byte) {
	if c.side != seal.Agent || string(datagram) != string(c.m3) {
		c.stray.Add(1)
		return
	}
	if now := time.Now(); now.Sub(c.readyAt) >= confirmMin/2 {
		c.readyAt = now
		_ = c.sendFrame(frameReady, c.readyBody)
	}
}

// frames handles all frames of a plaintext that came by v and returns the packet
// among them. In a control datagram nothing is allowed but what brings the session
// back, or ends it: an aged key carries no data (protocol 2.7, Resume).
func (c *Conn) frames(b []byte, v path.Via, o seal.Opened) (packet []byte, err error) {
	if len(b)%padAtLeast != 0 || len(b) > maxLarge {
		return nil, errFrame
	}
	for len(b) > 0 {
		var f frame
		if f, b, err = nextFrame(b); err != nil {
			return nil, err
		}
		if o.Control && f.typ != framePadding && !f.typ.control() {
			return nil, errFrame
		}
		if f.typ == framePacket {
			if packet != nil || len(f.body) == 0 {
				return nil, errFrame
			}
			packet = f.body
			continue
		}
		if err := c.handle(f, v); err != nil {
			return nil, err
		}
	}
	return packet, nil
}

func (c *Conn) handle(f frame, v path.Via) error {
	operator := c.side == seal.Operator
	switch {
	case f.typ >= framePathFirst && f.typ <= framePathLast:
		c.bookArrivals()
		return c.paths.frame(v, f.typ, f.body, c.now)
	case f.typ == framePadding, f.typ&skippable != 0:
		return nil
	case f.typ == frameReady && operator:
		return c.gotReady(f.body)
	case f.typ == frameRekey && !operator:
		return c.answerRekey(f.body)
	case f.typ == frameRekeyed && operator:
		return c.finishRekey(f.body)
	case f.typ == frameWanted && operator && len(f.body) == 0:
		poke(c.wanted)
		return nil
	case f.typ == frameClose:
		return c.gotClose(f.body)
	}
	return errFrame
}

func (c *Conn) gotReady(body []byte) error {
	h4, ready, err := parseReady(body)
	if err != nil {
		return err
	}
	if h4 != c.h4 {
		return refusal.New(refusal.HandshakeFailed, "the agent has confirmed another handshake")
	}
	c.readyOnce.Do(func() {
		if ready.MaxResume > 0 {
			c.resume = min(c.resume, ready.MaxResume)
		}
		c.ready = ready
		close(c.readyCh)
	})
	return nil
}

func (c *Conn) gotClose(body []byte) error {
	if !validCode(string(body)) {
		return errFrame
	}
	if len(body) == 0 {
		return ErrClosed
	}
	return &refusal.Error{Code: refusal.Code(body), Detail: "the other end has ended the session"}
}
