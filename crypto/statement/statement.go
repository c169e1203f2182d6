// Package statement is the one signed envelope: everything that is signed in
// TucDesk, except JWTs and the handshake transcript, has this form.
//
//	envelope  = {"payload":"<base64url>","type":"tucdesk/<name>/v1","kid":"<64 hex>","sig":"<base64url>"}
//	sig       = Ed25519(key kid, PAE(type, payload))
//	PAE(t, p) = "tucdesk-statement-v1" ‖ uint64(len t) ‖ t ‖ uint64(len p) ‖ p       (big-endian)
//	hash      = SHA-256(PAE(type, payload))
//
// Each part is preceded by its length, so no two (type, payload) pairs share a
// signed text, and the type is in it, so a proof never passes as an approval.
// The signature covers the payload bytes as received; only after it verified is
// the payload decoded, encoded again and compared. That one comparison refuses
// duplicate keys, case variants, unknown fields, odd numbers, invalid UTF-8 and
// trailing data, all of which encoding/json accepts. The envelope is read the
// same way, so a statement has exactly one spelling.
//
// Source: protocol 4.1.
package statement

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/sparse"
)

// Kind is what a payload type says about its statements.
type Kind struct {
	Type    string // "tucdesk/<name>/v1"
	MaxSize int    // bytes of the decoded payload, at most
}

// Payload is a struct that can be signed. Its JSON encoding must be canonical:
// no maps, no interfaces, no floats, no omitempty on values that may be set to
// their zero, no custom encoder that accepts two spellings.
type Payload interface{ Kind() Kind }

// Signed is an envelope as it travels. It is bytes on purpose: what is stored,
// hashed and sent is what was signed, never a copy encoded anew.
type Signed []byte

// MarshalJSON embeds the envelope as it is.
func (s Signed) MarshalJSON() ([]byte, error) {
	if len(s) == 0 {
		return []byte("null"), nil
	}
	return s, nil
}

// UnmarshalJSON takes the envelope as it is; Open is what checks it.
func (s *Signed) UnmarshalJSON(raw []byte) error {
	if bytes.Equal(raw, []byte("null")) {
		*s = nil
		return nil
	}
	*s = append((*s)[:0:0], raw...)
	return nil
}

// Signer is a private key of any role.
type Signer interface {
	ID() key.ID
	Sign(message []byte) []byte
}

// Verifier is a public key of any role.
type Verifier interface {
	ID() key.ID
	Verify(message, sig []byte) bool
}

type envelope struct {
	Payload string `json:"payload"`
	Type    string `json:"type"`
	Kid     key.ID `json:"kid"`
	Sig     string `json:"sig"`
}

// Sign encodes p and signs it. The caller decides that signer's role may say p.
func Sign[P Payload](signer Signer, p P) (Signed, error) {
	kind := p.Kind()
	payload, err := encode(p)
	if err != nil {
		return nil, fmt.Errorf("signing a %q statement: %v", kind.Type, err)
	}
	if len(payload) > kind.MaxSize {
		return nil, refusal.New(refusal.TooLarge, "a %q statement of %d bytes; at most %d", kind.Type, len(payload), kind.MaxSize)
	}
	e := envelope{Payload: base64.RawURLEncoding.EncodeToString(payload), Type: kind.Type, Kid: signer.ID()}
	e.Sig = base64.RawURLEncoding.EncodeToString(signer.Sign(preAuth(kind.Type, payload)))
	return encode(e)
}

// Open verifies s and returns what it says and who said it. find returns the
// key that may make such a statement, or why there is none; Open passes its
// error on, so the named refusal (unknown_key, key_revoked, wrong_role) is the
// finder's. Nothing of the payload is looked at before the signature verified.
func Open[P Payload](s Signed, find func(key.ID) (Verifier, error)) (P, key.ID, error) {
	var zero P
	e, payload, err := split(s, zero.Kind())
	if err != nil {
		return zero, key.ID{}, err
	}
	v, err := find(e.Kid)
	if err != nil {
		return zero, key.ID{}, err
	}
	if err := check(e, payload, v); err != nil {
		return zero, key.ID{}, err
	}
	p, err := decode[P](payload)
	return p, e.Kid, err
}

// OpenSelfSigned is Open for a statement that brings its own key, which only
// the team root and an agent's first registration do. The caller must pin the
// result by other means: for the root, its Hash is the team fingerprint.
func OpenSelfSigned[P Payload](s Signed, find func(P, key.ID) (Verifier, error)) (P, key.ID, error) {
	var zero P
	e, payload, err := split(s, zero.Kind())
	if err != nil {
		return zero, key.ID{}, err
	}
	p, err := decode[P](payload)
	if err != nil {
		return zero, key.ID{}, err
	}
	v, err := find(p, e.Kid)
	if err != nil {
		return zero, key.ID{}, err
	}
	if err := check(e, payload, v); err != nil {
		return zero, key.ID{}, err
	}
	return p, e.Kid, nil
}

