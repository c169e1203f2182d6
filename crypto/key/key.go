// Package key holds the long-term Ed25519 keys, one type for each role.
//
// A role is a type parameter, so an owner's key cannot be handed to a function
// that wants an agent's: the mistake behind several authentication bypasses in
// remote-access products does not compile here. Private keys never print, never
// encode and never compare; the only way for one to leave the process is
// WriteSeed, which exists for the file that holds the identity.
//
//	kid(pk)     = SHA-256(pk), 32 bytes, written as 64 lower-case hex digits
//	public text = "tucdesk-<role>-pub:" base64url(pk), no padding, 43 characters
//	short code  = first 60 bits of kid as three groups of four Crockford base32 digits
//
// Source: protocol 2.1 (kid), 2.9 (hygiene), 3.5 (short code).
package key

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// The roles. A key of one role signs only what that role may say.
type (
	// Owner signs rosters and nothing else.
	Owner struct{}
	// Enroller signs join tokens.
	Enroller struct{}
	// Token is the key that a join token carries; it signs agent certificates.
	Token struct{}
	// Operator signs session requests, proofs, approvals, handshakes and
	// cosignatures of checkpoints.
	Operator struct{}
	// Agent signs registrations, handshakes, its own audit entries and
	// cosignatures of checkpoints.
	Agent struct{}
	// Access signs the rendezvous' JWTs.
	Access struct{}
	// Grant signs the rendezvous' grants.
	Grant struct{}
	// Audit signs the rendezvous' log entries and checkpoints.
	Audit struct{}
)

// Role is the closed set of roles.
type Role interface {
	Owner | Enroller | Token | Operator | Agent | Access | Grant | Audit
}

// roleName is part of the text form, so text of one role does not parse as another's.
func roleName[R Role]() string {
	var r R
	switch any(r).(type) {
	case Owner:
		return "owner"
	case Enroller:
		return "enroller"
	case Token:
		return "token"
	case Operator:
		return "operator"
	case Agent:
		return "agent"
	case Access:
		return "access"
	case Grant:
		return "grant"
	case Audit:
		return "audit"
	}
	panic("key: internal error: role without a name")
}

// SeedSize is the length of a private key's seed in bytes (RFC 8032).
const SeedSize = ed25519.SeedSize

// SignatureSize is the length of a signature in bytes (RFC 8032).
const SignatureSize = ed25519.SignatureSize

// Public is the public half of a key in role R. The zero value is no key:
// IsZero reports it and it verifies nothing. Publics are comparable.
type Public[R Role] struct{ b [ed25519.PublicKeySize]byte }

// PublicFromBytes checks and takes 32 raw bytes. Keys that are not canonically
// encoded or have small order are refused with refusal.WeakKey: the standard
// library would accept signatures under them that several messages share.
func PublicFromBytes[R Role](raw []byte) (Public[R], error) {
	var p Public[R]
	if len(raw) != len(p.b) {
		return p, refusal.New(refusal.WeakKey, "%s key is %d bytes long, not %d", roleName[R](), len(raw), len(p.b))
	}
	copy(p.b[:], raw)
	if !canonical(&p.b) || smallOrder(&p.b) {
		return Public[R]{}, refusal.New(refusal.WeakKey, "%s key is not canonical or has small order", roleName[R]())
	}
	return p, nil
}

