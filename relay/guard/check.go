package guard

import "encoding/binary"

// MaxAttributes is the largest number of attributes in one message. Our choice:
// the longest honest TURN request has ten.
const MaxAttributes = 16

// maxText bounds text attributes, in bytes (RFC 8489, sections 14.8 to 14.14:
// 763 bytes hold 127 characters of UTF-8).
const maxText = 763

// Attribute types that are named in this package or by its callers (RFC 8489,
// section 18.3; RFC 8656, section 18).
const (
	AttrUsername           = 0x0006
	AttrIntegrity          = 0x0008
	AttrErrorCode          = 0x0009
	AttrChannel            = 0x000c
	AttrLifetime           = 0x000d
	AttrPeerAddress        = 0x0012
	AttrData               = 0x0013
	AttrRealm              = 0x0014
	AttrNonce              = 0x0015
	AttrRelayedAddress     = 0x0016
	AttrEvenPort           = 0x0018
	AttrRequestedTransport = 0x0019
	AttrIntegritySHA256    = 0x001c
	AttrMappedAddress      = 0x0020
	AttrReservationToken   = 0x0022
	AttrPadding            = 0x8026
	AttrFingerprint        = 0x8028
)

// Check judges the shape of one frame: a STUN message or ChannelData, exactly as
// long as it says, every attribute inside it and of a possible size. It returns
// nil or a Reason, reads nothing outside frame and allocates nothing.
func Check(frame []byte) error {
	if IsChannelData(frame) {
		return checkChannelData(frame)
	}
	if err := checkHeader(frame); err != nil {
		return err
	}
	return checkAttributes(frame[HeaderSize:])
}

func checkHeader(frame []byte) error {
	if len(frame) < HeaderSize || len(frame) > MaxFrame {
		return BadLength
	}
	if frame[0]>>6 != 0 || binary.BigEndian.Uint32(frame[4:8]) != magicCookie {
		return BadType
	}
	// Compared as int: in 16 bits this sum wraps, which is probe T1.
	n := int(binary.BigEndian.Uint16(frame[2:4]))
	if n%4 != 0 || HeaderSize+n != len(frame) {
		return BadLength
	}
	return nil
}

func checkAttributes(b []byte) error {
	var seen [MaxAttributes]uint16
	count := 0
	sealed := false // an integrity attribute has been seen
	for len(b) > 0 {
		typ, value, rest, err := nextAttribute(b)
		if err != nil {
			return err
		}
		if count == MaxAttributes {
			return TooMany
		}
		if typ != AttrPeerAddress && contains(seen[:count], typ) {
			return Duplicate
		}
		seen[count] = typ
		count++
		if sealed && !mayFollowIntegrity(typ) || typ == AttrFingerprint && len(rest) > 0 {
			return BadOrder
		}
		sealed = sealed || typ == AttrIntegrity || typ == AttrIntegritySHA256
		if !validValue(typ, value) {
			return BadAttribute
		}
		b = rest
	}
	return nil
}

// nextAttribute splits the first attribute off b. It fails if the attribute or
// its padding would leave b.
func nextAttribute(b []byte) (typ uint16, value, rest []byte, err error) {
	if len(b) < 4 {
		return 0, nil, nil, BadAttribute
	}
	typ = binary.BigEndian.Uint16(b[0:2])
	n := int(binary.BigEndian.Uint16(b[2:4]))
	if 4+pad4(n) > len(b) {
		return 0, nil, nil, BadAttribute
	}
	return typ, b[4 : 4+n], b[4+pad4(n):], nil
}

// mayFollowIntegrity: what stands behind MESSAGE-INTEGRITY is not covered by
// it, so an attacker on the path could have added it (RFC 8489, section 14.5).
func mayFollowIntegrity(typ uint16) bool {
	return typ == AttrIntegritySHA256 || typ == AttrFingerprint
}

func contains(s []uint16, v uint16) bool {
	for _, x := range s {
		if x == v {
			return true
		}
	}
	return false
}

// validValue knows the sizes of every attribute that any parser behind the guard
// touches. Unknown attributes may have any size: nobody reads them.
func validValue(typ uint16, v []byte) bool {
	switch typ {
	case AttrPeerAddress, AttrRelayedAddress, AttrMappedAddress,
		0x0001, 0x8020, 0x8023, 0x802b, 0x802c: // mapped, old xor-mapped, alternate, origin, other
		return validAddress(v)
	case AttrChannel, AttrLifetime, AttrRequestedTransport, AttrFingerprint,
		0x0017, 0x0024, 0x002a: // address family, priority, connection id
		return len(v) == 4
	case AttrEvenPort:
		return len(v) == 1
	case AttrReservationToken, 0x8029, 0x802a: // ice controlled, controlling
		return len(v) == 8
	case 0x001a, 0x0025: // don't fragment, use candidate
		return len(v) == 0
	case AttrIntegrity:
		return len(v) == 20
	case AttrIntegritySHA256:
		return len(v) >= 16 && len(v) <= 32 && len(v)%4 == 0
	case AttrUsername:
		return len(v) > 0 && len(v) <= 512
	case AttrErrorCode:
		return len(v) >= 4 && len(v) <= 4+maxText
	case 0x000a: // unknown attributes
		return len(v)%2 == 0
	case AttrRealm, AttrNonce:
		return len(v) > 0 && len(v) <= maxText
	case 0x8022: // software
		return len(v) <= maxText
	}
	return true
}

// validAddress: eight bytes for IPv4, twenty for IPv6, and the family that goes
// with the size. A shorter one panics the STUN library (probes T2 and T3).
func validAddress(v []byte) bool {
	switch len(v) {
	case 8:
		return v[0] == 0 && v[1] == 1
	case 20:
		return v[0] == 0 && v[1] == 2
	}
	return false
}

// Find returns the value of the first attribute of that type in a STUN message
// that Check has accepted, as a part of frame, or nil and false.
func Find(frame []byte, typ uint16) ([]byte, bool) {
	if len(frame) < HeaderSize {
		return nil, false
	}
	for b := frame[HeaderSize:]; len(b) > 0; {
		t, value, rest, err := nextAttribute(b)
		if err != nil {
			return nil, false
		}
		if t == typ {
			return value, true
		}
		b = rest
	}
	return nil, false
}

// Integrity splits a STUN message that Check has accepted at its
// MESSAGE-INTEGRITY attribute: signed is everything before it, mac its 20 bytes.
// The MAC is HMAC-SHA1 over signed with the length field set as if the message
// ended with the attribute (RFC 8489, section 14.5).
func Integrity(frame []byte) (signed, mac []byte, ok bool) {
	for at := HeaderSize; at < len(frame); {
		typ, value, rest, err := nextAttribute(frame[at:])
		if err != nil {
			return nil, nil, false
		}
		if typ == AttrIntegrity {
			return frame[:at], value, true
		}
		at = len(frame) - len(rest)
	}
	return nil, nil, false
}
