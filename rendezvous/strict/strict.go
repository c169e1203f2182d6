// Package strict reads JSON in the one way it can be read, and writes it in one.
package strict

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/sparse"
)

// Limits of a JSON body or frame; our choice. The deepest of our own has 6
// levels, the longest object 16 names.
const (
	maxDepth = 16
	maxNames = 64
	// maxElements bounds what all arrays of a body hold together. The longest of ours are
	// an update's cosignatures and a batch of entries, far below.
	maxElements = 4096
)

// Decode reads exactly one JSON value into the struct that into points to.
// Names that the struct does not have, a name that stands twice, also in another
// case, deeper nesting than ours and anything behind the value are refused: one
// text must have one reading, for us and for whoever looked at it before us
// (attacks K2, K12, C16). Signed statements inside are checked by their own,
// stricter rule when they are opened.
func Decode(data []byte, into any) error {
	if sparse.Elements(data) > maxElements {
		return refusal.New(refusal.BadRequest, "the body's arrays hold more than %d elements", maxElements)
	}
	if err := scan(data); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if dec.Decode(into) != nil {
		return refusal.New(refusal.BadRequest, "the body has a field that is unknown here or of the wrong kind")
	}
	return nil
}

// level is one open object or array of a scan.
type level struct {
	names map[string]bool // nil in an array
	value bool            // in an object: the next token is a value
}

// scan walks over data without building values, so its memory is bounded by
// maxDepth and maxNames whatever data holds.
func scan(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var open []level
	for first := true; first || len(open) > 0; first = false {
		tok, err := dec.Token()
		if err != nil {
			return refusal.New(refusal.BadRequest, "the body is not JSON")
		}
		if open, err = step(open, tok); err != nil {
			return err
		}
	}
	if len(bytes.TrimLeft(data[dec.InputOffset():], " \t\r\n")) > 0 {
		return refusal.New(refusal.BadRequest, "something follows the body's JSON value")
	}
	return nil
}

func step(open []level, tok json.Token) ([]level, error) {
	top := len(open) - 1
	switch t := tok.(type) {
	case json.Delim:
		if t == '}' || t == ']' {
			return open[:top], nil
		}
		if len(open) == maxDepth {
			return nil, refusal.New(refusal.BadRequest, "the body nests deeper than %d levels", maxDepth)
		}
		next := level{}
		if t == '{' {
			next.names = map[string]bool{}
		}
		if top >= 0 {
			open[top].value = false
		}
		return append(open, next), nil
	case string:
		if top >= 0 && open[top].names != nil && !open[top].value {
			return open, open[top].name(t)
		}
	}
	if top >= 0 {
		open[top].value = false
	}
	return open, nil
}

// name notes one name of an object.
func (l *level) name(s string) error {
	folded := strings.ToLower(s) // encoding/json matches names without regard to case
	if l.names[folded] {
		return refusal.New(refusal.BadRequest, "a field stands twice in the body")
	}
	if len(l.names) == maxNames {
		return refusal.New(refusal.BadRequest, "an object of the body has more than %d fields", maxNames)
	}
	l.names[folded] = true
	l.value = true
	return nil
}

// Encode is the JSON of v as statements spell it.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
