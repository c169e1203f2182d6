// Package wire is what TucDesk's programs say to the rendezvous server and, by
// way of it, to each other: the signed statements of a session and the messages
// of the API and the control channel. It is the contract alone, readable
// without either side: no transport, no checks beyond decoding.
//
// The server may see all of this. What only the two ends may see (M1 and M2 of
// the handshake, session data) passes here as opaque Bytes.
//
// Text forms: identifiers are lower-case hex, byte strings base64url without
// padding, times milliseconds since 1970 UTC. Statement payloads follow the
// rules of package statement: one struct, one encoding.
//
// Source: protocol 2.3, 2.11, 3.2, 4.2.
package wire

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"time"
)

// TeamID names a team: 128 random bits, chosen by its first owner.
type TeamID [16]byte

// SessionID names a session: 128 random bits, chosen by the operator.
type SessionID [16]byte

// Nonce makes a statement unique ("jti"): 128 random bits.
type Nonce [16]byte

// NewTeamID draws a team id.
func NewTeamID() TeamID { return TeamID(random16()) }

// NewSessionID draws a session id.
func NewSessionID() SessionID { return SessionID(random16()) }

// NewNonce draws a nonce.
func NewNonce() Nonce { return Nonce(random16()) }

func random16() (b [16]byte) {
	rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return b
}

// String returns 32 hex digits.
func (t TeamID) String() string { return hex.EncodeToString(t[:]) }

// MarshalText returns 32 hex digits.
func (t TeamID) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads 32 lower-case hex digits.
func (t *TeamID) UnmarshalText(text []byte) error { return unhex16((*[16]byte)(t), text) }

// String returns 32 hex digits.
func (s SessionID) String() string { return hex.EncodeToString(s[:]) }

// MarshalText returns 32 hex digits.
func (s SessionID) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads 32 lower-case hex digits.
func (s *SessionID) UnmarshalText(text []byte) error { return unhex16((*[16]byte)(s), text) }

// String returns 32 hex digits.
func (n Nonce) String() string { return hex.EncodeToString(n[:]) }

// MarshalText returns 32 hex digits.
func (n Nonce) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads 32 lower-case hex digits.
func (n *Nonce) UnmarshalText(text []byte) error { return unhex16((*[16]byte)(n), text) }

func unhex16(dst *[16]byte, text []byte) error {
	if len(text) != 32 {
		return fmt.Errorf("reading an identifier: want 32 lower-case hex digits")
	}
	for _, c := range text {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("reading an identifier: want 32 lower-case hex digits")
		}
	}
	_, err := hex.Decode(dst[:], text)
	return err
}

// Bytes is a byte string that need not be text: an argument, a message of the
// handshake. It encodes as base64url; nil encodes as the empty string.
type Bytes []byte

// MarshalText returns base64url without padding.
func (b Bytes) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText reads base64url without padding in its one spelling. The decoder
// skips line ends even when strict, so the length is compared too.
func (b *Bytes) UnmarshalText(text []byte) error {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(string(text))
	if err != nil || base64.RawURLEncoding.EncodedLen(len(raw)) != len(text) {
		return fmt.Errorf("reading a byte string: not base64url")
	}
	*b = raw
	return nil
}

// Millis is a time in milliseconds since 1970 UTC.
type Millis int64

// At converts a time, dropping what is below a millisecond.
func At(t time.Time) Millis { return Millis(t.UnixMilli()) }

// Time converts back, in UTC.
func (m Millis) Time() time.Time { return time.UnixMilli(int64(m)).UTC() }
