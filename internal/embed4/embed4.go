// Package embed4 finds the IPv4 addresses that IPv6 addresses hold. A router or a
// translator may deliver to those, so whoever forbids an IPv4 address has to forbid its
// other names (attacks M2, P4).
package embed4

import "net/netip"

// form is a network whose addresses hold an IPv4 address, and in which bytes.
type form struct {
	net netip.Prefix
	at  [4]int
	not byte // each byte is XORed with it
}

var forms = []form{
	{net: netip.MustParsePrefix("::/96"), at: [4]int{12, 13, 14, 15}},                // IPv4-compatible, RFC 4291
	{net: netip.MustParsePrefix("::ffff:0:0/96"), at: [4]int{12, 13, 14, 15}},        // IPv4-mapped, RFC 4291
	{net: netip.MustParsePrefix("::ffff:0:0:0/96"), at: [4]int{12, 13, 14, 15}},      // IPv4-translated, RFC 2765
	{net: netip.MustParsePrefix("64:ff9b::/96"), at: [4]int{12, 13, 14, 15}},         // NAT64, RFC 6052
	{net: netip.MustParsePrefix("64:ff9b:1::/48"), at: [4]int{12, 13, 14, 15}},       // NAT64 of one site, RFC 8215, with a prefix of 96 bits
	{net: netip.MustParsePrefix("64:ff9b:1::/48"), at: [4]int{6, 7, 9, 10}},          // the same with one of 48, RFC 6052
	{net: netip.MustParsePrefix("64:ff9b:1::/48"), at: [4]int{7, 9, 10, 11}},         // 56
	{net: netip.MustParsePrefix("64:ff9b:1::/48"), at: [4]int{9, 10, 11, 12}},        // 64
	{net: netip.MustParsePrefix("2002::/16"), at: [4]int{2, 3, 4, 5}},                // 6to4, RFC 3056
	{net: netip.MustParsePrefix("2001::/32"), at: [4]int{4, 5, 6, 7}},                // Teredo's server, RFC 4380
	{net: netip.MustParsePrefix("2001::/32"), at: [4]int{12, 13, 14, 15}, not: 0xff}, // and its client
}

// Of returns the IPv4 addresses that addr may stand for, or none: for ordinary IPv6
// addresses and for IPv4. A zone is not looked at. ISATAP (RFC 5214) can be in any
// network and is found by its interface identifier.
func Of(addr netip.Addr) (list []netip.Addr) {
	if !addr.Is6() {
		return nil
	}
	b := addr.As16()
	for _, f := range forms {
		// Not with Contains, which takes no mapped address for one of ::/96's kind.
		if p := f.net.Addr().As16(); matches(b, p, f.net.Bits()) {
			list = append(list, netip.AddrFrom4([4]byte{b[f.at[0]] ^ f.not, b[f.at[1]] ^ f.not, b[f.at[2]] ^ f.not, b[f.at[3]] ^ f.not}))
		}
	}
	if b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe {
		list = append(list, netip.AddrFrom4([4]byte(b[12:])))
	}
	return list
}

// matches compares the first bits of two addresses, a multiple of eight.
func matches(a, b [16]byte, bits int) bool { return string(a[:bits/8]) == string(b[:bits/8]) }
