package rendezvous

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// encode is the JSON of frames, as statements spell it.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Limits on an agent's words that are passed on to an operator; our choice.
const (
	maxCode   = 64   // bytes
	maxDetail = 1024 // bytes
)

// plainCode reports whether a code from a peer looks like one. Unknown ones pass:
// the agent may be newer than we are.
func plainCode(c refusal.Code) bool {
	for _, b := range []byte(c) {
		if (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '_' {
			return false
		}
	}
	return len(c) > 0 && len(c) <= maxCode
}

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
