package kept

// Scrollback is how many bytes of a program's output are kept; our choice: some ten
// thousand lines, and 64 kept shells stay below what one browser takes.
const Scrollback = 1 << 20

// scrollback holds the newest bytes of the output, and knows which modes of the
// terminal the older ones had set.
type scrollback struct {
	ring    []byte
	written int64 // bytes in all; the newest is at (written-1) % len(ring)
	gone    modes // set by bytes that are not in the ring any more
}

func newScrollback(size int) *scrollback { return &scrollback{ring: make([]byte, 0, size)} }

// oldest is the place in the output of the oldest byte that is left.
func (s *scrollback) oldest() int64 { return s.written - int64(len(s.ring)) }

// add appends output.
func (s *scrollback) add(b []byte) {
	for len(b) > 0 {
		if room := cap(s.ring) - len(s.ring); room > 0 {
			n := min(room, len(b))
			s.ring = append(s.ring, b[:n]...)
			s.written += int64(n)
			b = b[n:]
			continue
		}
		at := int(s.written % int64(cap(s.ring)))
		n := min(cap(s.ring)-at, len(b))
		s.gone.scan(s.ring[at : at+n])
		copy(s.ring[at:], b[:n])
		s.written += int64(n)
		b = b[n:]
	}
}

// from returns at most n bytes of the output that begin at a place which is left;
// they are good until the next add.
func (s *scrollback) from(place int64, n int) []byte {
	at := int(place % int64(cap(s.ring)))
	end := min(at+n, len(s.ring), at+int(s.written-place))
	return s.ring[at:end]
}

// replay returns all that is left, made fit to be shown again: on a screen that is
// empty, with the modes that it was written under, and without what a terminal
// would answer.
func (s *scrollback) replay() []byte {
	out := append([]byte(nil), "\x1b[0m\x1b[H\x1b[2J"...)
	out = s.gone.restore(out)
	f := filter{scanner: s.gone.scanner.clone()}
	for place := s.oldest(); place < s.written; {
		b := s.from(place, maxData)
		out = f.append(out, b)
		place += int64(len(b))
	}
	return append(out, f.held()...)
}

// alternate reports whether the program has the second screen: then it draws all of
// it by itself when it is told of a new size.
func (s *scrollback) alternate() bool {
	m := s.gone.clone()
	for place := s.oldest(); place < s.written; {
		b := s.from(place, maxData)
		m.scan(b)
		place += int64(len(b))
	}
	return m.alternate()
}
