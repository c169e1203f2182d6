package rendezvous

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/rendezvous/channel"
	"github.com/tucdesk/tucdesk/rendezvous/client"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
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

// sessionCall is a session request after its statement was verified.
type sessionCall struct {
	req    wire.Request
	hash   key.Hash
	signed statement.Signed
	open   wire.Bytes // M1
}

// sessionSubject reads and verifies the request, so that the proof can be held
// against what it asks for.
func (s *Server) sessionSubject(c *call) (subject, error) {
	var body wire.SessionOpen
	if err := strict.Decode(c.body, &body); err != nil {
		return subject{}, err
	}
	if len(body.Open) == 0 || len(body.Open) > maxOpen {
		return subject{}, refusal.New(refusal.BadMessage, "the OPEN message has 1 to %d bytes", maxOpen)
	}
	req, kid, err := statement.Open[wire.Request](body.Request, c.state.Roster.FindOperator(c.now))
	if err != nil {
		return subject{}, err
	}
	if kid != c.who.Operator || req.Operator != kid || req.Team != c.who.Team.Wire() {
		return subject{}, refusal.New(refusal.NotYours, "the request was signed by another key or for another team")
	}
	c.open = &sessionCall{req: req, hash: body.Request.Hash(), signed: body.Request, open: body.Open}
	return subject{session: req.Session, agent: req.Agent, request: c.open.hash}, nil
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
func (s *Server) openSession(c *call) (any, error) {
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
		return accepted{wire.SessionReply{Pending: &info}}, nil
	}
	return s.introduce(c, out)
}

// mayOpenNow takes what a session costs its operator. Pings are counted by
// themselves and more narrowly: they need nobody's approval and little right, and
// each costs an agent a process and a relay a place, so a script that pings must
// neither fill those nor keep its operator from sessions.
func (s *Server) mayOpenNow(c *call) (leave func(), err error) {
	operator := c.who.Operator
	if c.open.req.Action != wire.Ping {
		if !s.sessions.Allow(operator, c.now) {
			return nil, refusal.New(refusal.RateLimited, "too many sessions opened with this key; wait a moment")
		}
		return func() {}, nil
	}
	leave, ok := s.pinging.Enter(operator)
	if !ok {
		return nil, refusal.New(refusal.TooMany, "%d pings of this key wait for an answer; let one end first", maxPinging)
	}
	if !s.pings.Allow(operator, c.now) {
		leave()
		return nil, refusal.New(refusal.RateLimited, "too many pings with this key; wait a moment")
	}
	return leave, nil
}

