package gate

import (
	"crypto/sha256"
	"net/netip"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
)

// Rates are what calls with a token are counted by. Whoever has copied a token must not
// use up what the owner of its key has (attacks C12, B18), so only a proof that holds
// counts against the key. All else counts against the network that it comes from: what
// does not hold against that alone, and reads against it and the token, or the key. A
// thief in the same network shares reads with the owner until the next login or logout.
// All are required.
type Rates struct {
	Failures  *rate.Limiter[netip.Prefix] // calls whose token or proof does not hold: signatures that were checked for nothing
	Tokens    *rate.Limiter[Shown]        // calls without a proof
	Readers   *rate.Limiter[Reader]       // the same of all tokens of a key: more logins must not give more reads without end
	Operators *rate.Limiter[key.ID]       // calls with a proof that holds, and logins, by operator key
	Logouts   *rate.Limiter[key.ID]       // logouts: whoever has used up the rest can still end a login
}

// Shown is a token as calls from one network show it.
type Shown struct {
	Source netip.Prefix
	Token  key.Hash // SHA-256 of its text
}

// Reader is an operator key whose tokens calls from one network show.
type Reader struct {
	Source   netip.Prefix
	Operator key.ID
}

// errTooMany is the answer to whoever is over a rate.
func errTooMany(of string) error {
	return refusal.New(refusal.RateLimited, "too many calls with this %s; wait a moment", of)
}

// before refuses, at the cost of no signature, a call that could not be counted any
// more. A call with a proof is not judged by what others do with its token. Nothing is
// taken: whoever makes tokens up must not fill the tables of those that we made.
func (r *Rates) before(c *Call, shown Shown) error {
	switch {
	case r.Failures.Spent(shown.Source, c.Now):
		return refusal.New(refusal.RateLimited, "too many calls from this network whose token or proof does not hold; wait a moment")
	case !c.hasProof() && r.Tokens.Spent(shown, c.Now):
		return errTooMany("login")
	}
	return nil
}

// verified counts a call whose token is one of ours, before the database is asked. A
// call with a proof takes nothing yet; where its key has nothing left, which only that
// key can bring about, a flood goes on to cost one signature a call (attack B18).
func (r *Rates) verified(c *Call, shown Shown, who principal.Principal) error {
	switch {
	case c.hasProof():
		if r.own(c).Spent(who.Operator, c.Now) {
			return errTooMany("key")
		}
	case !r.Tokens.Allow(shown, c.Now):
		return errTooMany("login")
	case !r.Readers.Allow(Reader{shown.Source, who.Operator}, c.Now):
		return errTooMany("key")
	}
	return nil
}

// proven counts a call whose proof holds.
func (r *Rates) proven(c *Call) error {
	if !r.own(c).Allow(c.Who.Operator, c.Now) {
		return errTooMany("key")
	}
	return nil
}

// failed counts a call whose token or proof did not hold, or that showed a proof and
// was refused before that was looked at. A fault of ours is not the caller's.
func (r *Rates) failed(c *Call, shown Shown, err error) {
	if code := refusal.Of(err); code != "" && code != refusal.Unavailable {
		r.Failures.Allow(shown.Source, c.Now)
	}
}

func (r *Rates) own(c *Call) *rate.Limiter[key.ID] {
	if c.Route.Path == wire.PathLogout {
		return r.Logouts
	}
	return r.Operators
}

// hasProof reports whether the call shows what may be a proof.
func (c *Call) hasProof() bool {
	return c.Route.Auth == Proof && len(c.HTTP.Header[wire.ProofHeader]) > 0
}

func shownBy(c *Call, token string) Shown {
	return Shown{rate.Source(c.HTTP.RemoteAddr), sha256.Sum256([]byte(token))}
}
