package session

import (
	"encoding/binary"

	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/transport"
)

// frameType is the first byte of a frame in a sealed datagram.
type frameType byte

const (
	framePadding frameType = 0x00
	framePacket  frameType = 0x01
	frameReady   frameType = 0x02
	frameRekey   frameType = 0x03
	frameRekeyed frameType = 0x04
	frameClose   frameType = 0x05
	frameWanted  frameType = 0x06

	framePathFirst frameType = 0x90 // frames of package path
	framePathLast  frameType = 0x93

	// skippable is set in the types that may be ignored by who does not know them.
	skippable frameType = 0x80
)

// Sizes in bytes (design 4.2, protocol 2.7).
const (
	frameHead    = 3
	padTo        = 64 // what we pad to
	padAtLeast   = 16 // what we demand
	maxPlaintext = (frameHead + transport.PacketSize + padTo - 1) / padTo * padTo

	// MaxDatagram is the longest sealed datagram but on paths that carry longer ones,
	// of path.Wide or path.Large bytes: 1,248 bytes.
	MaxDatagram = maxPlaintext + seal.Overhead
	maxLarge    = path.Large - seal.Overhead
)

// control reports whether a frame may be sealed with an aged key: what brings the
// session back, or ends it.
func (t frameType) control() bool {
	switch t {
	case frameRekey, frameRekeyed, frameWanted, frameClose:
		return true
	}
	return t >= framePathFirst && t <= framePathLast
}

var errFrame = refusal.New(refusal.ProtocolError, "malformed frame in a sealed datagram")

// frame is one frame; body is a part of the plaintext.
type frame struct {
	typ  frameType
	body []byte
}

// nextFrame splits the first frame off a plaintext. A frame of type padding is
// the last one. Only the peer can have sealed what it refuses.
func nextFrame(b []byte) (f frame, rest []byte, err error) {
	f.typ = frameType(b[0])
	if f.typ == framePadding {
		for _, c := range b {
			if c != 0 {
				return f, nil, errFrame
			}
		}
		return f, nil, nil
	}
	if len(b) < frameHead {
		return f, nil, errFrame
	}
	n := int(binary.BigEndian.Uint16(b[1:frameHead]))
	if n > len(b)-frameHead {
		return f, nil, errFrame
	}
	f.body = b[frameHead : frameHead+n]
	return f, b[frameHead+n:], nil
}

// appendFrame appends one frame to a plaintext.
func appendFrame(b []byte, t frameType, body []byte) []byte {
	b = append(b, byte(t))
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// padding is the number of zeros that follow a plaintext of n bytes. An empty
// plaintext becomes one block: a datagram that says nothing but "here".
func padding(n int) int {
	if n == 0 {
		return padTo
	}
	return (padTo - n%padTo) % padTo
}
