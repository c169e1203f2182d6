package netlab

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A frame as the kernel hands it over: what the interface knows about it
// (virtio's header: flags, kind of train, head, segment size, checksum start and
// offset), Ethernet, IP.
const (
	vnetLen  = 10
	etherLen = 14
	ipStart  = vnetLen + etherLen
	maxFrame = ipStart + 65535
	mtu      = 1500 // bytes of IP; Ethernet's
)

// Fields of virtio's header, in this machine's byte order.
const (
	vnetNeedsSum = 1 // the checksum field holds the pseudo header's sum only
	vnetTCP4     = 1
	vnetTCP6     = 4
	vnetUDP      = 5
	vnetECN      = 0x80
)

// Protocol is the number of what IP carries.
type Protocol uint8

// The protocols that a NAT passes.
const (
	TCP Protocol = unix.IPPROTO_TCP // 6
	UDP Protocol = unix.IPPROTO_UDP // 17
)

// Bits of TCP's flags.
const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpPSH = 0x08
	tcpACK = 0x10
	tcpCWR = 0x80
)

// frame is one packet, or a train of packets of one flow.
type frame struct {
	b        []byte
	v6       bool
	proto    Protocol
	src, dst netip.AddrPort // ports are 0 where the protocol or a fragment has none
	l4       int            // offset of the TCP or UDP header; 0 where there is none
	head     int            // offset of what follows it
	gso      int            // payload bytes of each packet of a train; 0: a single packet
}

// parse reads the addresses. It reports false for what no link carries:
// multicast, broadcast, ARP and damaged packets.
func parse(b []byte) (*frame, bool) {
	if len(b) < ipStart+20 {
		return nil, false
	}
	f := &frame{b: b}
	ip := b[ipStart:]
	var ok bool
	switch ip[0] >> 4 {
	case 4:
		ok = f.parse4(ip)
	case 6:
		ok = f.parse6(ip)
	}
	if !ok || f.dst.Addr().IsMulticast() || f.src.Addr().IsUnspecified() || f.dst.Addr() == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return nil, false
	}
	if kind := b[1] &^ vnetECN; kind != 0 && f.l4 > 0 {
		f.gso = int(binary.NativeEndian.Uint16(b[4:]))
	}
	return f, true
}

func (f *frame) parse4(ip []byte) bool {
	size, head := int(binary.BigEndian.Uint16(ip[2:])), int(ip[0]&15)*4
	if head < 20 || size < head || size > len(ip) {
		return false
	}
	f.b = f.b[:ipStart+size]
	f.proto = Protocol(ip[9])
	src, dst := netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	fragment := binary.BigEndian.Uint16(ip[6:])&0x3fff != 0
	return f.parsePorts(src, dst, ipStart+head, fragment)
}

func (f *frame) parse6(ip []byte) bool {
	if len(ip) < 40 {
		return false
	}
	size := 40 + int(binary.BigEndian.Uint16(ip[4:]))
	if size > len(ip) {
		return false
	}
	f.v6 = true
	f.b = f.b[:ipStart+size]
	f.proto = Protocol(ip[6])
	return f.parsePorts(netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40])), ipStart+40, false)
}

func (f *frame) parsePorts(src, dst netip.Addr, l4 int, fragment bool) bool {
	f.src, f.dst = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)
	if fragment || f.proto != TCP && f.proto != UDP {
		return true
	}
	head, least := 8, 8
	if f.proto == TCP {
		least = 20
	}
	if len(f.b) < l4+least {
		return false
	}
	if f.proto == TCP {
		head = int(f.b[l4+12]>>4) * 4
	}
	if head < least || len(f.b) < l4+head {
		return false
	}
	f.l4, f.head = l4, l4+head
	f.src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(f.b[l4:]))
	f.dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(f.b[l4+2:]))
	return true
}

// packets is how many packets the wire would carry.
func (f *frame) packets() int {
	payload := len(f.b) - f.head
	if f.gso == 0 || payload <= f.gso {
		return 1
	}
	return (payload + f.gso - 1) / f.gso
}

