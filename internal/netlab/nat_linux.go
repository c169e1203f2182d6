package netlab

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Behaviour is how a NAT maps and filters, in the words of RFC 4787 and of those
// who came before it.
type Behaviour int

const (
	// FullCone maps a source to one port for all destinations, and lets everybody
	// send to it: endpoint-independent mapping, endpoint-independent filtering.
	FullCone Behaviour = iota
	// RestrictedCone maps the same way, and lets in who has the address of a
	// destination: address-dependent filtering.
	RestrictedCone
	// PortRestricted maps the same way, and lets in destinations only:
	// address-and-port-dependent filtering.
	PortRestricted
	// Symmetric maps a source to another port for each destination, and lets in only
	// that one: address-and-port-dependent mapping and filtering.
	Symmetric
)

// udpTimeout is how long a mapping of UDP lives without a packet from inside,
// unless Timeout says otherwise: RFC 4787's least.
const udpTimeout = 2 * time.Minute

// NAT is a router with one public address before a network of its own. Its Network
// is the inside; its Link leads outwards, and its Firewall sees translated
// addresses. Ports are taken at random, never the one that the source has.
type NAT struct {
	*Link
	*Network // the inside

	outer     *Network
	behaviour Behaviour

	// Guarded by lab.engine.mu, as what follows.
	addr     netip.Addr
	hairpin  bool
	routes6  bool
	timeout  time.Duration
	bySource map[source]*mapping
	byPort   map[port]*mapping
	flows6   map[flow6]time.Time

	forwarding bool // answers NAT-PMP
}

// source is what a mapping is found by on the way out.
type source struct {
	proto Protocol
	from  netip.AddrPort
	to    netip.AddrPort // zero unless the NAT is symmetric
}

// port is what a mapping is found by on the way in.
type port struct {
	proto  Protocol
	number uint16
}

// mapping is one outer port.
type mapping struct {
	source source
	port   port
	used   time.Time // by a packet from inside
	peers  map[netip.AddrPort]bool
	addrs  map[netip.Addr]bool

	forwarded bool // by NAT-PMP or Forward: admits everybody, whose addresses are then in peers
}

// flow6 is what was sent out over IPv6: only answers may come in.
type flow6 struct {
	proto  Protocol
	in, to netip.AddrPort
}

// NAT adds a router with a network behind it, without IPv6 inside, and without
// hairpinning. NATs may be nested.
func (n *Network) NAT(behaviour Behaviour) *NAT {
	r := &NAT{Link: newLink(n.lab), outer: n, behaviour: behaviour, timeout: udpTimeout}
	r.Network = n.lab.newNetwork(r)
	r.Link.up.out = n.routeLocked
	r.Link.down.out = r.inboundLocked
	n.lab.locked(func() { r.renumberLocked() })
	return r
}

func (r *NAT) locked(f func()) { r.Link.lab.locked(f) }

// IPv4 returns the router's public address of today.
func (r *NAT) IPv4() (a netip.Addr) {
	r.locked(func() { a = r.addr })
	return a
}

// RouteIPv6 gives hosts that are added or moved from now on public IPv6 addresses,
// behind a firewall that lets in answers only.
func (r *NAT) RouteIPv6() { r.locked(func() { r.routes6 = true }) }

// Hairpin lets hosts behind the NAT reach each other by its public address.
func (r *NAT) Hairpin(on bool) { r.locked(func() { r.hairpin = on }) }

// Timeout changes how long a mapping of UDP lives without a packet from inside.
func (r *NAT) Timeout(d time.Duration) { r.locked(func() { r.timeout = d }) }

// Rebind forgets all mappings, as a router does that restarts: the next packet from
// inside gets another port, and answers to the old one are dropped.
func (r *NAT) Rebind() { r.locked(r.forgetLocked) }

// Renumber gives the router another public address and forgets all mappings, as
// providers do at night.
func (r *NAT) Renumber() { r.locked(r.renumberLocked) }

func (r *NAT) renumberLocked() {
	delete(r.outer.links, r.addr)
	a := r.outer.addressLocked()
	r.addr = a.v4
	r.outer.links[r.addr] = r.Link
	r.forgetLocked()
}