// checkRequest compares the request with the clock and with the roster in force
// here. Whether the agent is up to date is the agent's to find out (protocol 3.3,
// freeze): the request names the operator's version, and lies are not possible.
func (s *Server) checkRequest(c *call) error {
	req, st := c.open.req, c.state.Roster
	life := req.ExpiresAt.Time().Sub(req.IssuedAt.Time())
	switch {
	case req.IssuedAt.Time().After(c.now.Add(wire.ClockSkew)):
		return refusal.New(refusal.NotYetValid, "the request was made in the future; set the clock")
	case !c.now.Before(req.ExpiresAt.Time()):
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
	return c.state.MayOpen(c.now)
}

// errRosterMoved makes decide start over: the roster changed between the check
// and the transaction (attack K16).
var errRosterMoved = errors.New("the roster changed meanwhile")

// maxMoves bounds how often; our choice.
const maxMoves = 3

func (s *Server) decide(c *call) (outcome, error) {
	if err := s.spend(c); err != nil {
		return outcome{}, err
	}
	for range maxMoves {
		out, err := s.decideOnce(c)
		if !errors.Is(err, errRosterMoved) {
			return out, err
		}
		if c.state, err = s.teams.Refresh(c.http.Context(), c.team); err != nil {
			return outcome{}, err
		}
		if c.op, err = c.state.Roster.Operator(c.who.Operator, c.now); err != nil {
			return outcome{}, problem.With(http.StatusUnauthorized, err)
		}
	}
	return outcome{}, refusal.New(refusal.Unavailable, "the roster keeps changing; try again")
}

// spend uses up the request's id, unless the request is stored: that one is asked
// for again when it was approved, and its state sees to it that it runs once.
func (s *Server) spend(c *call) error {
	err := s.store.View(c.http.Context(), c.team.ID, func(tx *store.Tx) error {
		_, err := tx.Request(c.open.hash)
		return err
	})
	if refusal.Of(err) != refusal.NotFound {
		return err
	}
	expires := c.open.req.ExpiresAt.Time().Add(wire.ClockSkew)
	return s.store.UseOnce(c.http.Context(), "request:"+c.who.Operator.String(), c.open.req.ID, expires)
}

// decideOnce looks up the agent, asks the policy, moves the request and records
// all that in one transaction. A refusal that must be recorded is carried out of
// the transaction beside it, because an error would roll the record back.
func (s *Server) decideOnce(c *call) (outcome, error) {
	var out outcome
	var refused error
	err := s.store.InTx(c.http.Context(), c.team.ID, func(tx *store.Tx) error {
		out, refused = outcome{}, nil
		record, err := tx.Record()
		if err != nil {
			return err
		}
		if record.RosterVersion != c.state.Roster.Version() {
			return errRosterMoved
		}
		// Locked, so that no deletion overtakes what is decided here (attack K16).
		switch there, err := tx.LockAgent(c.open.req.Agent); {
		case err != nil:
			return err
		case !there:
			return team.NotFound()
		}
		if out.agent, err = tx.Agent(c.open.req.Agent); err != nil {
			return err
		}
		if out.cert, err = certOf(c.state.Roster, out.agent, c); err != nil {
			return err
		}
		out.decision = c.ask(out.cert)
		if refused, err = s.settle(tx, c, &out); err != nil {
			return err
		}
		return s.recordDecision(tx, c, out, refused)
	})
	if err != nil {
		return outcome{}, err
	}
	if refused != nil {
		c.recorded = true
		return outcome{}, refused
	}
	if out.waits != nil {
		c.team.Due.Note(out.waits.ExpiresAt)
	}
	return out, nil
}

// ask puts the policy's question: facts from roster, certificate and request
// only, never from what an agent says about itself (attack F7).
func (c *call) ask(cert roster.AgentCert) policy.Decision {
	if c.state.Rules == nil {
		return policy.Decision{Code: refusal.PolicyDenied, Reason: "the team has no policy yet"}
	}
	req := c.open.req
	q := policy.Request{
		Action: policy.Action(req.Action), Unresolved: true, Cwd: string(req.Params.Cwd), User: req.Params.User,
		Agent: cert.Name, Tags: cert.Tags,
		Operator: c.who.Operator, Email: c.op.Email, Person: c.op.Person, Role: c.op.Role,
	}
	for _, a := range req.Params.Argv {
		q.Argv = append(q.Argv, a)
	}
	for _, v := range req.Params.Env {
		q.Env = append(q.Env, v.Name)
	}
	return c.state.Rules.Decide(&q, c.now)
}

// settle turns the policy's answer into what happens to this request now. A
// request that was stored once goes by its stored state, whatever the policy says
// since: a denial is not undone by a milder rule.
func (s *Server) settle(tx *store.Tx, c *call, out *outcome) (refused, fault error) {
	if out.decision.Effect == policy.Deny {
		return out.decision.Err(), nil
	}
	if !s.bus.Online(c.team.ID, c.open.req.Agent) {
		return refusal.New(refusal.Offline, "the agent is not connected"), nil
	}
	stored, err := tx.Request(c.open.hash)
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
func (s *Server) wait(tx *store.Tx, c *call, out *outcome) (refused, fault error) {
	req := c.open.req
	r := store.Request{
		Hash: c.open.hash, Session: req.Session, Operator: req.Operator, Agent: req.Agent,
		Statement: c.open.signed, Open: c.open.open, State: wire.RequestPending, Rule: out.decision.Rule,
		Need: out.decision.Approval.Count, Roles: roleNames(out.decision.Approval.Roles),
		CreatedAt: wire.At(c.now), ExpiresAt: req.ExpiresAt, Approvals: []statement.Signed{},
	}
	open, err := tx.OpenRequests(req.Operator)
	if err != nil {
		return nil, err
	}
	if open >= maxOpenRequests {
		return refusal.New(refusal.TooMany, "%d of your requests wait already; cancel some", open), nil
	}
	err = tx.PutRequest(r)
	if refusal.Of(err) == refusal.Replay {
		return err, nil
	}
	out.waits, out.isNew = &r, true
	return nil, err
}

// resume goes on with a stored request. The approvals are judged again by the
// roster of now (attack E13), and approved becomes used in one statement, so that
// of two calls one goes on (attack E12).
func (s *Server) resume(tx *store.Tx, c *call, out *outcome, r store.Request) (refused, fault error) {
	switch r.State {
	case wire.RequestPending:
		out.waits = &r
		return nil, nil
	case wire.RequestApproved:
	default:
		return tx.SetRequestState(r.Hash, wire.RequestApproved, wire.RequestUsed, c.now), nil // says why not
	}
	need := policy.Approval{Count: r.Need, Roles: rolesOf(r.Roles)}
	if out.decision.Effect == policy.NeedApproval {
		need = policy.Approval{Count: max(need.Count, out.decision.Approval.Count), Roles: need.Roles & out.decision.Approval.Roles}
	}
	uses, err := approval.Check(c.state.Roster, c.open.req, r.Hash, need, r.Approvals, c.now)
	if err != nil {
		return err, nil
	}
	out.approvals, out.uses = r.Approvals, uses
	return nil, tx.SetRequestState(r.Hash, wire.RequestApproved, wire.RequestUsed, c.now)
}

// introduce mints the grant and relay credentials, puts the request to the agent
// and passes on what it says.
func (s *Server) introduce(c *call, out outcome) (any, error) {
	g, err := s.grant(c, out)
	if err != nil {
		return nil, err
	}
	body, err := channel.Body(wire.OpenSession{Request: c.open.signed, Open: c.open.open, Grant: g.grant, Approvals: out.approvals, Lease: g.lease})
	if err != nil {
		return nil, err
	}
	isNew := s.begin(c, g)
	ctx, cancel := context.WithTimeout(c.http.Context(), answerWithin)
	defer cancel()
	answer, err := s.bus.Ask(ctx, c.team.ID, c.open.req.Agent, wire.Frame{Type: wire.FrameOpen, Body: body})
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
			c.team.Live.Drop(c.open.req.Session)
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

func (s *Server) grant(c *call, out outcome) (g granted, err error) {
	if len(s.cfg.Endpoints) == 0 {
		return g, refusal.New(refusal.RelayFailed, "this server has no relay configured")
	}
	now := time.Now()
	req := c.open.req
	t := wire.RelayTicket{
		IssuedAt: wire.At(now), Team: c.who.Team.Wire(), Session: req.Session, RequestHash: c.open.hash,
		Operator: req.Operator, Agent: req.Agent, Pair: wire.NewNonce(),
	}
	limit := out.decision.Limits.Session
	if req.Action == wire.Ping && (limit == 0 || limit > pingLife) {
		limit = pingLife
	}
	if limit > 0 {
		t.EndsAt = wire.At(now.Add(limit))
	}
	ticket, err := s.signTicket(t)
	if err != nil {
		return g, err
	}
	agent, _ := s.credentialOf(t, ticket, credential.Agent, now)
	g.operator, g.lease = s.credentialOf(t, ticket, credential.Operator, now)
	g.grant, err = statement.Sign(s.keys.Grant, wire.Grant{
		ID: wire.NewNonce(), IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(wire.GrantLifetime)),
		Team: t.Team, RequestHash: t.RequestHash, Agent: t.Agent,
		Rule: out.decision.Rule, PolicyHash: out.decision.PolicyHash, Relay: agent,
	})
	return g, err
}

func (s *Server) relayOf(c credential.Credential) wire.Relay {
	list := make([]wire.RelayEndpoint, len(s.cfg.Endpoints))
	for i, e := range s.cfg.Endpoints {
		list[i] = e.endpoint()
	}
	return wire.Relay{Endpoints: list, Username: c.Username, Password: c.Password, ExpiresAt: wire.At(c.ExpiresAt)}
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
		return nil, r.Need, &byAgent{problem.With(http.StatusForbidden, &refusal.Error{Code: r.Code, Detail: client.Harmless("the agent refused: "+r.Detail, maxDetail)})}
	}
	return nil, nil, refusal.New(refusal.ProtocolError, "the agent answered with a frame of another kind")
}

// byAgent is a refusal in an agent's words. It is counted under one name: agents
// must not choose the names of our counters, of which there would be no end.
type byAgent struct{ error }

// Unwrap gives the refusal.
func (b *byAgent) Unwrap() error { return b.error }

func roleNames(set policy.RoleSet) []string {
	names := []string{}
	for r := policy.Viewer; r <= policy.Owner; r++ {
		if set.Has(r) {
			names = append(names, r.String())
		}
	}
	return names
}

// rolesOf reads what roleNames wrote; a name that no longer exists drops out,
// which asks for more, never for less.
func rolesOf(names []string) policy.RoleSet {
	var list []policy.Role
	for _, n := range names {
		if r, err := policy.ParseRole(n); err == nil {
			list = append(list, r)
		}
	}
	return policy.Roles(list...)
}
