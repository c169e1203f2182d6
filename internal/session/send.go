package session

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"time"

	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/transport"
)

// maxWrite is how many packets are sealed before the link gets them: what the
// transport hands over at once, and what fits into one system call.
const maxWrite = 48

// maxHeld packets are the transport's first flight; our choice.
const maxHeld = 4

// PacketSize implements transport.Packets.
func (c *Conn) PacketSize() int {
	return packetIn(int(c.size.Load()))
}

// WritePackets implements transport.Packets: it seals each packet in place, in
// the buffer that the link sends.
func (c *Conn) WritePackets(p []byte, size int) error {
	now := time.Now()
	c.wmu.Lock()
	defer c.wmu.Unlock()
	r := c.paths.route(now)
	c.size.Store(int64(r.size))
	if size > packetIn(r.size) {
		return nil // another way since these were made; they are lost
	}
	aged := c.sealed.Aged(now)
	if aged {
		poke(c.wanted)
	}
	if aged || r.closed() {
		c.waiting.Store(true)
		return nil
	}
	c.keepFirstLocked(p, size)
	for len(p) > 0 {
		b := c.out[:0]
		for i := 0; i < maxWrite && len(p) > 0; i++ {
			n := min(size, len(p))
			sealed, err := c.sealFrame(b, framePacket, p[:n], now)
			if err == seal.ErrAged { // since we asked above
				poke(c.wanted)
				c.waiting.Store(true)
				return nil // what was sealed before it is lost, as in a network
			}
			if err != nil {
				return err
			}
			b, p = sealed, p[n:]
		}
		c.out = b
		// Not longer than what there is: a copy of it may go by a relay.
		if err := c.sendLocked(r, b, min(segment(size), len(b)), now); err != nil {
			return err
		}
	}
	return nil
}

// sendLocked sends sealed segments by the best way; by two when that is in doubt,
// and when they are few (see copies.go). While nothing was heard yet nobody knows
// which relay the other end is on, and every one gets them.
func (c *Conn) sendLocked(r route, b []byte, size int, now time.Time) error {
	if r.none() {
		if !r.heard {
			c.everywhereLocked(b, size)
		}
		return nil
	}
	c.paths.sent(r, len(b), now)
	twice := c.copies.wanted(len(b), now)
	var again []byte
	if r.doubtful || twice {
		again = bytes.Clone(b) // the link may overwrite what it sends
	}
	if err := c.writeLocked(r.first, b, size); err != nil || again == nil {
		return err
	}
	if twice {
		c.copies.later(again, size, now)
	}
	if r.second == (path.Via{}) {
		return nil
	}
	if twice {
		again = bytes.Clone(again)
	}
	return c.writeLocked(r.second, again, size)
}

func (c *Conn) everywhereLocked(b []byte, size int) {
	for _, r := range c.link.Relays() {
		if r.Up {
			_ = c.writeLocked(r.Via, bytes.Clone(b), size)
		}
	}
}

func (c *Conn) writeLocked(v path.Via, b []byte, size int) error {
	err := c.link.WriteSegments(v, b, size)
	if err != nil {
		c.linkLost()
	}
	return err
}

// linkLost ends the session because the link below was closed.
func (c *Conn) linkLost() {
	c.fail(refusal.New(refusal.Unreachable, "the link of the session was closed"))
}

// keepFirstLocked keeps copies of the operator's first packets until READY: they
// go out again with every repeated CONFIRM, because an agent that was not on the
// relay yet missed both, and the transport by itself would try again much later.
func (c *Conn) keepFirstLocked(p []byte, size int) {
	if c.side != seal.Operator || c.started {
		return
	}
	for ; len(p) > 0 && len(c.held) < maxHeld; p = p[min(size, len(p)):] {
		c.held = append(c.held, bytes.Clone(p[:min(size, len(p))]))
	}
}

// goOn has the transport repeat what was dropped while nothing could be sent,
// because there was no path, this end had just woken, or the key was too old and the
// next was being agreed on; and what was lost while the path was in doubt. By its own
// timer it would try later.
func (c *Conn) goOn(now time.Time) {
	better, anew := c.paths.better(now)
	if c.waiting.Load() && !c.Path().Lost && !c.paths.waking(now) && !c.sealed.Aged(now) {
		c.waiting.Store(false)
		anew = true
	}
	switch {
	case anew:
		c.transport.Poke()
	case better:
		c.transport.Nudge()
	}
}

