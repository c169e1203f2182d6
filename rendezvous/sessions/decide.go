package sessions

import (
	"context"
	"errors"
	"net/http"

	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
	"github.com/tucdesk/tucdesk/rendezvous/requests"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// checkRequest compares the request with the clock and with the roster in force
// here. Whether the agent is up to date is the agent's to find out (protocol 3.3,
// freeze): the request names the operator's version, and lies are not possible.
func (d *Desk) checkRequest(c *gate.Call) error {
	req, st := c.Session.Request, c.State.Roster
	life := req.ExpiresAt.Time().Sub(req.IssuedAt.Time())
	switch {
	case req.IssuedAt.Time().After(c.Now.Add(wire.ClockSkew)):
		return refusal.New(refusal.NotYetValid, "the request was made in the future; set the clock")
	case !c.Now.Before(req.ExpiresAt.Time()):
		return refusal.New(refusal.Expired, "the request has expired")
	case life <= 0 || life > wire.GatedRequestLifetime:
		return refusal.New(refusal.BadTime, "a request lives at most %v", wire.GatedRequestLifetime)
	case req.RosterVersion > st.Version():
		return refusal.New(refusal.RosterBehind, "the request names roster version %d, this server has %d; publish it here", req.RosterVersion, st.Version())
	case req.RosterVersion == st.Version() && req.RosterHash != st.Hash():
		return refusal.New(refusal.Fork, "the request names another roster of version %d", st.Version())
	case req.RosterVersion == st.Version() && req.PolicyHash != st.PolicyHash():
		return refusal.New(refusal.PolicyMismatch, "the request names another policy than the roster")
	}
	return c.State.MayOpen(c.Now)
}

// errRosterMoved makes decide start over: the roster changed between the check
// and the transaction (attack K16).
var errRosterMoved = errors.New("the roster changed meanwhile")

// maxMoves bounds how often; our choice.
const maxMoves = 3

func (d *Desk) decide(c *gate.Call) (outcome, error) {
	if err := d.spend(c); err != nil {
		return outcome{}, err
	}
	for range maxMoves {
		out, err := d.decideOnce(c)
		if !errors.Is(err, errRosterMoved) {
			return out, err
		}
		if c.State, err = d.Teams.Refresh(c.HTTP.Context(), c.Team); err != nil {
			return outcome{}, err
		}
		if c.Op, err = c.State.Roster.Operator(c.Who.Operator, c.Now); err != nil {
			return outcome{}, problem.With(http.StatusUnauthorized, err)
		}
		if err := c.State.MaySession(c.Who.Operator, c.Now); err != nil { // the gate asked the roster of before
			return outcome{}, err
		}
		if err := d.checkRequest(c); err != nil {
			return outcome{}, err
		}
	}
	return outcome{}, refusal.New(refusal.Unavailable, "the roster keeps changing; try again")
}

// spend uses up the request's id, unless the request is stored: that one is asked
// for again when it was approved, and its state sees to it that it runs once.
func (d *Desk) spend(c *gate.Call) error {
	err := d.Store.View(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		_, err := tx.Request(c.Session.Hash)
		return err
	})
	if refusal.Of(err) != refusal.NotFound {
		return err
	}
	expires := c.Session.Request.ExpiresAt.Time().Add(wire.ClockSkew)
	return d.Store.UseOnce(c.HTTP.Context(), "request:"+c.Who.Operator.String(), c.Session.Request.ID, expires)
}

// decideOnce looks up the agent, asks the policy, moves the request and records
// all that in one transaction. A refusal that must be recorded is carried out of
// the transaction beside it, because an error would roll the record back.
func (d *Desk) decideOnce(c *gate.Call) (outcome, error) {
	var out outcome
	var refused error
	err := d.Store.InTx(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		out, refused = outcome{}, nil
		record, err := tx.Record()
		if err != nil {
			return err
		}
		if record.RosterVersion != c.State.Roster.Version() {
			return errRosterMoved
		}
		// Locked, so that no deletion overtakes what is decided here (attack K16).
		switch there, err := tx.LockAgent(c.Session.Request.Agent); {
		case err != nil:
			return err
		case !there:
			return team.NotFound()
		}
		if out.agent, err = tx.Agent(c.Session.Request.Agent); err != nil {
			return err
		}
		if out.cert, err = certOf(c.State.Roster, out.agent, c); err != nil {
			return err
		}
		out.decision = ask(c, out.cert)
		if refused, err = d.settle(tx, c, &out); err != nil {
			return err
		}
		return d.recordDecision(tx, c, out, refused)
	})
	if err != nil {
		return outcome{}, err
	}
	if refused != nil {
		c.Recorded = true
		return outcome{}, refused
	}
	if out.waits != nil {
		c.Team.Due.Note(out.waits.ExpiresAt)
	}
	return out, nil
}

// ask puts the policy's question: facts from roster, certificate and request
// only, never from what an agent says about itself (attack F7).
func ask(c *gate.Call, cert roster.AgentCert) policy.Decision {
	if c.State.Rules == nil {
		return policy.Decision{Code: refusal.PolicyDenied, Reason: "the team has no policy yet"}
	}
	req := c.Session.Request
	q := policy.Request{
		Action: policy.Action(req.Action), Unresolved: true, Cwd: string(req.Params.Cwd), User: req.Params.User,
		Agent: cert.Name, Tags: cert.Tags,
		Operator: c.Who.Operator, Email: c.Op.Email, Person: c.Op.Person, Role: c.Op.Role,
	}
	for _, a := range req.Params.Argv {
		q.Argv = append(q.Argv, a)
	}
	for _, v := range req.Params.Env {
		q.Env = append(q.Env, v.Name)
	}
	return c.State.Rules.Decide(&q, c.Now)
}

