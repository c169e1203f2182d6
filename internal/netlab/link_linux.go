package netlab

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// WAN is how one direction of a link treats packets. The zero value is a wire:
// no delay, no loss, no limit.
type WAN struct {
	Delay   time.Duration // every packet takes this long
	Jitter  time.Duration // and up to this much more, evenly distributed; order is kept unless Reorder is set
	Reorder bool          // jitter lets packets overtake each other
	Loss    float64       // share of packets that vanish, each for itself, 0 to 1
	Rate    int64         // bits of IP per second; 0: no limit
	Queue   int           // bytes that wait for the rate before more are dropped; 0: what the rate carries in 100 ms
}

// queueTime is the default queue; our choice, what cheap routers hold.
const queueTime = 100 * time.Millisecond

// chunkTime is how much of a train leaves a limited link at once: the greatest
// error that trains add to the time of a packet.
const chunkTime = 250 * time.Microsecond

// Count is what one direction of a link has carried. Packets and Bytes went in,
// Lost and Overflowed of them did not come out.
type Count struct {
	Packets    uint64
	Bytes      uint64 // of IP
	Lost       uint64 // packets, by WAN.Loss
	Overflowed uint64 // packets that found the queue full
	Blocked    uint64 // packets that the firewall, a cut or a missing route stopped; not in Packets
}

// Packet is what a firewall sees.
type Packet struct {
	Proto    Protocol
	Src, Dst netip.AddrPort // ports are 0 where there are none: ICMP, fragments
	Flags    uint8          // TCP's
}

// Opens reports whether this packet asks for a TCP connection.
func (p Packet) Opens() bool { return p.Flags&(tcpSYN|tcpACK) == tcpSYN }

// Firewall decides what may pass a link; up is the way from the host, or from
// inside a NAT, outwards. It runs on the lab's thread: it must be quick, and must
// not call the lab.
type Firewall func(up bool, p Packet) bool

// Anything lets everything pass.
func Anything(bool, Packet) bool { return true }

// Nothing lets nothing pass.
func Nothing(bool, Packet) bool { return false }

// OnlyUDP lets nothing but UDP pass.
func OnlyUDP(_ bool, p Packet) bool { return p.Proto == UDP }

// NoUDP lets everything but UDP pass.
func NoUDP(_ bool, p Packet) bool { return p.Proto != UDP }

// OnlyTCP443 lets connections to TCP port 443 go out, and nothing else.
func OnlyTCP443(up bool, p Packet) bool {
	if up {
		return p.Proto == TCP && p.Dst.Port() == 443
	}
	return p.Proto == TCP && p.Src.Port() == 443 && !p.Opens()
}

// Link connects a host, or a NAT, with its network. Up leads away from it, down
// leads to it. All methods may be called while traffic flows.
type Link struct {
	lab      *Lab
	up, down *pipe // guarded by lab.mu, as the rest
	allow    Firewall
	cut      bool
	tap      func(up bool, ip []byte) [][]byte
}

func newLink(lab *Lab) *Link {
	return &Link{lab: lab, up: &pipe{lab: lab}, down: &pipe{lab: lab}, allow: Anything}
}

// Set changes both directions, from the next packet on.
func (l *Link) Set(w WAN) { l.SetUp(w); l.SetDown(w) }

// SetUp changes the direction away from the host or NAT.
func (l *Link) SetUp(w WAN) { l.lab.locked(func() { l.up.wan = w }) }

// SetDown changes the direction to the host or NAT.
func (l *Link) SetDown(w WAN) { l.lab.locked(func() { l.down.wan = w }) }

// Allow puts a firewall on the link in place of the one before.
func (l *Link) Allow(f Firewall) { l.lab.locked(func() { l.allow = f }) }

// Cut lets every packet vanish, in silence, until Mend. What is on its way arrives.
func (l *Link) Cut() { l.lab.locked(func() { l.cut = true }) }

// Mend undoes Cut.
func (l *Link) Mend() { l.lab.locked(func() { l.cut = false }) }

// Count returns what the link has carried so far.
func (l *Link) Count() (up, down Count) {
	l.lab.locked(func() { up, down = l.up.count, l.down.count })
	return up, down
}

// Tap puts a man in the middle of the link, before its firewall. He gets every IP
// packet, trains taken apart, and returns those that go on in its place: none, the
// same, or others, whose checksums are then made right. The slices are his. He is
// under the same rules as a Firewall. Nil removes him.
func (l *Link) Tap(f func(up bool, ip []byte) [][]byte) { l.lab.locked(func() { l.tap = f }) }

