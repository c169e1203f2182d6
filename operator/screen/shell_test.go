package screen

import (
	"bytes"
	"fmt"
)

// shell is a line editor as the programs have it that people type into.
type shell struct {
	prompt string
	line   []rune
	at     int
	silent bool // echo is off
	part   []byte
}

// key takes one byte and returns what the shell writes for it.
func (s *shell) key(b byte) []byte {
	s.part = append(s.part, b)
	if s.part[0] == esc && len(s.part) < 3 {
		return nil
	}
	k := s.part
	s.part = nil
	switch {
	case b == '\r':
		s.line, s.at = nil, 0
		return []byte("\r\n" + s.prompt)
	case s.silent:
		return nil
	case b == del:
		if s.at == 0 {
			return []byte("\a")
		}
		s.at--
		s.line = append(s.line[:s.at:s.at], s.line[s.at+1:]...)
		return append([]byte("\b"), append(s.rest(), "\x1b[K"...)...)
	case k[0] == esc && b == 'D':
		if s.at == 0 {
			return []byte("\a")
		}
		s.at--
		return []byte("\b")
	case k[0] == esc && b == 'C':
		if s.at == len(s.line) {
			return []byte("\a")
		}
		s.at++
		return []byte("\x1b[C")
	case b < 0x20:
		return []byte("\a")
	}
	s.line = append(s.line[:s.at:s.at], append([]rune{rune(b)}, s.line[s.at:]...)...)
	s.at++
	return append([]byte{b}, s.rest()...)
}

// rest writes the line right of the cursor and returns.
func (s *shell) rest() []byte {
	tail := string(s.line[s.at:])
	return append([]byte(tail), bytes.Repeat([]byte("\b"), len(tail))...)
}

func (s *shell) String() string { return fmt.Sprintf("%s%s", s.prompt, string(s.line)) }
