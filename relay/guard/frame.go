package guard

import (
	"encoding/binary"
	"net/netip"
)

// Sizes of frames, in bytes.
const (
	// HeaderSize is the length of a STUN header (RFC 8489, section 5).
	HeaderSize = 20

	// ChannelHeaderSize is the length of a ChannelData header (RFC 8656,
	// section 12.4).
	ChannelHeaderSize = 4

	// MaxFrame is the largest frame that is let through, header and padding
	// included. Our choice: one Ethernet frame. A stream that announces more is
	// closed at the header, so no peer can make us wait for a large frame.
	MaxFrame = 1500

	// MaxPayload is the largest payload of one ChannelData frame.
	MaxPayload = MaxFrame - ChannelHeaderSize
)

// Channel is the one channel number that both ends of a pair bind, so that the
// relay forwards ChannelData without touching a byte (protocol 6.1).
const Channel = 0x4000

// PeerAddr is the one peer address that both ends of a pair name in their
// permission and channel requests: 192.0.2.1 port 9, from TEST-NET-1 (RFC 5737),
// which is never routed. Were the pairing ever to fail, a datagram for it would
// go nowhere.
func PeerAddr() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 9)
}

const (
	magicCookie = 0x2112a442 // RFC 8489, section 5

	minChannel = 0x4000 // RFC 8656, section 12
	maxChannel = 0x7fff // upper end of the older RFC 5766, which coturn's tools still use
)

// IsChannelData reports whether frame starts as ChannelData does. It says
// nothing about the rest of the frame.
func IsChannelData(frame []byte) bool {
	return len(frame) >= ChannelHeaderSize && frame[0]>>6 == 1
}

// PutChannelHeader writes the header of a ChannelData frame that carries n
// bytes of payload into the first ChannelHeaderSize bytes of dst. It panics if
// dst is shorter or n is not between 0 and MaxPayload: both are the caller's
// own values, never a peer's.
func PutChannelHeader(dst []byte, channel uint16, n int) {
	if n < 0 || n > MaxPayload {
		panic("guard: internal error: payload out of range")
	}
	binary.BigEndian.PutUint16(dst[0:2], channel)
	binary.BigEndian.PutUint16(dst[2:4], uint16(n))
}

// ParseChannelData returns the channel number and the payload of a ChannelData
// frame, without copying: payload is a part of frame. It fails exactly when
// Check would fail for a datagram.
func ParseChannelData(frame []byte) (channel uint16, payload []byte, err error) {
	if err := checkChannelData(frame); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint16(frame[2:4]))
	return binary.BigEndian.Uint16(frame[0:2]), frame[ChannelHeaderSize : ChannelHeaderSize+n], nil
}

// PaddedSize returns the length on a stream of the ChannelData frame that
// carries n bytes of payload.
func PaddedSize(n int) int { return ChannelHeaderSize + pad4(n) }

func pad4(n int) int { return (n + 3) &^ 3 }

func checkChannelData(frame []byte) error {
	if len(frame) < ChannelHeaderSize || len(frame) > MaxFrame {
		return BadLength
	}
	if ch := binary.BigEndian.Uint16(frame[0:2]); ch < minChannel || ch > maxChannel {
		return BadType
	}
	n := int(binary.BigEndian.Uint16(frame[2:4]))
	if got := len(frame) - ChannelHeaderSize; got != n && got != pad4(n) {
		return BadLength
	}
	return nil
}