// size is the IP length of packet i.
func (f *frame) size(i int) int {
	if f.gso == 0 {
		return len(f.b) - ipStart
	}
	at := f.head + i*f.gso
	return f.head - ipStart + min(f.gso, len(f.b)-at)
}

// clone returns f with bytes of its own, unless cut has made them.
func (f *frame) clone(of *frame) *frame {
	if f != of {
		return f
	}
	c := *f
	c.b = append([]byte(nil), f.b...)
	return &c
}

// blankHead is what stands before an IP packet that no kernel has sent.
func blankHead(ip []byte) []byte {
	b := make([]byte, ipStart)
	copy(b[vnetLen:], hardware[:])
	copy(b[vnetLen+6:], hardware[:])
	kind := uint16(unix.ETH_P_IP)
	if len(ip) > 0 && ip[0]>>4 == 6 {
		kind = unix.ETH_P_IPV6
	}
	binary.BigEndian.PutUint16(b[vnetLen+12:], kind)
	return b
}

// cut returns packets from to to-1 as a train of its own.
func (f *frame) cut(from, to int) *frame {
	n := f.packets()
	if from == 0 && to == n {
		return f
	}
	start, end := f.head+from*f.gso, min(f.head+to*f.gso, len(f.b))
	c := *f
	c.b = append(append(make([]byte, 0, f.head+end-start), f.b[:f.head]...), f.b[start:end]...)
	if to-from == 1 {
		c.single()
	}
	if f.proto == TCP {
		c.cutTCP(uint32(from*f.gso), to == n)
	} else {
		binary.BigEndian.PutUint16(c.b[c.l4+4:], uint16(len(c.b)-c.l4))
	}
	if !f.v6 {
		id := binary.BigEndian.Uint16(f.b[ipStart+4:])
		binary.BigEndian.PutUint16(c.b[ipStart+4:], id+uint16(from))
	}
	c.finish()
	return &c
}

// single says that this is one packet, whose checksum is still to be filled in.
func (f *frame) single() {
	f.gso = 0
	f.b[1] = 0
	binary.NativeEndian.PutUint16(f.b[4:], 0)
}

// cutTCP sets what a network card would: the sequence number, offset bytes into
// the train, and the flags that belong to its first or last packet only.
func (f *frame) cutTCP(offset uint32, last bool) {
	tcp := f.b[f.l4:]
	binary.BigEndian.PutUint32(tcp[4:], binary.BigEndian.Uint32(tcp[4:])+offset)
	if !last {
		tcp[13] &^= tcpFIN | tcpPSH
	}
	if offset > 0 {
		tcp[13] &^= tcpCWR
	}
}

// finish sets lengths and checksums after a change: IP's in full, TCP's and UDP's
// as the pseudo header's sum, to which the receiving kernel trusts.
func (f *frame) finish() {
	ip := f.b[ipStart:]
	if f.v6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
	} else {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		ip[10], ip[11] = 0, 0
		head := int(ip[0]&15) * 4
		binary.BigEndian.PutUint16(ip[10:], ^fold(sum(ip[:head])))
	}
	if f.l4 == 0 {
		return
	}
	offset := 16
	if f.proto == UDP {
		offset = 6
	}
	f.b[0] |= vnetNeedsSum
	binary.NativeEndian.PutUint16(f.b[6:], uint16(f.l4-vnetLen))
	binary.NativeEndian.PutUint16(f.b[8:], uint16(offset))
	binary.BigEndian.PutUint16(f.b[f.l4+offset:], f.pseudo())
}

// pseudo is the sum of what TCP and UDP check of the IP header.
func (f *frame) pseudo() uint16 {
	size := uint32(len(f.b) - f.l4)
	s := uint32(f.proto) + size>>16 + size&0xffff
	if f.v6 {
		s += sum(f.b[ipStart+8 : ipStart+40])
	} else {
		s += sum(f.b[ipStart+12 : ipStart+20])
	}
	return fold(s)
}

// sum adds 16-bit words; b has an even length.
func sum(b []byte) (s uint32) {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
