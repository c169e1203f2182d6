package rendezvous

import (
	"strings"
	"unicode"
)

// maxDetail bounds an agent's words that are passed on to an operator, in bytes; our
// choice.
const maxDetail = 1024

// harmless cuts an agent's words and takes out whatever could steer a terminal.
func harmless(s string) string {
	if len(s) > maxDetail {
		s = s[:maxDetail]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
