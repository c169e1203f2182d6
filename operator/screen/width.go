package screen

import (
	"unicode"

	"golang.org/x/text/width"
)

// doubtful is the width of characters whose width terminals disagree on.
const doubtful = -1

// cellsOf is how many cells a character takes: 0 for one that joins the letter
// before it, 1, 2, or doubtful. Emoji, joiners and selectors are doubtful: what
// a sequence of them takes depends on the terminal and its version.
func cellsOf(r rune) int {
	switch {
	case r >= 0x20 && r < 0x7f || r >= 0xa1 && r <= 0xff && r != 0xad:
		return 1
	case r >= 0x100 && r < 0x300 || r >= 0x400 && r < 0x483 || r >= 0x2500 && r < 0x25a0: // the common ones first
		return 1
	case r >= 0x4e00 && r < 0x9fff || r >= 0xac00 && r < 0xd7a3 || r >= 0x3041 && r < 0x3097 || r >= 0x30a1 && r < 0x30fb:
		return 2
	case r < 0xa0 || r == 0xad || r == unicode.ReplacementChar:
		return doubtful
	case r >= 0x2e80 && r <= 0x303e || r >= 0x3041 && r <= 0x33ff || r >= 0x3400 && r <= 0x9fff && (r < 0x4dc0 || r > 0x4dff) ||
		r >= 0xac00 && r <= 0xd7a3 || r >= 0xf900 && r <= 0xfaff || r >= 0xff01 && r <= 0xff60 || r >= 0x20000 && r <= 0x2fffd:
		return wideOr(r)
	case r >= 0x1100 && r <= 0x11ff || r >= 0xa960 && r <= 0xa97f || r >= 0xd7b0 && r <= 0xd7ff: // jamo that combine
		return doubtful
	case unicode.Is(unicode.Variation_Selector, r) || unicode.Is(unicode.Cf, r):
		return doubtful
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case r >= 0xe000 && r <= 0xf8ff: // private use: the signs of prompts
		return 1
	case r > 0xffff && r < 0x20000 && !unicode.IsLetter(r): // emoji and other pictures
		return doubtful
	case !unicode.IsGraphic(r):
		return doubtful
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth: // pictures that some draw wide
		return doubtful
	}
	return 1
}

// wideOr is for the scripts of wide letters, which also hold a few others.
func wideOr(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Mc) || !unicode.IsGraphic(r) {
		return doubtful
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return doubtful
}
