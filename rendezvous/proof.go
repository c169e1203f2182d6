package rendezvous

import (
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// maxProof caps the header: a 4 KiB payload in base64 inside an envelope that is
// itself base64.
const maxProof = 9 << 10

// subject is what a call is about; the proof must name the same.
type subject struct {
	session wire.SessionID
	agent   key.ID
	request key.Hash
}

// checkProof verifies that the key of the token signed this very call (protocol
// 4.2). Everything is compared as exact text or bytes. The nonce is used up last,
// in the database, so that a proof that is refused for another reason can not be
// burnt by whoever copied it, and a restart forgets nothing (attack D8).
func (s *Server) checkProof(c *call) error {
	p, err := openProof(c)
	if err != nil {
		return err
	}
	age := c.now.Sub(p.IssuedAt.Time())
	if age > wire.ProofSkew || age < -wire.ProofSkew {
		return refusal.New(refusal.ProofTimeSkew, "the proof was made %s away from the server's time; set the clock",
			age.Abs().Truncate(time.Second))
	}
	var about subject
	if c.route.subject != nil {
		if about, err = c.route.subject(s, c); err != nil {
			return err
		}
	}
	if what := s.proofDiffers(c, p, about); what != "" {
		return refusal.New(refusal.ProofMismatch, "the proof was made for another %s", what)
	}
	expires := p.IssuedAt.Time().Add(2 * wire.ProofSkew)
	return s.store.UseOnce(c.http.Context(), "proof:"+c.who.Operator.String(), p.ID, expires)
}

func openProof(c *call) (wire.Proof, error) {
	headers := c.http.Header[wire.ProofHeader]
	if len(headers) == 0 {
		return wire.Proof{}, refusal.New(refusal.ProofRequired, "this call needs a proof")
	}
	invalid := refusal.New(refusal.ProofInvalid, "the proof is not one by the key of this session")
	if len(headers) != 1 || len(headers[0]) > maxProof {
		return wire.Proof{}, invalid
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(headers[0])
	if err != nil {
		return wire.Proof{}, invalid
	}
	p, _, err := statement.Open[wire.Proof](raw, func(kid key.ID) (statement.Verifier, error) {
		if kid != c.who.Operator { // the JWT's cnf
			return nil, invalid
		}
		return c.op.Key, nil
	})
	if err != nil {
		return wire.Proof{}, invalid
	}
	return p, nil
}

// proofDiffers names the first field that is not what this call is, or "".
func (s *Server) proofDiffers(c *call, p wire.Proof, about subject) string {
	token := c.http.Header["Authorization"][0][len("Bearer "):]
	switch {
	case p.Audience != s.audience:
		return "server"
	case p.Method != c.http.Method:
		return "method"
	case p.Target != c.http.RequestURI:
		return "path or query"
	case p.Body != sha256.Sum256(c.body):
		return "body"
	case p.Token != sha256.Sum256([]byte(token)):
		return "token"
	case p.Context.Action != c.route.action:
		return "action"
	case p.Context.Team != c.who.Team.Wire():
		return "team"
	case p.Context.Agent != about.agent:
		return "agent"
	case p.Context.RequestHash != about.request:
		return "request"
	case p.Session != about.session:
		return "session"
	}
	return ""
}
