package rendezvous

import (
	"net/http"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// health answers whoever asks. It says nothing about the server but that it can
// reach its database.
func (s *Server) health(c *gate.Call) (any, error) {
	if err := s.store.Ping(c.HTTP.Context()); err != nil {
		return nil, err
	}
	return struct {
		Status string `json:"status"`
	}{"ok"}, nil
}

// login gives a JWT for a proof of possession of a key in the roster. A team, a
// key, a signature that are not right all get one answer (attack C15).
func (s *Server) login(c *gate.Call) (any, error) {
	var req wire.LoginRequest
	if err := strict.Decode(c.Body, &req); err != nil {
		return nil, err
	}
	login, kid, err := s.openLogin(c, req.Login)
	if err != nil {
		return nil, err
	}
	if err := s.checkLogin(c, login); err != nil {
		return nil, err
	}
	expires := login.IssuedAt.Time().Add(2 * wire.ProofSkew)
	if err := s.store.UseOnce(c.HTTP.Context(), "login:"+kid.String(), login.ID, expires); err != nil {
		return nil, err
	}
	token, end, err := s.issuer.Mint(principal.Principal{Team: c.Team.ID, Operator: kid, Email: c.Op.Email, Person: c.Op.Person, Role: c.Op.Role}, c.Now)
	if err != nil {
		return nil, err
	}
	err = s.store.InTx(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		return c.Team.Log.Record(tx, c.State, c.Entry(entry.Login))
	})
	if err != nil {
		return nil, err
	}
	return wire.LoginReply{Token: token, ExpiresAt: end, ServerTime: wire.At(c.Now),
		RosterVersion: c.State.Roster.Version(), RosterHash: c.State.Roster.Hash()}, nil
}

// logout ends the login that the call is made with. It takes no body: nobody can end
// another's.
func (s *Server) logout(c *gate.Call) (any, error) {
	return nil, s.store.InTx(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		if err := tx.EndLogin(c.Who); err != nil {
			return err
		}
		return c.Team.Log.Record(tx, c.State, c.Entry(entry.Logout))
	})
}

// openLogin finds the team that the statement claims and verifies it with that
// team's key. The team and roster entry it leaves in c are those of a caller who
// has proved them.
func (s *Server) openLogin(c *gate.Call, signed statement.Signed) (wire.Login, key.ID, error) {
	var fault error
	var op roster.Operator
	var t *team.Team
	var state chain.State
	login, kid, err := statement.OpenSelfSigned(signed, func(l wire.Login, kid key.ID) (statement.Verifier, error) {
		if t, fault = s.teams.Find(c.HTTP.Context(), l.Team); fault != nil {
			return nil, fault
		}
		if state, fault = s.teams.Refresh(c.HTTP.Context(), t); fault != nil {
			return nil, fault
		}
		var err error
		op, err = state.Roster.Operator(kid, c.Now)
		return op.Key, err
	})
	if err == nil {
		c.Team, c.State, c.Op = t, state, op
		c.Who = principal.Principal{Team: t.ID, Operator: kid}
		return login, kid, nil
	}
	if fault != nil && refusal.Of(fault) != refusal.NotFound {
		return wire.Login{}, key.ID{}, fault
	}
	return wire.Login{}, key.ID{}, refusal.New(refusal.NotLoggedIn, "this server knows no such team and key")
}

// checkLogin charges the key last: a statement that is old, or was made for another
// server or connection, may be shown by anybody who has copied it, and has cost its
// source (attack B18).
func (s *Server) checkLogin(c *gate.Call, login wire.Login) error {
	age := c.Now.Sub(login.IssuedAt.Time())
	if age > wire.ProofSkew || age < -wire.ProofSkew {
		return refusal.New(refusal.ProofTimeSkew, "the login was made %s away from the server's time; set the clock", age.Abs().Truncate(time.Second))
	}
	channel, err := c.Channel()
	if err != nil {
		return err
	}
	if login.Audience != s.keys.Access.ID() || login.Channel != channel {
		return problem.With(http.StatusUnauthorized, refusal.New(refusal.WrongChannel, "the login was made for another server or connection"))
	}
	if !s.gate.Operators.Allow(c.Who.Operator, c.Now) {
		return refusal.New(refusal.RateLimited, "too many logins with this key; wait a moment")
	}
	return nil
}
