package guard

import "encoding/binary"

// Type is the first two bytes of a STUN message: method and class.
type Type uint16

// Message types of TURN that pass the guard (RFC 8656, section 17). Binding is
// not among the requests: an answer to it would be larger than the question,
// and the reflexive address comes with the allocation (protocol 6.3, design 4).
const (
	AllocateRequest         Type = 0x0003
	AllocateSuccess         Type = 0x0103
	AllocateError           Type = 0x0113
	RefreshRequest          Type = 0x0004
	RefreshSuccess          Type = 0x0104
	RefreshError            Type = 0x0114
	CreatePermissionRequest Type = 0x0008
	CreatePermissionSuccess Type = 0x0108
	CreatePermissionError   Type = 0x0118
	ChannelBindRequest      Type = 0x0009
	ChannelBindSuccess      Type = 0x0109
	ChannelBindError        Type = 0x0119
	SendIndication          Type = 0x0016
	DataIndication          Type = 0x0017
)

// TypeOf returns the message type of a STUN message that Check has accepted.
func TypeOf(frame []byte) Type { return Type(binary.BigEndian.Uint16(frame[0:2])) }

// Side is the end of the TURN connection that reads.
type Side uint8

// The two sides.
const (
	Server Side = iota + 1 // the relay: requests and Send indications
	Client                 // an endpoint: responses and Data indications
)

// Check is the package's Check and then the question whether this side may
// receive the frame at all: a client never gets a request, a server never a
// response. It returns nil or a Reason.
func (s Side) Check(frame []byte) error {
	if err := Check(frame); err != nil {
		return err
	}
	if IsChannelData(frame) {
		if s == Client && looksLikeSTUN(frame) {
			return Ambiguous
		}
		return nil
	}
	switch t := TypeOf(frame); {
	case !s.receives(t):
		return Unexpected
	case t == SendIndication || t == DataIndication:
		return checkIndication(frame)
	}
	return nil
}

// looksLikeSTUN: pion's client asks for the magic cookie before it asks for the
// first two bits, so ChannelData with that payload would reach its STUN parser,
// unchecked. A sealed datagram looks like that once in 2^32.
func looksLikeSTUN(frame []byte) bool {
	return len(frame) >= HeaderSize && binary.BigEndian.Uint32(frame[4:8]) == magicCookie
}

func (s Side) receives(t Type) bool {
	switch t {
	case AllocateRequest, RefreshRequest, CreatePermissionRequest, ChannelBindRequest, SendIndication:
		return s == Server
	case AllocateSuccess, AllocateError, RefreshSuccess, RefreshError,
		CreatePermissionSuccess, CreatePermissionError,
		ChannelBindSuccess, ChannelBindError, DataIndication:
		return s == Client
	}
	return false
}

// checkIndication: pion's client ends its read loop for good at an indication
// without data, so one such datagram would deafen it.
func checkIndication(frame []byte) error {
	if _, ok := Find(frame, AttrPeerAddress); !ok {
		return Missing
	}
	if _, ok := Find(frame, AttrData); !ok {
		return Missing
	}
	return nil
}

// Paired is the further rule of the paired relay for frames that Server.Check
// has accepted: no reserved ports, one peer per request, one channel, and no
// second port of the one peer. It keeps the tables that pion holds per
// allocation at one permission and one channel, however many requests come
// (protocol 6.3, permission and channel flood). A request that names a foreign
// IP address passes: pion refuses it through its permission callback, with an
// answer that tells the client so.
func Paired(frame []byte) error {
	if IsChannelData(frame) {
		if binary.BigEndian.Uint16(frame[0:2]) != Channel {
			return NotPaired
		}
		return nil
	}
	peers := 0
	for b := frame[HeaderSize:]; len(b) > 0; {
		typ, value, rest, err := nextAttribute(b)
		if err != nil {
			return err
		}
		if typ == AttrPeerAddress {
			peers++
		}
		if peers > 1 || !pairedAttribute(typ, value) {
			return NotPaired
		}
		b = rest
	}
	return nil
}

func pairedAttribute(typ uint16, v []byte) bool {
	const udp = 17 // IANA protocol number
	switch typ {
	case AttrEvenPort, AttrReservationToken:
		return false // they make pion allocate again and again to find a port
	case AttrRequestedTransport:
		return v[0] == udp
	case AttrChannel:
		return binary.BigEndian.Uint16(v) == Channel
	case AttrPeerAddress:
		return !isPeerIP(v) || binary.BigEndian.Uint16(v[2:4])^(magicCookie>>16) == PeerAddr().Port()
	}
	return true
}

// isPeerIP reports whether an IPv4 XOR address holds the address of PeerAddr.
func isPeerIP(v []byte) bool {
	ip := PeerAddr().Addr().As4()
	return len(v) == 8 && binary.BigEndian.Uint32(v[4:8])^magicCookie == binary.BigEndian.Uint32(ip[:])
}
