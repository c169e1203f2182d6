// Package checkpoint is the signed state of a log, and the cosignatures of those who
// have seen it.
//
// A checkpoint is a signed note in the form of C2SP tlog-checkpoint:
//
//	rendezvous.example/audit/00112233445566778899aabbccddeeff
//	42
//	2vKQ…base64 of the root…=
//
//	— rendezvous.example/audit/00112233445566778899aabbccddeeff <base64 of key hash ‖ Ed25519 signature>
//
// The first line is the origin and the name of the key (note algorithm 1).
//
// Source: protocol 5.1.
package checkpoint

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// MaxNote caps a signed checkpoint in bytes: three short lines, the log's signature
// and MaxCosigners others. Our choice.
const MaxNote = 8 << 10

// maxOrigin caps the name of a log in bytes: a host name and what Origin adds.
const maxOrigin = 300

// Checkpoint is one state of a log.
type Checkpoint struct {
	Origin    string // name of the log, as Origin makes it
	tree.Head        // size and root
}

// Origin names the log of one team on one rendezvous (protocol 5.1). server is
// the rendezvous' name in the roster.
func Origin(server string, team wire.TeamID) string {
	return server + "/audit/" + team.String()
}

// text is the note's text, tlog-checkpoint without extension lines.
func (c Checkpoint) text() string {
	return c.Origin + "\n" + strconv.FormatInt(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
}

// parse reads what text wrote and nothing else.
func parse(text string) (Checkpoint, error) {
	bad := refusal.New(refusal.BadStatement, "not a checkpoint")
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) != 4 {
		return Checkpoint{}, bad
	}
	c := Checkpoint{Origin: lines[0]}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != len(c.Root) {
		return Checkpoint{}, bad
	}
	copy(c.Root[:], root)
	if c.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.Size < 1 || c.Size > tree.MaxSize || c.text() != text {
		return Checkpoint{}, bad
	}
	return c, nil
}

// ValidOrigin reports whether origin can be the name of a note's key.
func ValidOrigin(origin string) bool {
	return origin != "" && len(origin) <= maxOrigin && utf8.ValidString(origin) &&
		!strings.ContainsFunc(origin, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '+' })
}

// noteKeyHash is the key hash of the signed-note format for Ed25519, algorithm 1:
// the first four bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ key).
func noteKeyHash(name string, p key.Public[key.Audit]) uint32 {
	b := append([]byte(name), '\n', 1)
	h := sha256.Sum256(append(b, p.Bytes()...))
	return binary.BigEndian.Uint32(h[:4])
}

// noteSigner signs notes with an audit key. Notes and statements cannot be
// confused although one key signs both: a note's text has no bytes below 0x20
// but newlines, and what a statement signs has zero bytes right after its label.
type noteSigner struct {
	name string
	key  key.Private[key.Audit]
}

// Name, KeyHash and Sign implement note.Signer.
func (s noteSigner) Name() string { return s.name }

// KeyHash is the short name of the key in a signature line.
func (s noteSigner) KeyHash() uint32 { return noteKeyHash(s.name, s.key.Public()) }

// Sign signs a note's text; it cannot fail.
func (s noteSigner) Sign(msg []byte) ([]byte, error) { return s.key.Sign(msg), nil }

type noteVerifier struct {
	name string
	key  key.Public[key.Audit]
}

// Name, KeyHash and Verify implement note.Verifier.
func (v noteVerifier) Name() string { return v.name }

// KeyHash is the short name of the key in a signature line.
func (v noteVerifier) KeyHash() uint32 { return noteKeyHash(v.name, v.key) }

// Verify reports whether sig is the key's signature of a note's text.
func (v noteVerifier) Verify(msg, sig []byte) bool { return v.key.Verify(msg, sig) }

// Sign returns c as a signed note of the log's own key.
func Sign(c Checkpoint, k key.Private[key.Audit]) (string, error) {
	msg, err := note.Sign(&note.Note{Text: c.text()}, noteSigner{c.Origin, k})
	if err != nil {
		return "", fmt.Errorf("signing a checkpoint: %v", err)
	}
	return string(msg), nil
}

// Open verifies a signed checkpoint of the log origin under one of
// keys and returns it with the key that signed. Signatures of others are
// ignored, a wrong one of a known key is not.
func Open(signed, origin string, keys ...key.Public[key.Audit]) (Checkpoint, key.ID, error) {
	refused := refusal.New(refusal.BadSignature, "signature of a checkpoint")
	if len(signed) > MaxNote || !ValidOrigin(origin) {
		return Checkpoint{}, key.ID{}, refused
	}
	known := verifiers{origin: origin, keys: keys}
	n, err := note.Open([]byte(signed), known)
	if err != nil || len(n.Sigs) == 0 {
		return Checkpoint{}, key.ID{}, refused
	}
	for _, s := range n.Sigs { // the library is lenient about the last character
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return Checkpoint{}, key.ID{}, refused
		}
	}
	c, err := parse(n.Text)
	if err != nil {
		return Checkpoint{}, key.ID{}, err
	}
	if c.Origin != origin {
		return Checkpoint{}, key.ID{}, refusal.New(refusal.WrongTeam, "checkpoint of another log")
	}
	return c, known.find(n.Sigs[0].Hash).ID(), nil
}

// verifiers finds an audit key by the short hash in a note. Two keys with one
// hash would be ambiguous to the library; the first is taken and the other's
// signatures fail, which is the safe side.
type verifiers struct {
	origin string
	keys   []key.Public[key.Audit]
}

func (v verifiers) find(hash uint32) key.Public[key.Audit] {
	for _, k := range v.keys {
		if !k.IsZero() && noteKeyHash(v.origin, k) == hash {
			return k
		}
	}
	return key.Public[key.Audit]{}
}

// Verifier implements note.Verifiers.
func (v verifiers) Verifier(name string, hash uint32) (note.Verifier, error) {
	k := v.find(hash)
	if name != v.origin || k.IsZero() {
		return nil, &note.UnknownVerifierError{Name: name, KeyHash: hash}
	}
	return noteVerifier{name, k}, nil
}

// Peek reads a note without verifying it: to place it, or because it was verified
// before it was stored.
func Peek(signed string) (Checkpoint, error) {
	text, _, found := strings.Cut(signed, "\n\n")
	if !found {
		return Checkpoint{}, refusal.New(refusal.BadStatement, "not a checkpoint")
	}
	return parse(text + "\n")
}
