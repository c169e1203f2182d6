package kept

import (
	"bytes"
	"strings"
)

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

// shown are the control sequences that change the screen, the cursor or how text looks,
// and keys' encoding, by what stands before their numbers and between these and the last
// byte. All others are held back: those that are answered, or that print, are not all
// known (attack J2).
var shown = map[string]string{
	"":  "@ABCDEFGHIJKLMPSTXZ`abdefghlmrsu",
	"?": "hlJKrs",
	">": "mu",
	"<": "u",
	"=": "u",
	" ": "q", // the cursor's form
	"!": "p", // soft reset
}

func harmlessCSI(seq []byte) bool {
	if len(seq) == 0 {
		return false
	}
	args, last := seq[:len(seq)-1], seq[len(seq)-1]
	kind := bytes.TrimFunc(args, func(c rune) bool { return c >= '0' && c <= ';' })
	return strings.IndexByte(shown[string(kind)], last) >= 0
}

// harmlessOSC lets titles, folders and links through, and no colour: its question
// and its setting look alike. Nothing in one may be a control character, which some
// terminal obeys there.
func harmlessOSC(seq []byte) bool {
	number, text, _ := bytes.Cut(bytes.TrimSuffix(bytes.TrimSuffix(seq, []byte("\x1b\\")), []byte("\a")), []byte(";"))
	if bytes.ContainsFunc(text, func(c rune) bool { return c < 0x20 || c >= 0x7f && c < 0xa0 }) {
		return false
	}
	switch string(number) {
	case "0", "1", "2", "7", "8":
		return true
	}
	return false
}
