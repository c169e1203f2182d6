package session

import (
	"crypto/subtle"
	"encoding/binary"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/internal/transport"
)

// Repair of single losses in bulk. The transport's congestion control, Reno, halves
// its rate for every lost packet, whatever lost it: at 50 ms and one random loss in
// a thousand that is 10 Mbit/s of any link. So while packets are being lost, the
// sender adds the exclusive or of each group of them, and a receiver that misses
// one of the group has it again before the transport has given it up. What a full
// queue loses comes in bursts, more than one of a group, and is still seen.
//
// A group are the packets of full length among repairGroup datagrams whose counters
// differ in the last bits only. Body of the frame, which a peer that does not know
// it skips:
//
//	0     4  counter / repairGroup, the low 32 bits
//	4     2  bit i is set when datagram i of the group is in it
//	6  1200  exclusive or of those packets
//
// Our choices.
const (
	repairGroup = 16
	repairHead  = 4 + 2
	repairBody  = repairHead + transport.PacketSize
	// A session begins with repairs for repairFirst packets, while the rate is still
	// being looked for; on a clean link there are no more. A loss makes repairs worth
	// a sixteenth of the rate for repairMore packets, since few losses are still seen.
	repairFirst = 5000
	repairMore  = 100000
	// repairLook packets are looked at together. As many losses among them as a group
	// has packets are a burst; looked at more rarely, a fast sender's single losses
	// would add up to one.
	repairLook = 512
	// repairKept groups are remembered by a receiver: what may still be under way
	// when a group has ended.
	repairKept = 8
	// repairPause is how long a group may take: a slower sender is repaired by
	// the transport as quickly.
	repairPause = 50 * time.Millisecond
)

// group is the packets of one group, combined.
type group struct {
	number uint32
	mask   uint16
	sum    [transport.PacketSize]byte
}

// add combines a packet with the group of its counter, and begins that group if g
// is another one.
func (g *group) add(counter uint64, packet []byte) {
	if n := uint32(counter / repairGroup); n != g.number || g.mask == 0 {
		g.number, g.mask = n, 0
		clear(g.sum[:])
	}
	g.mask |= 1 << (counter % repairGroup)
	subtle.XORBytes(g.sum[:], g.sum[:], packet)
}

// mender makes repairs of what is sent.
type mender struct {
	left  atomic.Int64 // packets that are still to be repaired
	sent  uint64       // keepPaths only: packets that were looked at
	lost  uint64       // keepPaths only: losses among them
	fresh int          // guarded by Conn.wmu: packets sent since a look was asked for
	now   group        // guarded by Conn.wmu
	began time.Time    // guarded by Conn.wmu: when now was begun
	body  []byte       // guarded by Conn.wmu
}

// wroteLocked counts packets and reports whether it is time to look.
func (m *mender) wroteLocked(n int) bool {
	m.fresh += n
	if m.fresh < repairLook {
		return false
	}
	m.fresh = 0
	return true
}

// look turns repairs on when packets were lost since the last look, but not so many
// that it was a full queue. It is told the transport's counts so far.
func (m *mender) look(sent, lost uint64) {
	packets, n := sent-m.sent, lost-m.lost
	if packets < repairLook {
		return
	}
	if n > 0 && n*repairLook < repairGroup*packets { // it may be a late look
		m.left.Store(repairMore)
	}
	m.sent, m.lost = sent, lost
}

// sentLocked takes a packet that was sealed under a counter. When that was the last
// one of a group it returns the body of a repair, valid until the next call.
func (m *mender) sentLocked(counter uint64, packet []byte, now time.Time) []byte {
	if len(packet) != transport.PacketSize || m.left.Add(-1) < 0 {
		return nil
	}
	if uint32(counter/repairGroup) != m.now.number || m.now.mask == 0 {
		m.began = now
	}
	m.now.add(counter, packet)
	if counter%repairGroup < repairGroup-2 || bits.OnesCount16(m.now.mask) < 2 || now.Sub(m.began) > repairPause {
		return nil
	}
	m.body = binary.BigEndian.AppendUint32(m.body[:0], m.now.number)
	m.body = binary.BigEndian.AppendUint16(m.body, m.now.mask)
	m.body = append(m.body, m.now.sum[:]...)
	m.now.mask = 0
	return m.body
}

// mended finds packets that are missing in what arrives. It is the reader's alone.
type mended struct {
	on     bool // the peer sends repairs
	groups [repairKept]group
}

// arrived takes a packet of the datagram with a counter.
func (m *mended) arrived(counter uint64, packet []byte) {
	if m.on && len(packet) == transport.PacketSize {
		m.groups[counter/repairGroup%repairKept].add(counter, packet)
	}
}

// repair takes the body of a repair and returns the one packet that is missing, in
// the place of the body, or nil.
func (m *mended) repair(body []byte) (packet []byte, err error) {
	if len(body) != repairBody {
		return nil, errFrame
	}
	m.on = true
	number, mask := binary.BigEndian.Uint32(body), binary.BigEndian.Uint16(body[4:])
	g := &m.groups[number%repairKept]
	if g.number != number || g.mask&^mask != 0 || bits.OnesCount16(mask&^g.mask) != 1 {
		return nil, nil
	}
	packet = body[repairHead:]
	subtle.XORBytes(packet, packet, g.sum[:])
	g.mask = mask
	return packet, nil
}
