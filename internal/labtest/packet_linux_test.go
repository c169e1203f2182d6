package labtest

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// dgram is an IPv4 packet with a whole UDP datagram in it. Checksums are made
// right by the lab.
type dgram []byte

const (
	ipv4Header = 20
	udpHeader  = 8
)

// datagram looks at a packet; ours have no options.
func datagram(ip []byte) (dgram, bool) {
	const udp = 17
	ok := len(ip) >= ipv4Header+udpHeader && ip[0] == 0x45 && ip[9] == udp && ip[6]&0x3f == 0 && ip[7] == 0
	return ip, ok
}

func (d dgram) payload() []byte { return d[ipv4Header+udpHeader:] }

func (d dgram) src() netip.AddrPort { return d.end(12, ipv4Header) }
func (d dgram) dst() netip.AddrPort { return d.end(16, ipv4Header+2) }

func (d dgram) end(addr, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(d[addr:addr+4])), binary.BigEndian.Uint16(d[port:]))
}

func (d dgram) setSource(a netip.AddrPort) {
	b := a.Addr().As4()
	copy(d[12:], b[:])
	binary.BigEndian.PutUint16(d[ipv4Header:], a.Port())
}

// with is a datagram with the same ends and another payload.
func (d dgram) with(payload []byte) dgram {
	out := append(slices.Clone(d[:ipv4Header+udpHeader]), payload...)
	binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
	binary.BigEndian.PutUint16(out[ipv4Header+4:], uint16(len(out)-ipv4Header))
	return out
}

// reflected goes back to where it came from.
func (d dgram) reflected() dgram {
	out := slices.Clone(d)
	copy(out[12:16], d[16:20])
	copy(out[16:20], d[12:16])
	copy(out[ipv4Header:], d[ipv4Header+2:ipv4Header+4])
	copy(out[ipv4Header+2:], d[ipv4Header:ipv4Header+2])
	return out
}

// isSealed reports a sealed datagram that is under way directly: inside a relay's
// frames the first byte is another.
func (d dgram) isSealed() bool {
	const sealed = 0xd8
	p := d.payload()
	return len(p) >= 32 && p[0] == sealed
}
