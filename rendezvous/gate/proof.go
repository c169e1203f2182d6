package gate

import (
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// MaxProof caps the header: a 4 KiB payload in base64 inside an envelope that is
// itself base64.
const MaxProof = 9 << 10

// checkProof verifies that the key of the token signed this very call (protocol 4.2),
// by all that is known before its body. Everything is compared as exact text or bytes.
func (g *Gate) checkProof(c *Call, shown Shown) error {
	p, err := openProof(c)
	if err != nil {
		return err
	}
	age := c.Now.Sub(p.IssuedAt.Time())
	if age > wire.ProofSkew || age < -wire.ProofSkew {
		return refusal.New(refusal.ProofTimeSkew, "the proof was made %s away from the server's time; set the clock",
			age.Abs().Truncate(time.Second))
	}
	c.proof = p
	return mismatch(g.callDiffers(c, p, shown.Token))
}

// spendProof holds the proof against the body and what that is about. The nonce is used
// up last, in the database, so that a proof that is refused for another reason can not
// be burnt by whoever copied it, and a restart forgets nothing (attack D8).
func (g *Gate) spendProof(c *Call) error {
	p := c.proof
	if p.Body != sha256.Sum256(c.Body) {
		return mismatch("body")
	}
	var about Subject
	if c.Route.Subject != nil {
		var err error
		if about, err = c.Route.Subject(c); err != nil {
			return err
		}
	}
	if err := mismatch(subjectDiffers(p, about)); err != nil {
		return err
	}
	expires := p.IssuedAt.Time().Add(2 * wire.ProofSkew)
	return g.Store.UseOnce(c.HTTP.Context(), "proof:"+c.Who.Operator.String(), p.ID, expires)
}

// mismatch refuses a proof of which the named part is not what this call is, if there
// is one.
func mismatch(what string) error {
	if what == "" {
		return nil
	}
	return refusal.New(refusal.ProofMismatch, "the proof was made for another %s", what)
}

func openProof(c *Call) (wire.Proof, error) {
	headers := c.HTTP.Header[wire.ProofHeader]
	if len(headers) == 0 {
		return wire.Proof{}, refusal.New(refusal.ProofRequired, "this call needs a proof")
	}
	invalid := refusal.New(refusal.ProofInvalid, "the proof is not one by the key of this session")
	if len(headers) != 1 || len(headers[0]) > MaxProof {
		return wire.Proof{}, invalid
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(headers[0])
	if err != nil {
		return wire.Proof{}, invalid
	}
	p, _, err := statement.Open[wire.Proof](raw, func(kid key.ID) (statement.Verifier, error) {
		if kid != c.Who.Operator { // the JWT's cnf
			return nil, invalid
		}
		return c.Op.Key, nil
	})
	if err != nil {
		return wire.Proof{}, invalid
	}
	return p, nil
}

// callDiffers names the first field that is not what this call is, or "". Those that
// are about its body are left to spendProof.
func (g *Gate) callDiffers(c *Call, p wire.Proof, token key.Hash) string {
	switch {
	case p.Audience != g.Audience:
		return "server"
	case p.Method != c.HTTP.Method:
		return "method"
	case p.Target != c.HTTP.RequestURI:
		return "path or query"
	case p.Token != token:
		return "token"
	case p.Context.Action != c.Route.Action:
		return "action"
	case p.Context.Team != c.Who.Team.Wire():
		return "team"
	}
	return ""
}

// subjectDiffers names the first field that is not what the body is about, or "".
func subjectDiffers(p wire.Proof, about Subject) string {
	switch {
	case p.Context.Agent != about.Agent:
		return "agent"
	case p.Context.RequestHash != about.Request:
		return "request"
	case p.Session != about.Session:
		return "session"
	}
	return ""
}
