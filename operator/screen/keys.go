package screen

import "unicode/utf8"

type keyKind uint8

const (
	letterKey keyKind = iota
	backspaceKey
	leftKey
	rightKey
	enterKey // also what throws a line away: the next input begins elsewhere
	otherKey
)

type key struct {
	kind keyKind
	r    rune
}

// maxTyped is the longest piece of input that a person types at once; longer is
// pasted, and what a program makes of that is not predicted. Our choice.
const maxTyped = 64

// keys cuts typed bytes into keys. A key may be cut by the border of two reads.
type keys struct {
	part []byte
}

// next takes one byte and says which key it completes, if any.
func (k *keys) next(b byte) (key, bool) {
	if len(k.part) == 0 {
		switch {
		case b == esc || b >= 0x80:
			k.part = append(k.part, b)
			if b == esc || !utf8.FullRune(k.part) {
				return key{}, false
			}
			k.part = k.part[:0]
			return key{kind: otherKey}, true
		case b == del || b == '\b':
			return key{kind: backspaceKey}, true
		case b == '\r' || b == '\n' || b == 3 || b == 4:
			return key{kind: enterKey}, true
		case b < 0x20:
			return key{kind: otherKey}, true
		}
		return key{kind: letterKey, r: rune(b)}, true
	}
	k.part = append(k.part, b)
	if k.part[0] == esc {
		return k.escape(b)
	}
	if !utf8.FullRune(k.part) {
		return key{}, false
	}
	r, n := utf8.DecodeRune(k.part)
	broken := r == utf8.RuneError || n < len(k.part)
	k.part = k.part[:0]
	if broken {
		return key{kind: otherKey}, true
	}
	return key{kind: letterKey, r: r}, true
}

// escape completes sequences: ESC [ or ESC O, parameters, a final byte; or ESC
// and one byte, which is a key with Alt.
func (k *keys) escape(b byte) (key, bool) {
	n := len(k.part)
	if n == 2 && (b == '[' || b == 'O') || n > 2 && n < maxParams && b >= 0x20 && b < 0x40 {
		return key{}, false
	}
	bare := n == 3
	k.part = k.part[:0]
	switch {
	case bare && b == 'C':
		return key{kind: rightKey}, true
	case bare && b == 'D':
		return key{kind: leftKey}, true
	}
	return key{kind: otherKey}, true
}
