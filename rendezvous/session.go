package rendezvous

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/rendezvous/channel"
	"github.com/tucdesk/tucdesk/rendezvous/client"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
	"github.com/tucdesk/tucdesk/rendezvous/requests"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

const (
	// answerWithin is how long an agent may take to answer an OPEN; our choice,
	// below the client's own limit of a call.
	answerWithin = 20 * time.Second

	// maxPinging is how many pings of one operator may wait for their agents at once;
	// our choice.
	maxPinging = 8

	// pingLife ends a ping, and with it what it has of a relay; the agent has the
	// same limit (protocol 2.7).
	pingLife = 10 * time.Minute

	// maxDetail bounds an agent's words that are passed on to an operator, in bytes;
	// our choice.
	maxDetail = 1024

	maxOpen = 4 << 10 // bytes of M1; the largest suite has 1,304 (protocol 2.4)
)

// sessionSubject reads and verifies the request, so that the proof can be held
// against what it asks for.
func (s *Server) sessionSubject(c *gate.Call) (gate.Subject, error) {
	var body wire.SessionOpen
	if err := strict.Decode(c.Body, &body); err != nil {
		return gate.Subject{}, err
	}
	if len(body.Open) == 0 || len(body.Open) > maxOpen {
		return gate.Subject{}, refusal.New(refusal.BadMessage, "the OPEN message has 1 to %d bytes", maxOpen)
	}
	req, kid, err := statement.Open[wire.Request](body.Request, c.State.Roster.FindOperator(c.Now))
	if err != nil {
		return gate.Subject{}, err
	}
	if kid != c.Who.Operator || req.Operator != kid || req.Team != c.Who.Team.Wire() {
		return gate.Subject{}, refusal.New(refusal.NotYours, "the request was signed by another key or for another team")
	}
	c.Session = &gate.Session{Request: req, Hash: body.Request.Hash(), Signed: body.Request, Open: body.Open}
	return gate.Subject{Session: req.Session, Agent: req.Agent, Request: c.Session.Hash}, nil
}

// outcome is what became of a session request in its transaction.
type outcome struct {
	decision  policy.Decision
	agent     store.Agent
	cert      roster.AgentCert
	approvals []statement.Signed
	uses      []approval.Use
	waits     *store.Request // not nil: it needs (more) approvals
	isNew     bool           // waits was stored just now
}

// openSession decides, records, and asks the agent. The agent decides again.
func (s *Server) openSession(c *gate.Call) (any, error) {
	leave, err := s.mayOpenNow(c)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := s.checkRequest(c); err != nil {
		return nil, err
	}
	out, err := s.decide(c)
	if err != nil {
		return nil, err
	}
	if out.waits != nil {
		info := out.waits.Info()
		return gate.Accepted{Reply: wire.SessionReply{Pending: &info}}, nil
	}
	return s.introduce(c, out)
}

// mayOpenNow takes what a session costs its operator. Pings are counted by
// themselves and more narrowly: they need nobody's approval and little right, and
// each costs an agent a process and a relay a place, so a script that pings must
// neither fill those nor keep its operator from sessions.
func (s *Server) mayOpenNow(c *gate.Call) (leave func(), err error) {
	operator := c.Who.Operator
	if c.Session.Request.Action != wire.Ping {
		if !s.leases.Sessions.Allow(operator, c.Now) {
			return nil, refusal.New(refusal.RateLimited, "too many sessions opened with this key; wait a moment")
		}
		return func() {}, nil
	}
	leave, ok := s.pinging.Enter(operator)
	if !ok {
		return nil, refusal.New(refusal.TooMany, "%d pings of this key wait for an answer; let one end first", maxPinging)
	}
	if !s.pings.Allow(operator, c.Now) {
		leave()
		return nil, refusal.New(refusal.RateLimited, "too many pings with this key; wait a moment")
	}
	return leave, nil
}

// checkRequest compares the request with the clock and with the roster in force
// here. Whether the agent is up to date is the agent's to find out (protocol 3.3,
// freeze): the request names the operator's version, and lies are not possible.
func (s *Server) checkRequest(c *gate.Call) error {
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

func (s *Server) decide(c *gate.Call) (outcome, error) {
	if err := s.spend(c); err != nil {
		return outcome{}, err
	}
	for range maxMoves {
		out, err := s.decideOnce(c)
		if !errors.Is(err, errRosterMoved) {
			return out, err
		}
		if c.State, err = s.teams.Refresh(c.HTTP.Context(), c.Team); err != nil {
			return outcome{}, err
		}
		if c.Op, err = c.State.Roster.Operator(c.Who.Operator, c.Now); err != nil {
			return outcome{}, problem.With(http.StatusUnauthorized, err)
		}
	}
	return outcome{}, refusal.New(refusal.Unavailable, "the roster keeps changing; try again")
}

// spend uses up the request's id, unless the request is stored: that one is asked
// for again when it was approved, and its state sees to it that it runs once.
func (s *Server) spend(c *gate.Call) error {
	err := s.store.View(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		_, err := tx.Request(c.Session.Hash)
		return err
	})
	if refusal.Of(err) != refusal.NotFound {
		return err
	}
	expires := c.Session.Request.ExpiresAt.Time().Add(wire.ClockSkew)
	return s.store.UseOnce(c.HTTP.Context(), "request:"+c.Who.Operator.String(), c.Session.Request.ID, expires)
}

