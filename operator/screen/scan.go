package screen

import (
	"bytes"
	"unicode/utf8"
)

// Limits of what we keep of one sequence; what is longer is not understood.
const (
	maxParams = 128 // bytes of parameters
	maxTitle  = 256 // bytes of a window title
)

type state uint8

const (
	ground      state = iota
	inLetter          // within the bytes of one letter
	inEscape          // after ESC
	inEscapeMid       // after ESC and an intermediate byte
	inCSI             // after ESC [
	inString          // OSC, DCS, SOS, PM, APC: until BEL or ST
	inStringEnd       // after ESC within a string
)

const (
	esc = 0x1b
	can = 0x18
	sub = 0x1a
	del = 0x7f
)

// scanner cuts what a program writes into letters, controls and sequences, as
// terminals that speak UTF-8 do, over any borders of writes.
type scanner struct {
	state    state
	letter   [utf8.UTFMax]byte
	have     int    // bytes in letter
	buf      []byte // parameters of a CSI or the beginning of a string
	overflow bool
	kind     byte // of a string: the byte after ESC
	mid      byte // intermediate byte after ESC
}

// whole reports that the next byte begins something new: bytes of ours may come
// between.
func (s *scanner) whole() bool { return s.state == ground }

// feed takes what the program wrote.
func (s *scanner) feed(m *model, p []byte) {
	for len(p) > 0 {
		switch s.state {
		case ground:
			p = s.ground(m, p)
		case inLetter:
			p = s.continueLetter(m, p)
		case inString:
			p = s.inString(m, p)
		default:
			s.sequence(m, p[0])
			p = p[1:]
		}
	}
}

func (s *scanner) ground(m *model, p []byte) []byte {
	n := 0
	for n < len(p) && p[n] >= 0x20 && p[n] < del {
		n++
	}
	if n > 0 {
		m.printASCII(p[:n])
		return p[n:]
	}
	if b := p[0]; b < utf8.RuneSelf {
		s.control(m, b)
		return p[1:]
	}
	if !utf8.FullRune(p) {
		s.have = copy(s.letter[:], p)
		s.state = inLetter
		return nil
	}
	return p[s.printLetter(m, p):]
}

// continueLetter adds bytes to a letter that a border of writes has cut.
func (s *scanner) continueLetter(m *model, p []byte) []byte {
	s.letter[s.have] = p[0]
	s.have++
	if !utf8.FullRune(s.letter[:s.have]) {
		return p[1:]
	}
	s.state = ground
	used := s.printLetter(m, s.letter[:s.have])
	if used == s.have {
		return p[1:]
	}
	// A broken letter: what came with this byte is read again. Nothing is lost
	// with the bytes before it: after an error nothing is certain anyway.
	return p
}

func (s *scanner) printLetter(m *model, p []byte) int {
	r, n := utf8.DecodeRune(p)
	switch {
	case r == utf8.RuneError && n == 1, r >= 0x80 && r < 0xa0:
		m.distrust() // terminals of eight bits read controls where others show a mark
	default:
		m.print(r)
	}
	return n
}

func (s *scanner) control(m *model, b byte) {
	if b == esc {
		s.state = inEscape
		return
	}
	m.control(b)
}

// sequence takes one byte of a sequence that began with ESC.
func (s *scanner) sequence(m *model, b byte) {
	switch {
	case s.state == inStringEnd:
		s.endString(m, b)
	case b == can || b == sub:
		s.state = ground
		m.control(b)
	case b == esc:
		s.state = inEscape
	case b == del:
	case b < 0x20:
		m.control(b) // terminals act on it and go on with the sequence
	case b >= 0x80:
		s.state = ground
		m.distrust()
	case s.state == inCSI:
		s.csi(m, b)
	case s.state == inEscapeMid:
		s.state = ground
		if b < 0x30 {
			s.state, s.mid = inEscapeMid, 0 // two intermediates: nobody's
			return
		}
		m.escapeMid(s.mid, b)
	default:
		s.escape(m, b)
	}
}

func (s *scanner) escape(m *model, b byte) {
	switch {
	case b == '[':
		s.state, s.buf, s.overflow = inCSI, s.buf[:0], false
	case b == ']' || b == 'P' || b == 'X' || b == '^' || b == '_':
		s.state, s.kind, s.buf, s.overflow = inString, b, s.buf[:0], false
	case b < 0x30:
		s.state, s.mid = inEscapeMid, b
	default:
		s.state = ground
		m.escape(b)
	}
}

func (s *scanner) csi(m *model, b byte) {
	if b < 0x40 {
		if s.overflow = s.overflow || len(s.buf) >= maxParams; !s.overflow {
			s.buf = append(s.buf, b)
		}
		return
	}
	s.state = ground
	if s.overflow {
		m.distrust()
		return
	}
	m.csi(s.buf, b)
}

// inString skips a string. A byte 9C does not end it: in UTF-8 it is part of
// letters, and terminals read it so.
func (s *scanner) inString(m *model, p []byte) []byte {
	end := bytes.IndexFunc(p, func(r rune) bool { return r == esc || r == can || r == sub || r == '\a' && s.kind == ']' })
	part := p
	if end >= 0 {
		part = p[:end]
	}
	if room := maxTitle + 2 - len(s.buf); room > 0 {
		s.buf = append(s.buf, part[:min(room, len(part))]...)
	}
	s.overflow = s.overflow || len(s.buf) > maxTitle+1
	if end < 0 {
		return nil
	}
	switch p[end] {
	case esc:
		s.state = inStringEnd
	case '\a':
		s.state = ground
		m.str(s.kind, s.buf, s.overflow)
	default:
		s.state = ground
		m.control(p[end])
	}
	return p[end+1:]
}

func (s *scanner) endString(m *model, b byte) {
	if b == '\\' {
		s.state = ground
		m.str(s.kind, s.buf, s.overflow)
		return
	}
	// The string ended here without its terminator. Terminals differ in whether
	// it counts; what follows is a sequence for all of them.
	m.distrust()
	s.state = inEscape
	s.sequence(m, b)
}

// arg is one parameter of a sequence; missing ones are negative.
type arg struct {
	value int
	sub   bool // belongs to the one before by a colon
}

// maxArg bounds one parameter, far above any screen. Our choice.
const maxArg = 1 << 24

func (a arg) or(missing int) int {
	if a.value < 0 {
		return missing
	}
	return a.value
}

// parseParams splits a CSI's bytes into a private prefix, its parameters and the
// intermediate bytes. ok is false for what no terminal defines.
func parseParams(args []arg, p []byte) (prefix byte, out []arg, mid []byte, ok bool) {
	if len(p) > 0 && p[0] >= '<' && p[0] <= '?' {
		prefix, p = p[0], p[1:]
	}
	out = args[:0]
	if len(p) == 0 {
		return prefix, out, nil, true
	}
	current := arg{value: -1}
	for i, b := range p {
		switch {
		case b >= '0' && b <= '9':
			current.value = min(max(current.value, 0)*10+int(b-'0'), maxArg)
		case b == ';' || b == ':':
			out = append(out, current)
			current = arg{value: -1, sub: b == ':'}
		case b < 0x30:
			mid = p[i:]
			for _, b := range mid {
				if b >= 0x30 {
					return 0, nil, nil, false
				}
			}
			if i > 0 {
				out = append(out, current)
			}
			return prefix, out, mid, true
		default:
			return 0, nil, nil, false
		}
	}
	return prefix, append(out, current), nil, true
}