// settle turns the policy's answer into what happens to this request now. A
// request that was stored once goes by its stored state, whatever the policy says
// since: a denial is not undone by a milder rule.
func (d *Desk) settle(tx *store.Tx, c *gate.Call, out *outcome) (refused, fault error) {
	if out.decision.Effect == policy.Deny {
		return out.decision.Err(), nil
	}
	if !d.Bus.Online(c.Team.ID, c.Session.Request.Agent) {
		return refusal.New(refusal.Offline, "the agent is not connected"), nil
	}
	stored, err := tx.Request(c.Session.Hash)
	switch {
	case refusal.Of(err) == refusal.NotFound && out.decision.Effect == policy.Allow:
		return nil, nil // its id was spent by spend
	case refusal.Of(err) == refusal.NotFound:
		return d.wait(tx, c, out)
	case err != nil:
		return nil, err
	}
	return d.resume(tx, c, out, stored)
}

// wait stores a request until people have decided about it.
func (d *Desk) wait(tx *store.Tx, c *gate.Call, out *outcome) (refused, fault error) {
	req := c.Session.Request
	r := store.Request{
		Hash: c.Session.Hash, Session: req.Session, Operator: req.Operator, Agent: req.Agent,
		Statement: c.Session.Signed, Open: c.Session.Open, State: wire.RequestPending, Rule: out.decision.Asks,
		Need: out.decision.Approval.Count, Roles: requests.RoleNames(out.decision.Approval.Roles),
		CreatedAt: wire.At(c.Now), ExpiresAt: req.ExpiresAt, Approvals: []statement.Signed{},
	}
	if refused, fault = requests.Put(tx, r); refused == nil {
		out.waits, out.isNew = &r, true
	}
	return refused, fault
}

// resume goes on with a stored request. The approvals are judged again by the
// roster of now (attack E13), and approved becomes used in one statement, so that
// of two calls one goes on (attack E12).
func (d *Desk) resume(tx *store.Tx, c *gate.Call, out *outcome, r store.Request) (refused, fault error) {
	switch r.State {
	case wire.RequestPending:
		out.waits = &r
		return nil, nil
	case wire.RequestApproved:
	default:
		return tx.SetRequestState(r.Hash, wire.RequestApproved, wire.RequestUsed, c.Now), nil // says why not
	}
	need := policy.Approval{Count: r.Need, Roles: requests.Roles(r.Roles)}
	if out.decision.Effect == policy.NeedApproval {
		need = policy.Approval{Count: max(need.Count, out.decision.Approval.Count), Roles: need.Roles & out.decision.Approval.Roles}
	}
	uses, err := approval.Check(c.State.Roster, c.Session.Request, r.Hash, need, r.Approvals, c.Now)
	if err != nil {
		return err, nil
	}
	out.approvals, out.uses = r.Approvals, uses
	return nil, tx.SetRequestState(r.Hash, wire.RequestApproved, wire.RequestUsed, c.Now)
}

// certOf verifies what is stored about an agent by the roster of now.
func certOf(state *roster.State, a store.Agent, c *gate.Call) (roster.AgentCert, error) {
	if a.DeletedAt != 0 {
		return roster.AgentCert{}, team.NotFound()
	}
	return state.VerifyAgent(a.Token, a.Certificate, c.Now)
}

// recordDecision writes what became of a session request.
func (d *Desk) recordDecision(tx *store.Tx, c *gate.Call, out outcome, refused error) error {
	e := c.Entry(entry.SessionOpen)
	switch {
	case refused != nil && !d.Denials.Allow(c.Who.Operator, c.Now):
		return nil // the log would be his to fill; the counters have them all
	case refused != nil:
		e.Type, e.Refusal = entry.SessionDeny, problem.Code(refused)
	case out.waits != nil && !out.isNew:
		return nil // asked again while it waits: nothing happened
	case out.waits != nil:
		e.Type = entry.RequestWait
	}
	e.Target = entry.Target{Agent: out.agent.Kid, Name: out.cert.Name}
	e.Session, e.RequestHash = c.Session.Request.Session, c.Session.Hash
	e.Policy = entry.PolicyResult{Decision: out.decision.Effect.String(), Rule: out.decision.Rule,
		Hash: out.decision.PolicyHash, Need: out.decision.Approval.Count}
	if e.Type == entry.RequestWait {
		e.Policy.Rule = out.waits.Rule
	}
	e.Command = c.Session.Command()
	if refused != nil {
		*e.Command = e.Command.Refused()
	}
	for _, u := range out.uses {
		e.Approvals = append(e.Approvals, u.Hash)
	}
	return c.Team.Log.Record(tx, c.State, e)
}

// recordAgentRefusal notes that an agent did not take what was granted. The
// agent's own entry, with its reasons, comes by its own chain.
func (d *Desk) recordAgentRefusal(c *gate.Call, out outcome, refused error) {
	err := d.Store.InTx(context.WithoutCancel(c.HTTP.Context()), c.Team.ID, func(tx *store.Tx) error {
		return d.recordDecision(tx, c, out, refused)
	})
	if err != nil {
		d.Log.Warn("recording an agent's refusal", "request", c.ID, "err", err)
	}
	c.Recorded = true
}
