package guard

import (
	"encoding/binary"
	"hash/crc32"
)

// FirstRequestSize is the length, in bytes, to which PadRequest fills the first
// request. The relay never answers an unproved source with more than one and a
// half times what it received (protocol 6.3, amplification); its answer to the
// first request carries nonce and realm and is at most 192 bytes.
const FirstRequestSize = 128

// PadRequest returns the Allocate request frame with a PADDING attribute that
// brings it to FirstRequestSize, and its fingerprint made anew. Without it the
// relay would answer only a retransmission. Any other frame, in particular an
// authenticated one, whose integrity covers its length, is returned as it is.
func PadRequest(frame []byte) []byte {
	if checkHeader(frame) != nil || TypeOf(frame) != AllocateRequest ||
		len(frame) > FirstRequestSize-8 || checkAttributes(frame[HeaderSize:]) != nil {
		return frame
	}
	if _, signed := Find(frame, AttrIntegrity); signed {
		return frame
	}
	body := len(frame)
	_, marked := Find(frame, AttrFingerprint)
	end := FirstRequestSize
	if marked {
		body -= 8
		end -= 8
	}
	out := make([]byte, FirstRequestSize)
	copy(out, frame[:body])
	binary.BigEndian.PutUint16(out[body:], AttrPadding)
	binary.BigEndian.PutUint16(out[body+2:], uint16(end-body-4))
	binary.BigEndian.PutUint16(out[2:4], FirstRequestSize-HeaderSize)
	if marked {
		putFingerprint(out)
	}
	if Check(out) != nil { // one attribute too many
		return frame
	}
	return out
}

// putFingerprint fills the last eight bytes (RFC 8489, section 14.7).
func putFingerprint(frame []byte) {
	const mask = 0x5354554e
	end := len(frame) - 8
	binary.BigEndian.PutUint16(frame[end:], AttrFingerprint)
	binary.BigEndian.PutUint16(frame[end+2:], 4)
	binary.BigEndian.PutUint32(frame[end+4:], crc32.ChecksumIEEE(frame[:end])^mask)
}