// releaseFirst forgets the first packets; the session has started.
func (c *Conn) releaseFirst() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.held, c.started = nil, true
}

// sendFirst sends the first packets again, sealed anew.
func (c *Conn) sendFirst() error {
	c.wmu.Lock()
	first := c.held
	c.wmu.Unlock()
	for _, p := range first {
		if err := c.sendFrame(framePacket, p); err != nil {
			return err
		}
	}
	return nil
}

// packetIn is the size of the packets that datagrams of size bytes carry.
func packetIn(size int) int {
	if size <= path.Size {
		return transport.PacketSize
	}
	return size - seal.Overhead - frameHead
}

// segment is the length of the segment that carries a frame body of n bytes.
func segment(n int) int {
	n += frameHead
	return link.Headroom + seal.Overhead + n + padding(n)
}

// sealFrame appends headroom and the sealed datagram of one frame to b. The
// plaintext is written where the ciphertext will stand, so nothing is copied.
// An error ends the session, but for seal.ErrAged.
func (c *Conn) sealFrame(b []byte, t frameType, body []byte, now time.Time) ([]byte, error) {
	return c.sealLong(b, t, body, 0, now)
}

// sealLong is sealFrame for a plaintext of at least that many bytes, a multiple of
// padTo.
func (c *Conn) sealLong(b []byte, t frameType, body []byte, least int, now time.Time) ([]byte, error) {
	start := len(b) + link.Headroom
	b = append(b, make([]byte, link.Headroom+seal.HeaderSize)...)
	if t != framePadding {
		b = appendFrame(b, t, body)
	}
	plain := len(b) - start - seal.HeaderSize
	b = append(b, make([]byte, max(padding(plain), least-plain))...)
	out, err := c.seal(b[:start], b[start+seal.HeaderSize:], t.control(), now)
	if err == seal.ErrAged {
		return nil, err
	}
	if errors.Is(err, seal.ErrOver) {
		err = c.tooLong()
	}
	if err != nil {
		c.fail(err)
		return nil, err
	}
	return out, nil
}

// seal tries twice, because an epoch may begin between the two questions. Errors
// are compared by identity: a spent key has the code of an aged one.
func (c *Conn) seal(dst, plain []byte, control bool, now time.Time) (out []byte, err error) {
	for range 2 {
		if out, err = c.sealed.Seal(dst, plain, now); err != seal.ErrAged || !control {
			return out, err
		}
		if out, err = c.sealed.SealControl(dst, plain, now); err != seal.ErrYoung {
			return out, err
		}
	}
	return out, err
}

// sendFrame sends one frame in a datagram of its own.
func (c *Conn) sendFrame(t frameType, body []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	now := time.Now()
	b, err := c.sealFrame(c.out[:0], t, body, now)
	if err != nil {
		return err
	}
	c.out = b
	return c.sendLocked(c.paths.route(now), b, len(b), now)
}

// sendProbe sends a path frame by the way that it is about.
func (c *Conn) sendProbe(p path.Probe, now time.Time) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if p.Size > path.Size && c.sealed.Aged(now) {
		return nil // a short one would show nothing
	}
	least := 0
	if p.Size > 0 && !c.sealed.Aged(now) { // an aged key seals no long datagrams; data waits for the next one
		least = p.Size - seal.Overhead
	}
	b, err := c.sealLong(c.out[:0], frameType(p.Type), p.Body, least, now)
	if err != nil {
		return err
	}
	c.out = b
	if p.Size > path.Size {
		c.link.WriteWhole(p.Via, b)
		return nil
	}
	return c.writeLocked(p.Via, b, len(b))
}

// sendPlain sends a datagram that is not sealed here, CONFIRM, to every relay.
func (c *Conn) sendPlain(datagram []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	b := append(c.out[:0], make([]byte, link.Headroom)...)
	b = append(b, datagram...)
	c.out = b
	c.everywhereLocked(b, len(b))
	return c.ctx.Err()
}

// token is a fresh number for a path challenge.
func token() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}
