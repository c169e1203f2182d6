package transport

import (
	"encoding/binary"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Kinds of a frame, its first byte.
const (
	framePadding       = 0x00
	framePing          = 0x01
	frameAck           = 0x02
	frameClose         = 0x03
	frameReset         = 0x04
	frameStop          = 0x05
	frameMaxData       = 0x06
	frameMaxStreamData = 0x07
	frameMaxStreams    = 0x08
	frameStream        = 0x10 // to 0x13: with the two bits below

	bitFin    = 0x01 // these bytes are the last
	bitLength = 0x02 // a length precedes the data; without it the data fills the packet
)

// First byte of a packet.
const (
	packetType = 0x40
	bitAckNow  = 0x01 // the sender cannot go on before it is acknowledged
)

// Limits of the format.
const (
	maxRanges = 64        // in one ACK: 64 holes are more than a window loses at 1 %
	maxValue  = 1<<62 - 1 // of any number, so that no sum of two overflows
)

// What ends a connection: only the peer can have sealed such a packet.
var (
	errMalformed  = refusal.New(refusal.ProtocolError, "the other end sent a malformed packet")
	errOptimistic = refusal.New(refusal.ProtocolError, "the other end acknowledged packets that never were")
)

// span is the packet numbers or offsets from lo up to, not including, hi.
type span struct{ lo, hi uint64 }

// frame is one frame as it was read. Only the fields of its kind are set; data is a
// part of the packet.
type frame struct {
	kind  byte
	id    uint64 // of the stream
	value uint64 // offset, final size, limit
	code  uint32
	fin   bool
	data  []byte

	delay  uint64 // of an ACK, in µs
	ranges []span // of an ACK, highest first; the array stays the frame's
}

// header is what a packet begins with.
type header struct {
	ackNow bool
	number uint64
	low    uint64 // the sender wants nothing acknowledged below; at most number
}

// number reads a varint: 7 bits a byte, lowest first, in the fewest bytes.
func number(b []byte) (uint64, []byte, bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 || v > maxValue || n > 1 && b[n-1] == 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

func parseHeader(b []byte) (h header, rest []byte, err error) {
	if len(b) == 0 || b[0]&^bitAckNow != packetType {
		return h, nil, errMalformed
	}
	h.ackNow = b[0]&bitAckNow != 0
	n, rest, ok := number(b[1:])
	if !ok {
		return h, nil, errMalformed
	}
	back, rest, ok := number(rest)
	if !ok || back > n {
		return h, nil, errMalformed
	}
	h.number, h.low = n, n-back
	return h, rest, nil
}

func appendHeader(b []byte, h header) []byte {
	first := byte(packetType)
	if h.ackNow {
		first |= bitAckNow
	}
	b = binary.AppendUvarint(append(b, first), h.number)
	return binary.AppendUvarint(b, h.number-h.low)
}

// parse reads the first frame of b into f. Padding is one frame and the last.
func (f *frame) parse(b []byte) (rest []byte, err error) {
	f.kind = b[0]
	b = b[1:]
	var ok bool
	switch f.kind {
	case framePadding:
		for _, c := range b {
			if c != 0 {
				return nil, errMalformed
			}
		}
		return nil, nil
	case framePing, frameClose:
		return b, nil
	case frameAck:
		rest, ok = f.parseAck(b)
	case frameReset:
		rest, ok = f.parseReset(b)
	case frameStop:
		rest, ok = f.parseStop(b)
	case frameMaxData, frameMaxStreams:
		f.value, rest, ok = number(b)
	case frameMaxStreamData:
		if f.id, rest, ok = number(b); ok {
			f.value, rest, ok = number(rest)
		}
	case frameStream, frameStream | bitFin, frameStream | bitLength, frameStream | bitFin | bitLength:
		rest, ok = f.parseStream(b)
	}
	if !ok {
		return nil, errMalformed
	}
	return rest, nil
}

func (f *frame) parseStop(b []byte) (rest []byte, ok bool) {
	if f.id, b, ok = number(b); !ok || len(b) < 4 {
		return nil, false
	}
	f.code = binary.BigEndian.Uint32(b)
	return b[4:], true
}

func (f *frame) parseReset(b []byte) (rest []byte, ok bool) {
	if b, ok = f.parseStop(b); !ok {
		return nil, false
	}
	f.value, rest, ok = number(b)
	return rest, ok
}

func (f *frame) parseStream(b []byte) (rest []byte, ok bool) {
	f.fin = f.kind&bitFin != 0
	if f.id, b, ok = number(b); !ok {
		return nil, false
	}
	if f.value, b, ok = number(b); !ok {
		return nil, false
	}
	f.data = b
	if f.kind&bitLength != 0 {
		var n uint64
		if n, b, ok = number(b); !ok || n > uint64(len(b)) {
			return nil, false
		}
		f.data, rest = b[:n], b[n:]
	}
	return rest, f.value+uint64(len(f.data)) <= maxValue
}

// parseAck: largest, delay, count of further ranges, then length-1 of the first
// range and, for each further one, the packets missing before it -1 and its length-1.
func (f *frame) parseAck(b []byte) (rest []byte, ok bool) {
	var largest, count, n, gap uint64
	if largest, b, ok = number(b); !ok {
		return nil, false
	}
	if f.delay, b, ok = number(b); !ok {
		return nil, false
	}
	if count, b, ok = number(b); !ok || count >= maxRanges {
		return nil, false
	}
	f.ranges = f.ranges[:0]
	hi := largest + 1
	for i := range count + 1 {
		if i > 0 {
			if gap, b, ok = number(b); !ok || gap+1 >= hi {
				return nil, false
			}
			hi -= gap + 1
		}
		if n, b, ok = number(b); !ok || n+1 > hi {
			return nil, false
		}
		f.ranges = append(f.ranges, span{hi - n - 1, hi})
		hi -= n + 1
	}
	return b, true
}

// appendAck writes as many of the ranges, which are given lowest first, as fit.
func appendAck(b []byte, ranges []span, delay uint64, room int) []byte {
	const each = 2 * 5 // bytes of a range: numbers below 2^35
	count := min(len(ranges), maxRanges, (room-4*10)/each)
	if count <= 0 {
		return b
	}
	last := len(ranges) - 1
	b = binary.AppendUvarint(append(b, frameAck), ranges[last].hi-1)
	b = binary.AppendUvarint(b, delay)
	b = binary.AppendUvarint(b, uint64(count-1))
	for i := range count {
		r := ranges[last-i]
		if i > 0 {
			b = binary.AppendUvarint(b, ranges[last-i+1].lo-r.hi-1)
		}
		b = binary.AppendUvarint(b, r.hi-r.lo-1)
	}
	return b
}

func appendStop(b []byte, kind byte, id uint64, code uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.AppendUvarint(append(b, kind), id), code)
}

func appendReset(b []byte, id uint64, code uint32, final uint64) []byte {
	return binary.AppendUvarint(appendStop(b, frameReset, id, code), final)
}

func appendLimit(b []byte, kind byte, v uint64) []byte {
	return binary.AppendUvarint(append(b, kind), v)
}

func appendStreamLimit(b []byte, id, v uint64) []byte {
	return binary.AppendUvarint(appendLimit(b, frameMaxStreamData, id), v)
}

func appendStreamHead(b []byte, kind byte, id, offset uint64) []byte {
	return binary.AppendUvarint(appendLimit(b, kind, id), offset)
}
