package netlab

import (
	"encoding/binary"
	"net/netip"
)

// NAT-PMP as in RFC 6886, as much of it as a host needs that wants UDP forwarded.
const (
	pmpPort     = 5351
	pmpAddress  = 0
	pmpMapUDP   = 1
	pmpResponse = 128
	pmpVersion  = 1 // the result that says: not this version
)

// Forwarding makes the router answer NAT-PMP at its inner address, and forward
// what it has agreed to from everybody. Mappings go with Rebind and Renumber, not
// with their lease.
func (r *NAT) Forwarding() { r.locked(func() { r.forwarding = true }) }

// Forward has the router forward a UDP port for ever, as its owner writes it down: from
// everybody to inside. It goes with Rebind and Renumber, as all mappings do.
func (r *NAT) Forward(outer uint16, inside netip.AddrPort) {
	r.locked(func() { r.enterLocked(port{UDP, outer}, inside) })
}

// Forwarded is how many ports are forwarded now.
func (r *NAT) Forwarded() (n int) {
	r.locked(func() {
		for _, m := range r.byPort {
			if m.forwarded {
				n++
			}
		}
	})
	return n
}

// asksLocked answers a frame from inside that is a question to the router itself,
// and reports whether it is one.
func (r *NAT) asksLocked(f *frame) bool {
	inner := netip.AddrFrom4([4]byte{10, 0, byte(r.Network.index), 1}) // as in addressLocked
	if !r.forwarding || f.proto != UDP || f.dst != netip.AddrPortFrom(inner, pmpPort) {
		return false
	}
	q := f.b[f.head:]
	switch {
	case len(q) >= 2 && q[0] != 0: // PCP, as section 9 of RFC 6887 wants it answered
		r.replyLocked(f, q[1], pmpVersion, nil)
	case len(q) == 2 && q[1] == pmpAddress:
		ip := r.addr.As4()
		r.replyLocked(f, pmpAddress, 0, ip[:])
	case len(q) == 12 && q[1] == pmpMapUDP:
		port, life := binary.BigEndian.Uint16(q[4:]), binary.BigEndian.Uint32(q[8:])
		outer := r.forwardLocked(f, netip.AddrPortFrom(f.src.Addr(), port), life > 0)
		b := binary.BigEndian.AppendUint16(nil, port)
		b = binary.BigEndian.AppendUint16(b, outer)
		r.replyLocked(f, pmpMapUDP, 0, binary.BigEndian.AppendUint32(b, life))
	}
	return true
}

// replyLocked sends an answer to who asked.
func (r *NAT) replyLocked(f *frame, op, result byte, body []byte) {
	c := f.clone(f)
	c.b = append(c.b[:c.head:c.head], 0, op|pmpResponse, 0, result, 0, 0, 0, 1) // version, answer, result, a second after its start
	c.b = append(c.b, body...)
	c.single()
	binary.BigEndian.PutUint16(c.b[c.l4+4:], uint16(len(c.b)-c.l4))
	c.setSource(f.dst)
	c.setDestination(f.src)
	r.Network.routeLocked(c)
}

// forwardLocked makes, keeps or ends a mapping that admits everybody, and returns
// its port.
func (r *NAT) forwardLocked(f *frame, inside netip.AddrPort, keep bool) uint16 {
	for _, m := range r.byPort {
		if m.forwarded && m.source.from == inside {
			if !keep {
				delete(r.byPort, m.port)
				return 0
			}
			return m.port.number
		}
	}
	if !keep {
		return 0
	}
	return r.enterLocked(r.freeLocked(f), inside)
}

func (r *NAT) enterLocked(p port, inside netip.AddrPort) uint16 {
	r.byPort[p] = &mapping{source: source{proto: UDP, from: inside}, port: p, forwarded: true, peers: map[netip.AddrPort]bool{}, addrs: map[netip.Addr]bool{}}
	return p.number
}

// throughLocked returns the forwarded port through which a host has been spoken to
// by the destination of f, as a router answers for it: from where it was asked.
func (r *NAT) throughLocked(f *frame) *mapping {
	for _, m := range r.byPort {
		if m.forwarded && m.source.from == f.src && m.source.proto == f.proto && m.peers[f.dst] {
			return m
		}
	}
	return nil
}
