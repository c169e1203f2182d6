package process

import "encoding/binary"

// mode is one entry of the encoded terminal modes of RFC 4254 section 8.
type mode struct {
	op    byte
	value uint32
}

// parseModes reads opcode-and-value pairs up to the end mark. Opcodes from 160
// have no defined argument, so reading stops there, as the RFC says.
func parseModes(b []byte) (modes []mode) {
	for len(b) >= 5 && b[0] != 0 && b[0] < 160 {
		modes = append(modes, mode{b[0], binary.BigEndian.Uint32(b[1:])})
		b = b[5:]
	}
	return modes
}
