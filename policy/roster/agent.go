package roster

import (
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// signer is a key that may sign join tokens, or might in an earlier version.
type signer struct {
	key     statement.Verifier
	owner   bool        // may give any tag
	tags    []string    // that it may give
	seconds int64       // longest life of its tokens
	until   wire.Millis // when a version without it was issued; 0 while it is listed
}

func (s signer) role() string {
	if s.owner {
		return "owner"
	}
	return "enroller"
}

// VerifyToken checks that hosts may join under the token at now: its signer is an
// owner or enroller today, and it is in time. It is for whoever publishes a token,
// counts its uses or is about to join. Refusals: unknown_key, key_revoked,
// wrong_role, bad_signature; wrong_team; wider_than_allowed; bad_name, weak_key;
// not_yet_valid, expired (attack G9).
func (s *State) VerifyToken(token statement.Signed, now time.Time) (Token, error) {
	t, by, err := s.openToken(token)
	if err != nil {
		return Token{}, err
	}
	at := wire.At(now)
	switch {
	case by.until != 0:
		return Token{}, refusal.New(refusal.UnknownKey, "the signer of the join token is no longer in the roster")
	case t.IssuedAt > wire.At(now.Add(wire.ClockSkew)):
		return Token{}, refusal.New(refusal.NotYetValid, "the join token is issued in the future")
	case at >= t.ExpiresAt:
		return Token{}, refusal.New(refusal.Expired, "the join token expired at %s", t.ExpiresAt.Time().Format(time.RFC3339))
	}
	return t, nil
}

// VerifyAgent checks a host's certificate and the token it rests on, and returns
// the certificate: its name and tags are what policy may use. The token may have
// expired, and its signer may have left the roster after it was issued; a revoked
// signer, token or host key ends the certificate. Refusals as VerifyToken, and
// wider_than_allowed for tags or a time outside the token (attack G10), expired
// for the certificate's own end.
func (s *State) VerifyAgent(token, cert statement.Signed, now time.Time) (AgentCert, error) {
	t, _, err := s.openToken(token)
	if err != nil {
		return AgentCert{}, err
	}
	c, err := openCert(t, cert)
	if err != nil {
		return AgentCert{}, err
	}
	id := c.Agent.ID()
	if err := s.notRevoked(id); err != nil {
		return AgentCert{}, err
	}
	if _, isSigner := s.signers[id]; isSigner || id == t.Key.ID() || s.roleOf(id) != "" {
		return AgentCert{}, refusal.New(refusal.WrongRole, "the host's key %s has another role in the team", id.ShortCode())
	}
	if !within(wire.At(now), 0, c.NotAfter) {
		return AgentCert{}, refusal.New(refusal.Expired, "the host's certificate ended at %s", c.NotAfter.Time().Format(time.RFC3339))
	}
	return c, nil
}

// FindAgent takes the host's key for statements that a host signs. Whoever
// answers with another key is unknown_agent, whatever it can prove about itself
// (attack B5).
func (c AgentCert) FindAgent(id key.ID) (statement.Verifier, error) {
	k, err := c.Key(id)
	if err != nil {
		return nil, err
	}
	return k, nil
}

// Key is FindAgent for the handshake, which wants the key's type.
func (c AgentCert) Key(id key.ID) (key.Public[key.Agent], error) {
	if c.Agent.IsZero() || c.Agent.ID() != id {
		return key.Public[key.Agent]{}, refusal.New(refusal.UnknownAgent, "the answering key is not the certified one")
	}
	return c.Agent, nil
}

// openToken checks everything about a token that does not depend on the time.
func (s *State) openToken(token statement.Signed) (Token, signer, error) {
	var by signer
	t, _, err := statement.Open[Token](token, func(id key.ID) (statement.Verifier, error) {
		if err := s.notRevoked(id); err != nil {
			return nil, err
		}
		var ok bool
		if by, ok = s.signers[id]; !ok {
			return nil, s.notFound(id)
		}
		return by.key, nil
	})
	if err != nil {
		return Token{}, signer{}, err
	}
	if t.Team != s.Team() || t.Fingerprint != s.fingerprint {
		return Token{}, signer{}, refusal.New(refusal.WrongTeam, "the join token is of another team")
	}
	if err := t.Validate(); err != nil {
		return Token{}, signer{}, err
	}
	if err := s.notRevoked(t.Key.ID()); err != nil {
		return Token{}, signer{}, err
	}
	return t, by, by.mayGive(t)
}

// mayGive keeps a token inside what its signer may delegate. The limits of a
// signer that left are those of its last entry.
func (s signer) mayGive(t Token) error {
	if s.until != 0 && t.IssuedAt > s.until {
		return refusal.New(refusal.UnknownKey, "the join token was signed after its signer left the roster")
	}
	if int64(t.ExpiresAt-t.IssuedAt) > s.seconds*1000 {
		return refusal.New(refusal.WiderThanAllowed, "the join token lives longer than its signer may give, %d s", s.seconds)
	}
	if !s.owner && !subset(t.Tags, s.tags) {
		return refusal.New(refusal.WiderThanAllowed, "the join token has tags that its signer may not give")
	}
	return nil
}

func openCert(t Token, cert statement.Signed) (AgentCert, error) {
	c, _, err := statement.Open[AgentCert](cert, func(id key.ID) (statement.Verifier, error) {
		if id != t.Key.ID() {
			return nil, refusal.New(refusal.UnknownKey, "the certificate is signed by another key than the token's")
		}
		return t.Key, nil
	})
	if err != nil {
		return AgentCert{}, err
	}
	if c.Team != t.Team || c.TokenID != t.ID {
		return AgentCert{}, refusal.New(refusal.WrongTeam, "the certificate names another team or token")
	}
	if err := c.Validate(); err != nil {
		return AgentCert{}, err
	}
	if !subset(c.Tags, t.Tags) {
		return AgentCert{}, refusal.New(refusal.WiderThanAllowed, "the certificate has tags outside its token")
	}
	skew := wire.Millis(wire.ClockSkew.Milliseconds())
	if !within(c.IssuedAt, t.IssuedAt-skew, t.ExpiresAt+skew) {
		return AgentCert{}, refusal.New(refusal.WiderThanAllowed, "the certificate was made outside its token's time")
	}
	return c, nil
}

// Validate reports the first rule that the token's content breaks.
func (t Token) Validate() error {
	switch {
	case t.ID == wire.Nonce{}:
		return refusal.New(refusal.BadStatement, "a join token without an id")
	case t.MaxUses < 1 || t.MaxUses > MaxUses:
		return refusal.New(refusal.BadStatement, "a join token for %d uses; 1 to %d", t.MaxUses, MaxUses)
	case t.IssuedAt <= 0 || t.ExpiresAt <= t.IssuedAt || int64(t.ExpiresAt-t.IssuedAt) > MaxTokenLifetime.Milliseconds():
		return refusal.New(refusal.BadTime, "a join token lives more than 0 and at most %v", MaxTokenLifetime)
	}
	if err := validAddress(t.Server); err != nil {
		return err
	}
	return validTags(t.Tags)
}

// Validate reports the first rule that the certificate's content breaks.
func (c AgentCert) Validate() error {
	if !policy.ValidAgentName(c.Name) {
		return refusal.New(refusal.BadName, "name of a host: want 1 to %d of a-z, 0-9, . and -", MaxName)
	}
	if c.IssuedAt <= 0 || c.NotAfter < 0 || c.NotAfter != 0 && c.NotAfter <= c.IssuedAt {
		return refusal.New(refusal.BadTime, "a certificate that ends before it begins")
	}
	return validTags(c.Tags)
}

func subset(some, of []string) bool {
	for _, s := range some {
		if !slices.Contains(of, s) {
			return false
		}
	}
	return true
}

// VerifySetup checks that an owner hands the server with this access key and
// setup code to the team. Refusals: unknown_key, wrong_role, bad_signature,
// wrong_team, forbidden (another server, another code), bad_time, expired.
func (s *State) VerifySetup(setup statement.Signed, server key.ID, code wire.Bytes, now time.Time) (Setup, error) {
	p, _, err := statement.Open[Setup](setup, s.FindOwner)
	if err != nil {
		return Setup{}, err
	}
	sum := SetupCodeHash(code)
	switch {
	case p.Team != s.Team() || p.Root != s.fingerprint:
		return Setup{}, refusal.New(refusal.WrongTeam, "the setup statement is of another team")
	case p.Server != server || len(code) == 0 || subtle.ConstantTimeCompare(sum[:], p.Code[:]) != 1:
		return Setup{}, refusal.New(refusal.Forbidden, "the setup statement is for another server or code")
	case p.IssuedAt > wire.At(now.Add(wire.ClockSkew)):
		return Setup{}, refusal.New(refusal.BadTime, "the setup statement is issued in the future")
	case wire.At(now) >= p.IssuedAt+wire.Millis(SetupLifetime.Milliseconds()):
		return Setup{}, refusal.New(refusal.Expired, "the setup statement is older than %v", SetupLifetime)
	}
	return p, nil
}

// SetupCodeHash is what a setup statement says about the code, which itself stays
// out of anything that is stored.
func SetupCodeHash(code wire.Bytes) key.Hash { return sha256.Sum256(code) }
