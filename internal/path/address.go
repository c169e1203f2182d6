package path

import (
	"net/netip"

	"github.com/tucdesk/tucdesk/internal/embed4"
)

// allowed reports whether datagrams may be sent to an address because the peer
// said so or spoke from there. The peer may be hostile (a compromised agent, say)
// and must not aim this host at groups, at every host of a network, at itself or
// at the metadata service of a cloud (169.254.169.254), nor by the IPv6 form of an IPv4
// address, whatever that one is (attack M2). Private addresses are
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
	case ip.Is4() && reserved4(ip.As4()), len(embed4.Of(ip)) > 0:
		return false
	}
	return m.cfg.Forbid == nil || !m.cfg.Forbid(a)
}

// reserved4 are 0.0.0.0/8, "this network", and 240.0.0.0/4 with the broadcast
// address in it. Broadcast addresses of local networks depend on their masks:
// Config.Forbid.
func reserved4(b [4]byte) bool { return b[0] == 0 || b[0] >= 240 }
