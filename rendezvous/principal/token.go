package principal

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

const (
	// Lifetime is how long a token is good for; protocol 4.2 sets the limit.
	Lifetime = 15 * time.Minute

	// Leeway is how far the clocks of two of our own nodes may differ; our choice.
	Leeway = 5 * time.Second

	// MaxToken caps the text of a token in bytes, because the library decodes
	// all of it before it checks anything. Our choice; real ones have about 700.
	MaxToken = 4 << 10

	// tokenType keeps every other kind of JWT out (attack C11).
	tokenType = "tucdesk-access+jwt"

	audiencePrefix = "tucdesk-api:"
)

// Principal is a verified operator. Role, Email and Person are what the roster
// said when the token was minted: the roster of now decides, and the caller
// compares (attack C12).
type Principal struct {
	Team      TeamID
	Operator  key.ID // the key that proofs of this caller must be signed with
	Email     string
	Person    string
	Role      policy.Role
	ID        wire.Nonce  // of the token, by which it is ended
	ExpiresAt wire.Millis // of the token
}

// Issuer mints and verifies the tokens of one rendezvous. It is safe for
// concurrent use.
type Issuer struct {
	private key.Private[key.Access]
	kid     string
	keys    map[string]ed25519.PublicKey
}

// NewIssuer mints with access and verifies under access and, so that a rotation
// logs nobody out, under the former keys. A key that must no longer be honoured
// is simply not listed.
func NewIssuer(access key.Private[key.Access], former ...key.Public[key.Access]) *Issuer {
	i := &Issuer{private: access, kid: access.ID().String(), keys: map[string]ed25519.PublicKey{}}
	for _, p := range append(former, access.Public()) {
		i.keys[p.ID().String()] = ed25519.PublicKey(p.Bytes())
	}
	return i
}

// claims is the payload; every field is always present.
type claims struct {
	Issuer    string       `json:"iss"`
	Audience  string       `json:"aud"`
	ID        wire.Nonce   `json:"jti"`
	IssuedAt  int64        `json:"iat"`
	NotBefore int64        `json:"nbf"`
	ExpiresAt int64        `json:"exp"`
	Team      wire.TeamID  `json:"team_id"`
	Email     string       `json:"email"`
	Person    string       `json:"person"`
	Role      policy.Role  `json:"role"`
	Confirm   confirmation `json:"cnf"`
}

// confirmation binds the token to the operator's key (RFC 7800, section 3.4).
type confirmation struct {
	Kid key.ID `json:"kid"`
}

func date(seconds int64) (*jwt.NumericDate, error) {
	return jwt.NewNumericDate(time.Unix(seconds, 0)), nil
}

// The library asks for the claims that it validates itself.

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return date(c.ExpiresAt) }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return date(c.IssuedAt) }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return date(c.NotBefore) }
func (c *claims) GetIssuer() (string, error)                   { return c.Issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return "", nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error) {
	return jwt.ClaimStrings{c.Audience}, nil
}

// Mint makes a token for p that lasts Lifetime; p.ID and p.ExpiresAt are not
// read. It returns the token and when it ends.
func (i *Issuer) Mint(p Principal, now time.Time) (string, wire.Millis, error) {
	if p.Team.IsZero() || p.Operator.IsZero() || !p.Role.Valid() {
		return "", 0, fmt.Errorf("minting a token: team, operator and role must be known")
	}
	at := now.Unix()
	c := &claims{
		Issuer: i.kid, Audience: audiencePrefix + i.kid, ID: wire.NewNonce(),
		IssuedAt: at, NotBefore: at, ExpiresAt: at + int64(Lifetime/time.Second),
		Team: p.Team.id, Email: p.Email, Person: p.Person, Role: p.Role,
		Confirm: confirmation{Kid: p.Operator},
	}
	text, err := i.sign(c)
	if err == nil && len(text) > MaxToken {
		err = fmt.Errorf("minting a token: %d bytes, at most %d", len(text), MaxToken)
	}
	return text, wire.Millis(c.ExpiresAt * 1000), err
}

func (i *Issuer) sign(c *claims) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
	t.Header["typ"], t.Header["kid"] = tokenType, i.kid
	text, err := t.SignedString(key.AccessSigner(i.private))
	if err != nil {
		return "", fmt.Errorf("minting a token: %v", err)
	}
	return text, nil
}

