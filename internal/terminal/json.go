package terminal

import (
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"
)

// JSON returns a writer of JSON to w that nobody who reads it on a terminal is commanded
// or deceived by: what Escape would not let through stands as \uXXXX, which every reader of
// JSON takes for the same text (attack J1). encoding/json escapes C0 alone. Each Write
// has to be of whole characters, as those of json.Encoder are, whose values are written
// at once.
func JSON(w io.Writer) io.Writer { return jsonWriter{w} }

type jsonWriter struct{ w io.Writer }

// Write implements io.Writer.
func (j jsonWriter) Write(b []byte) (int, error) {
	out := make([]byte, 0, len(b))
	for rest := b; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r < 0x7f || r != 0x7f && unicode.IsGraphic(r) && !unicode.IsSpace(r) && !hides(r):
			out = append(out, rest[:size]...)
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		rest = rest[size:]
	}
	if _, err := j.w.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}
