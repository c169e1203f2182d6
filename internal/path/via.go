package path

import (
	"fmt"
	"net/netip"
)

// Via names one way that datagrams can take. It is comparable; the zero Via is
// none.
type Via struct {
	Relay  uint8          // 1 is the first relay of the grant; 0 is a direct path
	Socket uint8          // local socket of a direct path: 0 IPv4, 1 IPv6, others by the link
	Addr   netip.AddrPort // of the other end, unmapped; zero for relays
}

// Relayed reports whether v leads through a relay.
func (v Via) Relayed() bool { return v.Relay != 0 }

// String is for people: "relay 1", "direct 192.0.2.1:4242", "none".
func (v Via) String() string {
	switch {
	case v == Via{}:
		return "none"
	case v.Relayed():
		return fmt.Sprintf("relay %d", v.Relay)
	}
	return "direct " + v.Addr.String()
}

// Kind tells how an address came to be known.
type Kind uint8

// The kinds; all but Peer are announced to the peer with these numbers.
const (
	Host       Kind = iota + 1 // an address of an interface
	Reflexive                  // what a relay saw our datagrams come from
	Mapped                     // what a router agreed to forward (PCP, NAT-PMP, UPnP)
	Configured                 // what the administrator wrote down
	Peer                       // what authentic datagrams of the peer came from; never announced
)

func (k Kind) String() string {
	names := [...]string{"relay", "host", "reflexive", "mapped", "configured", "peer"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Candidate is an address at which one end may be reached.
type Candidate struct {
	Kind Kind
	Addr netip.AddrPort
}
