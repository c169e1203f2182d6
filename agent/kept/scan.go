package kept

// state is where a scanner is in the language of terminals (ECMA-48, xterm).
type state byte

const (
	ground     state = iota
	escape           // after ESC
	escapeMore       // after ESC and an intermediate byte
	csi              // after ESC [
	text             // in a string: OSC, DCS, SOS, PM, APC
	textEscape       // after ESC in a string
	textC2           // after the first byte of what may be a C1 control, in a string
	c2               // after the first byte of a C1 control in UTF-8
)

// maxSequence is how much of a sequence is looked at, in bytes; our choice. What is
// longer is no sequence that a program of today writes, or a picture.
const maxSequence = 4 << 10

// scanner cuts output into sequences and the rest. It keeps the one that has not
// ended yet. Where terminals differ, or obey what stands inside of a sequence, it reads
// as the most obedient one: what it takes for one harmless sequence is one for all.
type scanner struct {
	state state
	seq   []byte // the sequence so far, cut at maxSequence
	long  bool   // it was cut
}

func (s *scanner) clone() scanner {
	return scanner{state: s.state, seq: append([]byte(nil), s.seq...), long: s.long}
}

// step takes one byte. done says that seq is a whole sequence, plain that b is a
// byte outside of all.
func (s *scanner) step(b byte) (done, plain bool) {
	escaped := s.state == escape || s.state == escapeMore || s.state == csi
	switch {
	case s.state == ground:
		return s.outside(b)
	case s.state == c2 && (b < 0x80 || b > 0xbf), // no character at all
		escaped && b >= 0x80: // no part of any sequence
		s.state = ground
		return s.outside(b) // b may begin something
	case escaped && (b < 0x20 || b == 0x7f):
		s.obey(b)
		return false, false
	}
	s.keep(b)
	return s.inside(b)
}

// outside takes a byte that belongs to no sequence that has begun.
func (s *scanner) outside(b byte) (done, plain bool) {
	switch b {
	case 0x1b:
		s.begin(escape, b)
	case 0xc2:
		s.begin(c2, b)
	default:
		return false, true
	}
	return false, false
}

// obey takes a control character inside of a sequence that is no string. Terminals obey
// most at once, and go on with the sequence.
func (s *scanner) obey(b byte) {
	switch b {
	case 0x18, 0x1a: // CAN and SUB break it off
		s.state = ground
	case 0x1b:
		s.begin(escape, b)
	}
}

// inside takes a byte of a sequence, which is in seq already.
func (s *scanner) inside(b byte) (done, plain bool) {
	switch s.state {
	case c2:
		if b > 0x9f { // an ordinary character of two bytes
			return s.end()
		}
		return s.control(b)
	case escape:
		return s.afterEscape(b)
	case escapeMore:
		if b > 0x2f {
			return s.end()
		}
	case csi:
		if b >= 0x40 {
			return s.end()
		}
	case text:
		return s.inText(b)
	case textC2:
		return s.afterC2(b)
	case textEscape:
		if b == '\\' {
			return s.end()
		}
		s.begin(escape, 0x1b) // the string was broken off
		return s.step(b)
	}
	return false, false
}

// afterC2 takes the second byte of what may be a C1 control, in a string.
func (s *scanner) afterC2(b byte) (done, plain bool) {
	s.state = text
	switch {
	case b < 0x80 || b > 0x9f:
		return s.inText(b)
	case b == 0x9c: // ST, as all terminals know it
		s.seq = append(s.seq[:len(s.seq)-min(2, len(s.seq))], 0x1b, '\\')
		return s.end()
	}
	return s.control(b) // the string was broken off
}

// inText takes a byte of a string.
func (s *scanner) inText(b byte) (done, plain bool) {
	switch b {
	case 0x07:
		return s.end()
	case 0x18, 0x1a:
		s.state = ground // broken off
	case 0x1b:
		s.state = textEscape
	case 0xc2:
		s.state = textC2
	}
	return false, false
}

func (s *scanner) begin(st state, b byte) {
	s.state, s.seq, s.long = st, append(s.seq[:0], b), false
}

func (s *scanner) keep(b byte) {
	if len(s.seq) < maxSequence {
		s.seq = append(s.seq, b)
	} else {
		s.long = true
	}
}

func (s *scanner) end() (done, plain bool) {
	s.state = ground
	return true, false
}

func (s *scanner) afterEscape(b byte) (done, plain bool) {
	switch {
	case b == '[':
		s.state = csi
	case b == ']', b == 'P', b == 'X', b == '^', b == '_':
		s.state = text
	case b >= 0x20 && b <= 0x2f:
		s.state = escapeMore
	default:
		return s.end()
	}
	return false, false
}

// control takes the second byte of a C1 control in UTF-8, which some terminals obey
// like its form with ESC; it becomes that form.
func (s *scanner) control(b byte) (done, plain bool) {
	s.begin(escape, 0x1b)
	s.keep(b - 0x40)
	return s.afterEscape(b - 0x40)
}