// Hash identifies what s says, SHA-256 over the bytes that were signed. It does
// not cover the signature and is zero when s is not an envelope.
func (s Signed) Hash() key.Hash {
	e, payload, err := read(s)
	if err != nil {
		return key.Hash{}
	}
	return sha256.Sum256(preAuth(e.Type, payload))
}

// Kid returns who claims to have signed s, unverified, for routing and limits.
func (s Signed) Kid() (key.ID, error) {
	e, _, err := read(s)
	return e.Kid, err
}

// Cosignature is one more signature over the same statement, for rosters that
// need several owners.
type Cosignature struct {
	Kid key.ID `json:"kid"`
	Sig string `json:"sig"`
}

// Cosign signs what s says with another key.
func Cosign(signer Signer, s Signed) (Cosignature, error) {
	e, payload, err := read(s)
	if err != nil {
		return Cosignature{}, err
	}
	sig := signer.Sign(preAuth(e.Type, payload))
	return Cosignature{Kid: signer.ID(), Sig: base64.RawURLEncoding.EncodeToString(sig)}, nil
}

// CheckCosignature verifies c over what s says.
func CheckCosignature(s Signed, c Cosignature, v Verifier) error {
	e, payload, err := read(s)
	if err != nil {
		return err
	}
	e.Kid, e.Sig = c.Kid, c.Sig
	return check(e, payload, v)
}

// split reads the envelope, and refuses other kinds and sizes before any
// expensive step.
func split(s Signed, kind Kind) (envelope, []byte, error) {
	if len(s) > kind.MaxSize*4/3+envelopeOverhead {
		return envelope{}, nil, refusal.New(refusal.TooLarge, "statement of %d bytes", len(s))
	}
	e, payload, err := read(s)
	if err != nil {
		return envelope{}, nil, err
	}
	if e.Type != kind.Type {
		return envelope{}, nil, refusal.New(refusal.WrongType, "want a %q statement", kind.Type)
	}
	if len(payload) > kind.MaxSize {
		return envelope{}, nil, refusal.New(refusal.TooLarge, "a %q statement of %d bytes; at most %d", kind.Type, len(payload), kind.MaxSize)
	}
	return e, payload, nil
}

// envelopeOverhead covers names, punctuation, type, kid and signature.
const envelopeOverhead = 512

func read(s Signed) (envelope, []byte, error) {
	var e envelope
	if json.Unmarshal(s, &e) != nil {
		return envelope{}, nil, refusal.New(refusal.BadStatement, "not an envelope")
	}
	again, err := encode(e)
	if err != nil || !bytes.Equal(again, s) {
		return envelope{}, nil, refusal.New(refusal.BadStatement, "envelope is not in its one encoding")
	}
	payload, ok := decode64(e.Payload)
	if !ok {
		return envelope{}, nil, refusal.New(refusal.BadStatement, "payload is not base64url")
	}
	return e, payload, nil
}

// decode64 takes the one spelling only: the decoder skips line ends even when it
// is strict, which would give a signed statement a second form and a second
// chance in whatever remembers forms.
func decode64(s string) ([]byte, bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return raw, err == nil && base64.RawURLEncoding.EncodeToString(raw) == s
}

func check(e envelope, payload []byte, v Verifier) error {
	sig, ok := decode64(e.Sig)
	if !ok || v == nil || v.ID() != e.Kid || !v.Verify(preAuth(e.Type, payload), sig) {
		return refusal.New(refusal.BadSignature, "signature of a %q statement", e.Type)
	}
	return nil
}

// someElements is how many elements of lists in a payload may be of any size: an argument
// vector has 4,096. See package sparse; anybody can sign.
const someElements = 4096 + 64

func decode[P Payload](payload []byte) (P, error) {
	var p, zero P
	if !sparse.Lists(payload, someElements) {
		return zero, refusal.New(refusal.TooLarge, "a %q statement has more elements in its lists than its size can have", zero.Kind().Type)
	}
	switch err := json.Unmarshal(payload, &p); {
	case refusal.Of(err) == refusal.WeakKey: // enrolling such a key is an attack with a name (B14)
		return zero, err
	case err != nil:
		return zero, refusal.New(refusal.BadStatement, "payload of a %q statement", zero.Kind().Type)
	}
	again, err := encode(p)
	if err != nil || !bytes.Equal(again, payload) {
		return zero, refusal.New(refusal.BadStatement, "payload of a %q statement is not in its one encoding", zero.Kind().Type)
	}
	return p, nil
}

// encode is the one JSON encoder. HTML escaping is off: it would only give a
// second spelling to '<', '>' and '&'.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

const preAuthLabel = "tucdesk-statement-v1"

func preAuth(typ string, payload []byte) []byte {
	b := make([]byte, 0, len(preAuthLabel)+8+len(typ)+8+len(payload))
	b = append(b, preAuthLabel...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(typ)))
	b = append(b, typ...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(payload)))
	return append(b, payload...)
}
