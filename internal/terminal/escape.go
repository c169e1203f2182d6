// Package terminal is the edge between our programs and the terminal they run
// in: whether there is one, its size, raw mode, prompts, and Escape, without
// which nothing that came from another machine may be shown.
package terminal

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape makes bytes from anywhere safe to show on a terminal and safe to
// judge by eye: a person who approves a command must see what will run.
// Control characters (escape sequences, clipboard writes, newlines), invalid
// UTF-8 and characters that hide or reorder text (bidirectional controls,
// zero-width, tags, unusual spaces) appear as \n, \x1b, \u202e, and a backslash
// as \\, so that no two different inputs are shown alike. Letters of any script stay
// readable, also those that merely look like others: for what is run there is Exact.
//
// Source: attacks E9, E10, J1, J5, J6.
func Escape[T ~string | ~[]byte](in T) string {
	var out strings.Builder
	for s := string(in); s != ""; {
		r, size := utf8.DecodeRuneInString(s)
		writeRune(&out, r, size, s[0])
		s = s[size:]
	}
	return out.String()
}

func writeRune(out *strings.Builder, r rune, size int, first byte) {
	switch {
	case r == utf8.RuneError && size == 1:
		fmt.Fprintf(out, `\x%02x`, first)
	case r == '\\':
		out.WriteString(`\\`)
	case r == '\n':
		out.WriteString(`\n`)
	case r == '\r':
		out.WriteString(`\r`)
	case r == '\t':
		out.WriteString(`\t`)
	case r < 0x80 && !unicode.IsPrint(r):
		fmt.Fprintf(out, `\x%02x`, r)
	case r == ' ' || unicode.IsGraphic(r) && !unicode.IsSpace(r) && !hides(r):
		out.WriteRune(r)
	case r > 0xffff:
		fmt.Fprintf(out, `\U%08x`, r)
	default:
		fmt.Fprintf(out, `\u%04x`, r)
	}
}

// hides reports characters that are graphic by category but show nothing, or
// attach themselves to what stands before them.
func hides(r rune) bool {
	return unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Me, r) ||
		unicode.Is(unicode.Variation_Selector, r) || r == 0x115f || r == 0x1160 || r == 0x3164 || r == 0xffa0 || r == 0x2800
}

// Exact is Escape in printable ASCII alone, with every other character as \u2010. It is for
// words that a machine acts on and a person judges: nothing in it passes for another letter,
// and none of the scripts that run to the left turns around what stands beside it.
//
// Source: attacks E9, J5.
func Exact[T ~string | ~[]byte](in T) string {
	var out strings.Builder
	for _, r := range Escape(in) {
		switch {
		case r > 0xffff:
			fmt.Fprintf(&out, `\U%08x`, r)
		case r > '~':
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

// Quote shows one argument of a command so that its borders are visible: plain
// words stay as they are, everything else is in single quotes, escaped inside.
func Quote(arg []byte) string { return quote(arg, Escape(arg)) }

// QuoteExact is Quote with what Exact makes of the argument.
func QuoteExact(arg []byte) string { return quote(arg, Exact(arg)) }

func quote(arg []byte, shown string) string {
	plain := len(arg) > 0
	for _, c := range arg {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@%+,", rune(c)) {
			plain = false
		}
	}
	if plain {
		return string(arg)
	}
	return "'" + strings.ReplaceAll(shown, "'", `\'`) + "'"
}

// Concealed says why text for people, as a reason is, may hold more than is seen of it, or
// "" when nothing speaks against it.
func Concealed(in []byte) string {
	switch {
	case !utf8.Valid(in):
		return "contains bytes that are not text"
	case strings.ContainsFunc(string(in), func(r rune) bool { return r != '\\' && Escape(string(r)) != string(r) }):
		return "contains control or invisible characters"
	}
	return ""
}

// Suspicious says why a word that a person is about to approve, and a machine to act on,
// may not be what it looks like, or "" when nothing speaks against it. Which letters look
// like which is a matter of the font, and there are thousands of pairs, within one script
// too (a hyphen of another kind before an option, ⅼ for l, ı for i): so all that is not
// ASCII is named, and whoever expects such a name goes on.
func Suspicious(in []byte) string {
	if why := Concealed(in); why != "" {
		return why
	}
	if strings.ContainsFunc(string(in), func(r rune) bool { return r > '~' }) {
		return "contains characters that can pass for others"
	}
	return ""
}
