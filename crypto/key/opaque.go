package key

import (
	"fmt"
	"io"
	"log/slog"
)

const placeholder = "[private key]"

// String returns a placeholder.
func (p Private[R]) String() string { return placeholder }

// GoString returns a placeholder: %#v would otherwise walk the fields.
func (p Private[R]) GoString() string { return placeholder }

// Format writes a placeholder for every verb.
func (p Private[R]) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, placeholder) }

// LogValue is a placeholder for slog.
func (p Private[R]) LogValue() slog.Value { return slog.StringValue(placeholder) }

// MarshalText returns a placeholder, which also serves JSON and XML. Nothing
// decodes a private key from text, so a round trip cannot go unnoticed.
func (p Private[R]) MarshalText() ([]byte, error) { return []byte(placeholder), nil }

// MarshalBinary returns a placeholder, which also serves gob.
func (p Private[R]) MarshalBinary() ([]byte, error) { return []byte(placeholder), nil }
