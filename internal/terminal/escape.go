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
// as \\, so that no two different inputs look alike. Letters of any script stay
// readable; Suspicious tells of those that merely look like others.
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

// Quote shows one argument of a command so that its borders are visible: plain
// words stay as they are, everything else is in single quotes, escaped inside.
func Quote(arg []byte) string {
	plain := len(arg) > 0
	for _, c := range arg {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@%+,", rune(c)) {
			plain = false
		}
	}
	if plain {
		return string(arg)
	}
	return "'" + strings.ReplaceAll(Escape(arg), "'", `\'`) + "'"
}

// Suspicious says why text that a person is about to approve may not be what
// it looks like, or "" when nothing speaks against it.
func Suspicious(in []byte) string {
	switch {
	case !utf8.Valid(in):
		return "contains bytes that are not text"
	case strings.ContainsFunc(string(in), func(r rune) bool { return r != '\\' && Escape(string(r)) != string(r) }):
		return "contains control or invisible characters"
	case mixesScripts(string(in)):
		return "mixes Latin letters with look-alikes of another alphabet"
	}
	return ""
}

func mixesScripts(s string) bool {
	latin := strings.ContainsFunc(s, func(r rune) bool { return unicode.Is(unicode.Latin, r) })
	other := strings.ContainsFunc(s, func(r rune) bool {
		return unicode.In(r, unicode.Cyrillic, unicode.Greek, unicode.Armenian, unicode.Cherokee) || r >= 0xff01 && r <= 0xff5e
	})
	return latin && other
}