// decideOnce looks up the agent, asks the policy, moves the request and records
// all that in one transaction. A refusal that must be recorded is carried out of
// the transaction beside it, because an error would roll the record back.
func (s *Server) decideOnce(c *gate.Call) (outcome, error) {
	var out outcome
	var refused error
	err := s.store.InTx(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
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
		if refused, err = s.settle(tx, c, &out); err != nil {
			return err
		}
		return s.recordDecision(tx, c, out, refused)
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
func (s *Server) settle(tx *store.Tx, c *gate.Call, out *outcome) (refused, fault error) {
	if out.decision.Effect == policy.Deny {
		return out.decision.Err(), nil
	}
	if !s.bus.Online(c.Team.ID, c.Session.Request.Agent) {
		return refusal.New(refusal.Offline, "the agent is not connected"), nil
	}
	stored, err := tx.Request(c.Session.Hash)
	switch {
	case refusal.Of(err) == refusal.NotFound && out.decision.Effect == policy.Allow:
		return nil, nil // its id was spent by spend
	case refusal.Of(err) == refusal.NotFound:
		return s.wait(tx, c, out)
	case err != nil:
		return nil, err
	}
	return s.resume(tx, c, out, stored)
}

// wait stores a request until people have decided about it.
func (s *Server) wait(tx *store.Tx, c *gate.Call, out *outcome) (refused, fault error) {
	req := c.Session.Request
	r := store.Request{
		Hash: c.Session.Hash, Session: req.Session, Operator: req.Operator, Agent: req.Agent,
		Statement: c.Session.Signed, Open: c.Session.Open, State: wire.RequestPending, Rule: out.decision.Rule,
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
func (s *Server) resume(tx *store.Tx, c *gate.Call, out *outcome, r store.Request) (refused, fault error) {
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

// introduce mints the grant and relay credentials, puts the request to the agent
// and passes on what it says.
func (s *Server) introduce(c *gate.Call, out outcome) (any, error) {
	g, err := s.grant(c, out)
	if err != nil {
		return nil, err
	}
	body, err := channel.Body(wire.OpenSession{Request: c.Session.Signed, Open: c.Session.Open, Grant: g.grant, Approvals: out.approvals, Lease: g.lease})
	if err != nil {
		return nil, err
	}
	isNew := s.begin(c, g)
	ctx, cancel := context.WithTimeout(c.HTTP.Context(), answerWithin)
	defer cancel()
	answer, err := s.bus.Ask(ctx, c.Team.ID, c.Session.Request.Agent, wire.Frame{Type: wire.FrameOpen, Body: body})
	var accept wire.Bytes
	var need *wire.ApprovalNeed
	if err == nil {
		accept, need, err = readAnswer(answer)
	}
	if err == nil {
		err = s.begun(c)
	}
	if err != nil {
		if isNew { // else it is the entry of a session that stands
			c.Team.Live.Drop(c.Session.Request.Session)
		}
		s.recordAgentRefusal(c, out, err)
		if need != nil {
			return s.waitAfterAll(c, out, *need, err)
		}
		return nil, err
	}
	return wire.SessionReply{Accept: accept, Grant: g.grant.Hash(), Relay: g.operator, Lease: g.lease}, nil
}

// granted is what the two ends of a session get: the agent its credential in the
// grant, the operator its own.
type granted struct {
	grant    statement.Signed
	operator wire.Relay
	lease    wire.Lease // of both credentials
}

func (s *Server) grant(c *gate.Call, out outcome) (g granted, err error) {
	if len(s.leases.Endpoints) == 0 {
		return g, refusal.New(refusal.RelayFailed, "this server has no relay configured")
	}
	now := time.Now()
	req := c.Session.Request
	t := wire.RelayTicket{
		IssuedAt: wire.At(now), Team: c.Who.Team.Wire(), Session: req.Session, RequestHash: c.Session.Hash,
		Operator: req.Operator, Agent: req.Agent, Pair: wire.NewNonce(),
	}
	limit := out.decision.Limits.Session
	if req.Action == wire.Ping && (limit == 0 || limit > pingLife) {
		limit = pingLife
	}
	if limit > 0 {
		t.EndsAt = wire.At(now.Add(limit))
	}
	ticket, err := s.leases.SignTicket(t)
	if err != nil {
		return g, err
	}
	agent, _ := s.leases.Credential(t, ticket, credential.Agent, now)
	g.operator, g.lease = s.leases.Credential(t, ticket, credential.Operator, now)
	g.grant, err = statement.Sign(s.keys.Grant, wire.Grant{
		ID: wire.NewNonce(), IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(wire.GrantLifetime)),
		Team: t.Team, RequestHash: t.RequestHash, Agent: t.Agent,
		Rule: out.decision.Rule, PolicyHash: out.decision.PolicyHash, Relay: agent,
	})
	return g, err
}

// readAnswer takes an agent's accept, or its refusal as the error: code and
// detail are the agent's, made harmless. need is not nil where nothing but
// approvals is missing.
func readAnswer(f wire.Frame) (accept wire.Bytes, need *wire.ApprovalNeed, err error) {
	switch f.Type {
	case wire.FrameAccept:
		var a wire.AcceptSession
		if err := strict.Decode(f.Body, &a); err != nil || len(a.Accept) == 0 {
			return nil, nil, refusal.New(refusal.ProtocolError, "the agent's answer cannot be read")
		}
		return a.Accept, nil, nil
	case wire.FrameRefuse:
		var r wire.Refuse
		if err := strict.Decode(f.Body, &r); err != nil || !r.Code.Valid() {
			return nil, nil, refusal.New(refusal.ProtocolError, "the agent's refusal cannot be read")
		}
		if r.Code != refusal.ApprovalRequired && r.Code != refusal.NotEnoughApprovers {
			r.Need = nil
		}
		return nil, r.Need, &gate.ByAgent{Err: problem.With(http.StatusForbidden, &refusal.Error{Code: r.Code, Detail: client.Harmless("the agent refused: "+r.Detail, maxDetail)})}
	}
	return nil, nil, refusal.New(refusal.ProtocolError, "the agent answered with a frame of another kind")
}
