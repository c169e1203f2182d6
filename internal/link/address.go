package link

import (
	"encoding/binary"
	"net/netip"
)

const magicCookie = 0x2112a442 // RFC 8489, section 5

// readAddress reads an XOR-MAPPED-ADDRESS that the guard has accepted (RFC 8489,
// section 14.2): IPv4 is masked with the cookie, IPv6 with cookie and transaction.
func readAddress(v []byte, transaction [12]byte) netip.AddrPort {
	var mask [16]byte
	binary.BigEndian.PutUint32(mask[:], magicCookie)
	copy(mask[4:], transaction[:])
	ip := make([]byte, len(v)-4)
	for i := range ip {
		ip[i] = v[4+i] ^ mask[i]
	}
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(v[2:4])^magicCookie>>16)
}