// ParsePublic reads the text form, of this role only.
func ParsePublic[R Role](s string) (Public[R], error) {
	rest, ok := strings.CutPrefix(s, prefix[R]())
	if !ok {
		return Public[R]{}, refusal.New(refusal.WrongRole, "not a public key of role %s", roleName[R]())
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	// The decoder skips line ends even when strict, so compare the spelling too.
	if err != nil || base64.RawURLEncoding.EncodeToString(raw) != rest {
		return Public[R]{}, refusal.New(refusal.BadStatement, "public key of role %s: not base64url", roleName[R]())
	}
	return PublicFromBytes[R](raw)
}

func prefix[R Role]() string { return "tucdesk-" + roleName[R]() + "-pub:" }

// Bytes returns a copy of the 32 raw bytes.
func (p Public[R]) Bytes() []byte { return append([]byte(nil), p.b[:]...) }

// IsZero reports whether p is the zero value.
func (p Public[R]) IsZero() bool { return p == Public[R]{} }

// ID returns the key id, SHA-256 of the raw key (protocol 2.1).
func (p Public[R]) ID() ID { return sha256.Sum256(p.b[:]) }

// Verify reports whether sig is p's Ed25519 signature of message.
func (p Public[R]) Verify(message, sig []byte) bool {
	return !p.IsZero() && len(sig) == SignatureSize && ed25519.Verify(p.b[:], message, sig)
}

// String returns the text form; a public key is not a secret.
func (p Public[R]) String() string {
	return prefix[R]() + base64.RawURLEncoding.EncodeToString(p.b[:])
}

// MarshalText returns the text form; the zero key is an error, so that a
// forgotten field cannot be signed.
func (p Public[R]) MarshalText() ([]byte, error) {
	if p.IsZero() {
		return nil, fmt.Errorf("encoding a public key of role %s: key is missing", roleName[R]())
	}
	return []byte(p.String()), nil
}

// UnmarshalText reads the text form with the checks of ParsePublic.
func (p *Public[R]) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePublic[R](string(text))
	return err
}

// Private is the private half of a key in role R. It is not comparable and has
// no encoding; see the package comment.
type Private[R Role] struct {
	// k is a function because fmt walks the unexported fields of whatever struct
	// holds this one without asking our methods: it prints slices, and with some
	// verbs what pointers point to, but it cannot look into a function. It also
	// makes keys incomparable, and comparing secrets is always a bug.
	k func() ed25519.PrivateKey
}

func newPrivate[R Role](k ed25519.PrivateKey) Private[R] {
	return Private[R]{k: func() ed25519.PrivateKey { return k }}
}

// Generate makes a new key from the system's randomness.
func Generate[R Role]() (Private[R], error) {
	_, k, err := ed25519.GenerateKey(nil)
	if err != nil {
		return Private[R]{}, fmt.Errorf("generating a key of role %s: %v", roleName[R](), err)
	}
	return newPrivate[R](k), nil
}

// FromSeed makes the key of a 32-byte seed. The caller still owns seed and
// should clear it.
func FromSeed[R Role](seed []byte) (Private[R], error) {
	if len(seed) != SeedSize {
		return Private[R]{}, fmt.Errorf("making a key of role %s: seed is %d bytes long, not %d", roleName[R](), len(seed), SeedSize)
	}
	return newPrivate[R](ed25519.NewKeyFromSeed(seed)), nil
}

// WriteSeed writes the 32 raw bytes of the seed. It is the one exit of a
// private key and exists for the identity file and the join token; the writer
// must be neither a log nor a network connection.
func (p Private[R]) WriteSeed(w io.Writer) error {
	if p.IsZero() {
		return fmt.Errorf("writing a key of role %s: key is missing", roleName[R]())
	}
	seed := p.k().Seed()
	defer clear(seed)
	_, err := w.Write(seed)
	return err
}

// IsZero reports whether p holds no key.
func (p Private[R]) IsZero() bool { return p.k == nil }

// Public returns the public half; of no key, the zero value.
func (p Private[R]) Public() Public[R] {
	var pub Public[R]
	if p.IsZero() {
		return pub
	}
	copy(pub.b[:], p.k().Public().(ed25519.PublicKey))
	return pub
}

// ID returns the key id of the public half.
func (p Private[R]) ID() ID { return p.Public().ID() }

// Sign returns the Ed25519 signature of message. Only statement, handshake and
// internal/audit/checkpoint call it. The texts of each begin in a way of their own
// (protocol 5.3), so that a signature made for one use is never valid for another. Signing without a key is a fault of the program and
// panics.
func (p Private[R]) Sign(message []byte) []byte {
	if p.IsZero() {
		panic("key: internal error: signing without a key of role " + roleName[R]())
	}
	return ed25519.Sign(p.k(), message)
}