// enterLocked puts a frame on the link.
func (l *Link) enterLocked(up bool, f *frame) {
	if l.tap == nil {
		l.passLocked(up, f)
		return
	}
	for i, n := 0, f.packets(); i < n; i++ {
		ip := append([]byte(nil), f.cut(i, i+1).b[ipStart:]...)
		for _, out := range l.tap(up, ip) {
			if g, ok := parse(append(append(make([]byte, 0, ipStart+len(out)), blankHead(out)...), out...)); ok {
				g.finish()
				l.passLocked(up, g)
			}
		}
	}
}

// passLocked applies the firewall and hands the frame to its direction.
func (l *Link) passLocked(up bool, f *frame) {
	p := l.down
	if up {
		p = l.up
	}
	if l.cut || !l.allow(up, f.packet()) {
		p.count.Blocked += uint64(f.packets())
		return
	}
	p.sendLocked(f)
}

func (f *frame) packet() Packet {
	p := Packet{Proto: f.proto, Src: f.src, Dst: f.dst}
	if f.proto == TCP && f.l4 > 0 {
		p.Flags = f.b[f.l4+13]
	}
	return p
}

// pipe is one direction of a link. Guarded by lab.mu.
type pipe struct {
	lab    *Lab
	out    func(*frame) // called with lab.mu held
	wan    WAN
	count  Count
	free   time.Time // when the last packet in the queue has left it
	last   time.Time // when the last packet arrives
	flying int       // frames on their way
}

// sendLocked counts a frame and sends it on its way, in pieces where losses or the
// rate demand it.
func (p *pipe) sendLocked(f *frame) {
	n := f.packets()
	p.count.Packets += uint64(n)
	p.count.Bytes += uint64((n-1)*(f.head-ipStart) + len(f.b) - ipStart)
	if p.wan == (WAN{}) && p.flying == 0 {
		p.out(f)
		return
	}
	now := time.Now()
	start, limit := 0, p.chunk(f)
	var leaves time.Time // of the last packet that goes on
	for i := range n {
		if !p.transmitLocked(f.size(i), now) {
			p.flyLocked(f, start, i, leaves)
			start = i + 1
			continue
		}
		if leaves = p.free; i+1-start == limit {
			p.flyLocked(f, start, i+1, leaves)
			start = i + 1
		}
	}
	p.flyLocked(f, start, n, leaves)
}

// chunk is how many packets of a train may leave together.
func (p *pipe) chunk(f *frame) int {
	if p.wan.Rate == 0 {
		return f.packets()
	}
	return max(1, int(chunkTime/max(1, p.transmit(f.size(0)))))
}

// transmit is how long the link is busy with so many bytes.
func (p *pipe) transmit(bytes int) time.Duration {
	if p.wan.Rate == 0 {
		return 0
	}
	return time.Duration(int64(bytes) * 8 * int64(time.Second) / p.wan.Rate)
}

// transmitLocked takes one packet through queue, sender and wire, and reports
// whether it comes out. A packet that the wire loses has taken its time.
func (p *pipe) transmitLocked(size int, now time.Time) bool {
	if p.free.Before(now) {
		p.free = now
	}
	if p.fullLocked(size, now) {
		p.count.Overflowed++
		return false
	}
	p.free = p.free.Add(p.transmit(size))
	if p.wan.Loss > 0 && rand.Float64() < p.wan.Loss {
		p.count.Lost++
		return false
	}
	return true
}

// fullLocked reports whether a packet finds no room in the queue.
func (p *pipe) fullLocked(size int, now time.Time) bool {
	if p.wan.Rate == 0 {
		return false
	}
	room := queueTime
	if p.wan.Queue > 0 {
		room = p.transmit(p.wan.Queue)
	}
	return p.free.Sub(now)+p.transmit(size) > room+p.transmit(mtu)
}

// flyLocked has packets from to to-1 arrive together after the link's delay.
func (p *pipe) flyLocked(f *frame, from, to int, leaves time.Time) {
	if from >= to {
		return
	}
	at := leaves.Add(p.wan.Delay)
	if p.wan.Jitter > 0 {
		at = at.Add(rand.N(p.wan.Jitter))
	}
	if !p.wan.Reorder && at.Before(p.last) {
		at = p.last
	}
	p.last = at
	p.flying++
	p.lab.engine.arriveLocked(at, p, f.cut(from, to).clone(f))
}
