package path

import "net/netip"

// allowed reports whether datagrams may be sent to an address because the peer
// said so or spoke from there. The peer may be hostile (a compromised agent, say)
// and must not aim this host at groups, at every host of a network, at itself or
// at the metadata service of a cloud (169.254.169.254). Private addresses are
// allowed: a direct path inside one network is what most of this is for.
// Budgets bound what any address gets.
func (m *Manager) allowed(a netip.AddrPort) bool {
	ip := a.Addr()
	switch {
	case !ip.IsValid(), a.Port() == 0, ip.Zone() != "", ip.Is4In6():
		return false
	case ip.IsLoopback():
		return m.cfg.Loopback
	case ip.IsUnspecified(), ip.IsMulticast(), ip.IsLinkLocalUnicast():
		return false
	case ip.Is4() && reserved4(ip.As4()), ip.Is6() && embeds4(ip.As16()):
		return false
	}
	return m.cfg.Forbid == nil || !m.cfg.Forbid(a)
}

// reserved4 are 0.0.0.0/8, "this network", and 240.0.0.0/4 with the broadcast
// address in it. Broadcast addresses of local networks depend on their masks:
// Config.Forbid.
func reserved4(b [4]byte) bool { return b[0] == 0 || b[0] >= 240 }

// embeds4 are IPv6 forms of IPv4 addresses, by which a forbidden one could be
// reached under another name (attack M2): IPv4-compatible ::/96, ::ffff:0:0:0/96,
// and 64:ff9b::/16, whose translators are in the network.
func embeds4(b [16]byte) bool {
	if b[0] == 0 && b[1] == 0x64 && b[2] == 0xff && b[3] == 0x9b {
		return true
	}
	for _, c := range b[:8] {
		if c != 0 {
			return false
		}
	}
	return b[8] == 0 && b[9] == 0 && b[10] == 0 && b[11] == 0 || b[8] == 0xff && b[9] == 0xff && b[10] == 0 && b[11] == 0
}
