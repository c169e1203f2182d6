package guard

import "encoding/binary"

// NewMessage returns the header of a STUN message without attributes.
func NewMessage(t Type, transaction [12]byte) []byte {
	b := make([]byte, HeaderSize, FirstRequestSize)
	binary.BigEndian.PutUint16(b, uint16(t))
	binary.BigEndian.PutUint32(b[4:], magicCookie)
	copy(b[8:], transaction[:])
	return b
}

// Transaction returns the transaction id of a STUN message that Check has
// accepted.
func Transaction(frame []byte) [12]byte { return [12]byte(frame[8:HeaderSize]) }

// AppendAttribute appends an attribute to a STUN message and counts it in the
// header. It writes into msg's spare capacity, as append does. Whether the result
// is within MaxFrame is the caller's to see.
func AppendAttribute(msg []byte, typ uint16, value []byte) []byte {
	msg = binary.BigEndian.AppendUint16(msg, typ)
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(value)))
	msg = append(msg, value...)
	for len(msg)%4 != 0 {
		msg = append(msg, 0)
	}
	binary.BigEndian.PutUint16(msg[2:4], uint16(len(msg)-HeaderSize))
	return msg
}

// Before returns a copy of a STUN message that Check has accepted, up to its
// first attribute of that type, with the length that the copy has. It reports
// whether there is such an attribute.
func Before(frame []byte, typ uint16) ([]byte, bool) {
	for at := HeaderSize; at < len(frame); {
		t, _, rest, err := nextAttribute(frame[at:])
		if err != nil {
			return nil, false
		}
		if t == typ {
			head := append([]byte(nil), frame[:at]...)
			binary.BigEndian.PutUint16(head[2:4], uint16(at-HeaderSize))
			return head, true
		}
		at = len(frame) - len(rest)
	}
	return nil, false
}

// Replaced returns a copy of a STUN message that Check has accepted, up to its
// MESSAGE-INTEGRITY, with another value in its attribute of that type. The copy is
// unsigned. Whether it is within MaxFrame is the caller's to see.
func Replaced(frame []byte, typ uint16, value []byte) []byte {
	out := append(make([]byte, 0, len(frame)+len(value)+4), frame[:HeaderSize]...)
	for b := frame[HeaderSize:]; len(b) > 0; {
		t, v, rest, err := nextAttribute(b)
		if err != nil || t == AttrIntegrity || t == AttrIntegritySHA256 || t == AttrFingerprint {
			break
		}
		if t == typ {
			v = value
		}
		out = AppendAttribute(out, t, v)
		b = rest
	}
	binary.BigEndian.PutUint16(out[2:4], uint16(len(out)-HeaderSize))
	return out
}
