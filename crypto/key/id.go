package key

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// ID names a key: SHA-256 of the raw public key (protocol 2.1, "kid"). Its text
// form is 64 lower-case hex digits and nothing else parses.
type ID [32]byte

// Hash is a SHA-256 value that is signed or compared somewhere: of a request, a
// roster, a policy. Its text form is that of ID.
type Hash = ID

// ParseID reads the text form.
func ParseID(s string) (id ID, err error) {
	// Not in one return: the language leaves open whether id is read before the call.
	err = id.UnmarshalText([]byte(s))
	return id, err
}

// IsZero reports whether id is all zero, which names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// String returns 64 hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText returns the text form.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the text form; upper case is refused, because one value
// must have one spelling.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) != 2*len(id) || strings.ToLower(string(text)) != string(text) {
		return fmt.Errorf("reading a key id: want %d lower-case hex digits", 2*len(id))
	}
	var raw ID
	if _, err := hex.Decode(raw[:], text); err != nil {
		return fmt.Errorf("reading a key id: want %d lower-case hex digits", 2*len(id))
	}
	*id = raw
	return nil
}

// crockford has no I, L, O or U: people read short codes aloud.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// ShortCode returns the first 60 bits as "XXXX-XXXX-XXXX" for two people to
// compare out of band (protocol 3.5). 60 bits: finding a second key with the
// same code costs about 2^60 key generations.
func (id ID) ShortCode() string {
	var bits uint64
	for _, b := range id[:8] {
		bits = bits<<8 | uint64(b)
	}
	var s strings.Builder
	for i := range 12 {
		if i > 0 && i%4 == 0 {
			s.WriteByte('-')
		}
		s.WriteByte(crockford[bits>>(59-5*i)&31])
	}
	return s.String()
}
