package kept

import "bytes"

// filter passes output on that is to be shown a second time, without what a terminal
// would answer or do outside of its screen.
type filter struct {
	scanner
	more int // bytes that the present character still has
}

// append appends what of b is fit to be shown again.
func (f *filter) append(out, b []byte) []byte {
	for _, c := range b {
		done, plain := f.step(c)
		switch {
		case plain && f.character(c):
			out = append(out, c)
		case done && !f.long && harmless(f.seq):
			out = append(out, f.seq...)
		}
	}
	return out
}

// character reports whether c, outside of all sequences, belongs to the text. ENQ does
// not, it is answered; nor does a byte that goes on with nothing: it has lost its
// beginning, or is a control character of 8 bits.
func (f *filter) character(c byte) bool {
	if c >= 0x80 && c < 0xc0 {
		f.more--
		return f.more >= 0
	}
	f.more = 0
	switch {
	case c >= 0xf0:
		f.more = 3
	case c >= 0xe0:
		f.more = 2
	case c >= 0xc0:
		f.more = 1
	}
	return c != 0x05
}

// held is the sequence that has begun and not ended: what comes live ends it.
func (f *filter) held() []byte {
	if f.state == ground || f.long {
		return nil
	}
	return f.seq
}

// harmless reports whether a whole sequence only changes what is on the screen, or
// its title.
func harmless(seq []byte) bool {
	if len(seq) < 2 || seq[0] != 0x1b {
		return true // a character of two bytes
	}
	switch seq[1] {
	case '[':
		return harmlessCSI(seq[2:])
	case ']':
		return harmlessOSC(seq[2:])
	case 'P', 'X', '^', '_', 'Z': // strings to the device; DECID is answered
		return false
	}
	return true
}

// harmlessCSI judges a control sequence by its last byte. Answered are device
// attributes and status, terminal parameters, what windows tell of themselves, and
// every kind of "which mode is on"; presentation state and checksums too.
func harmlessCSI(seq []byte) bool {
	if len(seq) == 0 {
		return true
	}
	args, last := seq[:len(seq)-1], seq[len(seq)-1]
	switch last {
	case 'c', 'n', 'x', 't', 0x18, 0x1a:
		return false
	case 'p':
		return !bytes.ContainsRune(args, '$')
	case 'q':
		return !bytes.HasPrefix(args, []byte(">"))
	case 'u', 'm', 'S':
		return !bytes.HasPrefix(args, []byte("?"))
	case 'w', 'y':
		return false
	}
	return true
}

// harmlessOSC lets titles, folders and links through, and no colour: its question
// and its setting look alike.
func harmlessOSC(seq []byte) bool {
	number, _, _ := bytes.Cut(seq, []byte(";"))
	switch string(number) {
	case "0", "1", "2", "7", "8":
		return true
	}
	return false
}