// Verify checks a token's text and returns who it names. Every error is a
// refusal (bad_alg, unknown_kid, bad_header, wrong_type, bad_token,
// bad_signature, expired, not_yet_valid) and holds nothing of the token.
func (i *Issuer) Verify(text string, now time.Time) (Principal, error) {
	if len(text) > MaxToken {
		return Principal{}, refusal.New(refusal.BadToken, "token of more than %d bytes", MaxToken)
	}
	kid, err := i.checkHeader(text)
	if err != nil {
		return Principal{}, err
	}
	var c claims
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithStrictDecoding(),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(Leeway),
		jwt.WithIssuer(kid), jwt.WithAudience(audiencePrefix+kid),
		jwt.WithTimeFunc(func() time.Time { return now }))
	_, err = parser.ParseWithClaims(text, &c, func(*jwt.Token) (any, error) { return i.keys[kid], nil })
	if err != nil {
		return Principal{}, explain(err)
	}
	return c.principal(text)
}

// principal makes the checks that the library has no option for.
func (c *claims) principal(text string) (Principal, error) {
	switch life := c.ExpiresAt - c.IssuedAt; {
	case !canonical(strings.Split(text, ".")[1], c):
		return Principal{}, refusal.New(refusal.BadToken, "claims are not in their one encoding")
	case life <= 0 || life > int64(Lifetime/time.Second):
		return Principal{}, refusal.New(refusal.BadToken, "token is made for longer than %v", Lifetime)
	case c.Team == wire.TeamID{} || c.Confirm.Kid.IsZero() || !c.Role.Valid():
		return Principal{}, refusal.New(refusal.BadToken, "a claim is missing")
	}
	return Principal{
		Team: TeamID{id: c.Team}, Operator: c.Confirm.Kid, Email: c.Email, Person: c.Person,
		Role: c.Role, ID: c.ID, ExpiresAt: wire.Millis(c.ExpiresAt * 1000),
	}, nil
}

type header struct {
	Alg string `json:"alg"`
	Kid string `json:"kid"`
	Typ string `json:"typ"`
}

// checkHeader reads the header before the library does and returns the key id,
// which is one of ours. The order of its checks only decides which of several
// mistakes is named.
func (i *Issuer) checkHeader(text string) (string, error) {
	parts := strings.SplitN(text, ".", 4)
	switch {
	case len(parts) == 1:
		return "", refusal.New(refusal.WrongType, "not an access token")
	case len(parts) != 3:
		return "", refusal.New(refusal.BadToken, "token does not have three parts")
	case strings.ContainsAny(text, "\r\n"): // base64 decoders skip them
		return "", refusal.New(refusal.BadToken, "token is broken into lines")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(parts[0])
	if err != nil {
		return "", refusal.New(refusal.BadToken, "header is not base64url")
	}
	var fields map[string]json.RawMessage
	var h header
	if json.Unmarshal(raw, &fields) != nil || json.Unmarshal(raw, &h) != nil {
		return "", refusal.New(refusal.BadHeader, "header is not an object of texts")
	}
	for name := range fields {
		if name != "alg" && name != "kid" && name != "typ" {
			return "", refusal.New(refusal.BadHeader, "header has a field besides alg, kid and typ")
		}
	}
	if _, known := i.keys[h.Kid]; h.Kid != "" && !known {
		return "", refusal.New(refusal.UnknownKid, "token is signed by a key that is not ours")
	}
	switch {
	case h.Alg != jwt.SigningMethodEdDSA.Alg():
		return "", refusal.New(refusal.BadAlg, "only EdDSA is taken")
	case h.Kid == "":
		return "", refusal.New(refusal.UnknownKid, "token names no key")
	case h.Typ != tokenType:
		return "", refusal.New(refusal.WrongType, "not an access token")
	case !canonical(parts[0], &h):
		return "", refusal.New(refusal.BadHeader, "header is not in its one encoding")
	}
	return h.Kid, nil
}

// canonical reports whether segment is v's one encoding, which refuses duplicate
// names, case variants, unknown fields and trailing data.
func canonical(segment string, v any) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil {
		return false
	}
	again, err := json.Marshal(v)
	return err == nil && bytes.Equal(again, raw)
}

// explain turns the library's error into ours. Its text may quote the token and
// is dropped.
func explain(err error) error {
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return refusal.New(refusal.BadToken, "token is malformed")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return refusal.New(refusal.BadSignature, "signature of the token")
	case errors.Is(err, jwt.ErrTokenExpired):
		return refusal.New(refusal.Expired, "token has expired; log in again")
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return refusal.New(refusal.NotYetValid, "token is from the future; check the clocks")
	}
	return refusal.New(refusal.BadToken, "token is for another server")
}
