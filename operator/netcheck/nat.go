package netcheck

import (
	"net/netip"
	"slices"
)

// Mapping is how the network maps our UDP socket to addresses outside (RFC 4787,
// section 4.1).
type Mapping string

// The mappings that can be told apart from what relays see.
const (
	// MappingNone: relays see an address of this machine.
	MappingNone Mapping = "none"
	// MappingIndependent is RFC 4787's endpoint-independent mapping: everybody
	// sees the same address, so the other end can be told it.
	MappingIndependent Mapping = "endpoint-independent"
	// MappingDependent is address-dependent, or address- and port-dependent,
	// which two relays cannot tell apart: nobody else's address is of use to the
	// other end ("symmetric").
	MappingDependent Mapping = "endpoint-dependent"
	// MappingUnknown: fewer than two relays at different addresses answered.
	MappingUnknown Mapping = "unknown"
)

// seen is where one relay saw our socket.
type seen struct {
	relay  netip.AddrPort
	mapped netip.AddrPort
}

// classify tells the mapping of one socket of one family of addresses. own are the
// machine's addresses, port is the socket's.
func classify(list []seen, own []netip.Addr, port uint16) Mapping {
	list = slices.DeleteFunc(slices.Clone(list), func(s seen) bool { return !s.mapped.IsValid() })
	if len(list) == 0 {
		return MappingUnknown
	}
	plain, differ, elsewhere := true, false, false
	for _, s := range list {
		plain = plain && s.mapped.Port() == port && slices.Contains(own, s.mapped.Addr())
		differ = differ || s.mapped != list[0].mapped
		elsewhere = elsewhere || s.relay.Addr() != list[0].relay.Addr()
	}
	switch {
	case plain:
		return MappingNone
	case differ:
		return MappingDependent
	case elsewhere:
		return MappingIndependent
	}
	return MappingUnknown
}

// means is for people.
func (m Mapping) means() string {
	switch m {
	case MappingNone:
		return "none: relays see this machine's own address"
	case MappingIndependent:
		return "endpoint-independent mapping: direct paths usually work"
	case MappingDependent:
		return "address-dependent mapping, with or without ports (\"symmetric\"): direct only to hosts that are easier to reach"
	}
	return "unknown: two relays at different addresses have to answer over UDP"
}