func (r *NAT) forgetLocked() {
	r.bySource, r.byPort, r.flows6 = map[source]*mapping{}, map[port]*mapping{}, map[flow6]time.Time{}
}

// outboundLocked takes a frame from inside that is addressed to elsewhere.
func (r *NAT) outboundLocked(f *frame) {
	now := time.Now()
	if f.v6 {
		r.flows6[flow6{f.proto, f.src, f.dst}] = now
		r.Link.enterLocked(true, f)
		return
	}
	if r.asksLocked(f) {
		return
	}
	toUs := f.dst.Addr() == r.addr
	if f.l4 == 0 || toUs && !r.hairpin {
		r.Link.up.count.Blocked++
		return
	}
	m := r.mapLocked(f, now)
	m.peers[f.dst], m.addrs[f.dst.Addr()] = true, true
	f.setSource(netip.AddrPortFrom(r.addr, m.port.number))
	if toUs {
		r.inboundLocked(f)
		return
	}
	r.Link.enterLocked(true, f)
}

// mapLocked finds or makes the mapping of a frame from inside.
func (r *NAT) mapLocked(f *frame, now time.Time) *mapping {
	if m := r.throughLocked(f); m != nil {
		return m
	}
	s := source{proto: f.proto, from: f.src}
	if r.behaviour == Symmetric {
		s.to = f.dst
	}
	m := r.bySource[s]
	if m != nil && r.expiredLocked(m, now) {
		m = nil
	}
	if m == nil {
		m = &mapping{source: s, port: r.freeLocked(f), peers: map[netip.AddrPort]bool{}, addrs: map[netip.Addr]bool{}}
		r.bySource[s], r.byPort[m.port] = m, m
	}
	m.used = now
	return m
}

// freeLocked picks a port that is neither taken nor the source's own.
func (r *NAT) freeLocked(f *frame) port {
	for {
		p := port{f.proto, uint16(1024 + rand.N(64512))}
		if r.byPort[p] == nil && p.number != f.src.Port() {
			return p
		}
	}
}

// expiredLocked forgets a mapping that nobody inside has used for too long.
func (r *NAT) expiredLocked(m *mapping, now time.Time) bool {
	if m.source.proto != UDP || m.forwarded || now.Sub(m.used) <= r.timeout {
		return false
	}
	delete(r.bySource, m.source)
	delete(r.byPort, m.port)
	return true
}

// inboundLocked takes a frame that is addressed to the router, or to a host of
// version 6 behind it.
func (r *NAT) inboundLocked(f *frame) {
	now := time.Now()
	if f.v6 {
		if used, ok := r.flows6[flow6{f.proto, f.dst, f.src}]; ok && (f.proto != UDP || now.Sub(used) <= r.timeout) {
			r.Network.routeLocked(f)
		} else {
			r.Link.down.count.Blocked += uint64(f.packets())
		}
		return
	}
	m := r.byPort[port{f.proto, f.dst.Port()}]
	if f.l4 == 0 || m == nil || r.expiredLocked(m, now) || !r.admits(m, f.src) {
		r.Link.down.count.Blocked += uint64(f.packets())
		return
	}
	if m.forwarded {
		m.peers[f.src] = true
	}
	f.setDestination(m.source.from)
	r.Network.routeLocked(f)
}

// admits is the filter.
func (r *NAT) admits(m *mapping, from netip.AddrPort) bool {
	switch {
	case r.behaviour == FullCone || m.forwarded:
		return true
	case r.behaviour == RestrictedCone:
		return m.addrs[from.Addr()]
	default:
		return m.peers[from]
	}
}

// setSource rewrites addresses of version 4.
func (f *frame) setSource(a netip.AddrPort) {
	f.src = a
	f.rewrite(12, 0, a)
}

func (f *frame) setDestination(a netip.AddrPort) {
	f.dst = a
	f.rewrite(16, 2, a)
}

func (f *frame) rewrite(inIP, inPorts int, a netip.AddrPort) {
	addr := a.Addr().As4()
	copy(f.b[ipStart+inIP:], addr[:])
	binary.BigEndian.PutUint16(f.b[f.l4+inPorts:], a.Port())
	f.finish()
}
