package session

import (
	"bytes"
	"time"

	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// maxWrite is how many packets are sealed before the link gets them: what the
// transport hands over at once, and what fits into one system call.
const maxWrite = 40

// maxHeld packets are the transport's first flight; our choice.
const maxHeld = 4

// WritePackets implements transport.Packets: it seals each packet in place, in
// the buffer that the link sends.
func (c *Conn) WritePackets(p []byte, size int) error {
	now := time.Now()
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.holdLocked(p, size)
	for len(p) > 0 {
		b := c.out[:0]
		for i := 0; i < maxWrite && len(p) > 0; i++ {
			n := min(size, len(p))
			var err error
			if b, err = c.sealFrame(b, framePacket, p[:n], now); err != nil {
				return err
			}
			p = p[n:]
		}
		c.out = b
		if err := c.link.WriteSegments(b, segment(size)); err != nil {
			c.linkLost()
			return err
		}
	}
	return nil
}

// linkLost ends the session because its only path has: a relay that closed the
// connection must not look like a normal end.
func (c *Conn) linkLost() {
	c.fail(refusal.New(refusal.Unreachable, "the connection to the relay was lost"))
}

// holdLocked keeps a copy of the transport's first packets; see Conn.held.
func (c *Conn) holdLocked(p []byte, size int) {
	for ; c.side == seal.Operator && !c.heldOver && len(p) > 0 && len(c.held) < maxHeld; p = p[min(size, len(p)):] {
		c.held = append(c.held, bytes.Clone(p[:min(size, len(p))]))
	}
}

// releaseHeld ends the holding.
func (c *Conn) releaseHeld() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.held, c.heldOver = nil, true
}

// sendHeld sends the held packets again, sealed anew.
func (c *Conn) sendHeld() error {
	c.wmu.Lock()
	held := c.held
	c.wmu.Unlock()
	for _, p := range held {
		if err := c.sendFrame(framePacket, p); err != nil {
			return err
		}
	}
	return nil
}

// segment is the length of the segment that carries a frame body of n bytes.
func segment(n int) int {
	n += frameHead
	return link.Headroom + seal.Overhead + n + padding(n)
}

// sealFrame appends headroom and the sealed datagram of one frame to b. The
// plaintext is written where the ciphertext will stand, so nothing is copied.
func (c *Conn) sealFrame(b []byte, t frameType, body []byte, now time.Time) ([]byte, error) {
	start := len(b) + link.Headroom
	b = append(b, make([]byte, link.Headroom+seal.HeaderSize)...)
	if t != framePadding {
		b = appendFrame(b, t, body)
	}
	plain := len(b) - start - seal.HeaderSize
	b = append(b, make([]byte, padding(plain))...)
	b, err := c.sealed.Seal(b[:start], b[start+seal.HeaderSize:], now)
	if err != nil {
		c.fail(err)
		return nil, err
	}
	return b, nil
}

// sendFrame sends one frame in a datagram of its own.
func (c *Conn) sendFrame(t frameType, body []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	b, err := c.sealFrame(c.out[:0], t, body, time.Now())
	if err != nil {
		return err
	}
	c.out = b
	return c.link.WriteSegments(b, len(b))
}

// sendPlain sends a datagram that is not sealed here: CONFIRM.
func (c *Conn) sendPlain(datagram []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	b := append(c.out[:0], make([]byte, link.Headroom)...)
	b = append(b, datagram...)
	c.out = b
	return c.link.WriteSegments(b, len(b))
}
