package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/agent/trust"
	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// fetchLimit is how long an OPEN waits for a roster that the operator knows and
// the agent does not; our choice, well inside the operator's own patience.
const fetchLimit = 5 * time.Second

// protocolVersion is TDS1.
const protocolVersion = 1

// question is one OPEN that was verified: who asks for what. It says nothing yet
// about whether that may be.
type question struct {
	offer    wire.OpenSession
	open     handshake.Open
	request  wire.Request
	hash     key.Hash // of the request's statement
	operator roster.Operator
	grant    wire.Grant
	need     *wire.ApprovalNeed // set when only approvals are missing

	account process.Account
	dir     string
	file    process.File // of Exec; Path is "" for Shell
}

// answer is the decision on a question at one moment.
type answer struct {
	trust    *trust.Trust
	decision policy.Decision
	uses     []approval.Use
}

// judge does everything that protocol 2.5 demands before ACCEPT, in its order,
// one named refusal for each. The question is returned as far as it was verified,
// also with an error, for the audit log; its operator is zero until the request's
// signature was right.
func (a *Agent) judge(ctx context.Context, offer wire.OpenSession, now time.Time) (*question, answer, error) {
	q := &question{offer: offer}
	var err error
	if q.open, err = handshake.ParseOpen(offer.Open); err != nil {
		return q, answer{}, err
	}
	if err := a.identify(ctx, q, now); err != nil {
		return q, answer{}, err
	}
	if err := a.once(q, now); err != nil {
		return q, answer{}, err
	}
	if err := a.checkRequest(q, now); err != nil {
		return q, answer{}, err
	}
	if err := a.checkGrant(q, now); err != nil {
		return q, answer{}, err
	}
	if err := q.resolve(); err != nil {
		return q, answer{}, a.discreet(q, err, now)
	}
	ans, err := a.decide(q, now)
	if asksForApproval(err) {
		a.waiting.add(q.hash, q.request.ExpiresAt.Time(), now)
		q.need = needOf(ans.decision)
	}
	return q, ans, err
}

// asksForApproval reports the refusals after which the same OPEN may come again
// with more approvals. Nothing was answered, so nothing can be replayed.
func asksForApproval(err error) bool {
	code := refusal.Of(err)
	return code == refusal.ApprovalRequired || code == refusal.NotEnoughApprovers
}

// needOf says what is missing, for the server to ask people for.
func needOf(d policy.Decision) *wire.ApprovalNeed {
	need := &wire.ApprovalNeed{Rule: d.Rule, Count: d.Approval.Count, Roles: []string{}}
	for r := policy.Viewer; r <= policy.Owner; r++ {
		if d.Approval.Roles.Has(r) {
			need.Roles = append(need.Roles, r.String())
		}
	}
	return need
}

// identify finds out who asks: roster in force and not behind the operator's,
// key in it, role that may open sessions, signature of the request.
func (a *Agent) identify(ctx context.Context, q *question, now time.Time) error {
	var op roster.Operator
	find := func(req wire.Request, kid key.ID) (_ statement.Verifier, err error) {
		if err := a.catchUp(ctx, req.RosterVersion); err != nil {
			return nil, err
		}
		t, err := a.keeper.Usable(now)
		if err != nil {
			return nil, err
		}
		if op, err = t.Roster.Operator(kid, now); err != nil {
			return nil, err
		}
		if !op.Role.AtLeast(policy.Operator) {
			return nil, refusal.New(refusal.WrongRole, "role %s opens no sessions", op.Role)
		}
		return op.Key, nil
	}
	req, kid, err := statement.OpenSelfSigned(q.offer.Request, find)
	if err != nil {
		return err
	}
	if req.Operator != kid {
		return refusal.New(refusal.UnknownKey, "the request names another operator than its signer")
	}
	q.request, q.operator, q.hash = req, op, q.offer.Request.Hash()
	return a.limits.take(kid, now)
}

// catchUp fetches the roster that the operator knows, so that a lying server
// cannot keep the agent in the past (attack G5). What the request says is not
// verified yet: the worst it can do is to make us ask the server once.
func (a *Agent) catchUp(ctx context.Context, version uint64) error {
	t, changed := a.keeper.Get()
	if t.Roster.Version() >= version {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	if err := a.wantRoster(ctx); err != nil {
		return refusal.New(refusal.RosterBehind, "the operator knows roster version %d, the server cannot be asked for it", version)
	}
	for t.Roster.Version() < version {
		select {
		case <-changed:
			t, changed = a.keeper.Get()
		case <-ctx.Done():
			return refusal.New(refusal.RosterBehind, "the operator knows roster version %d, here it is %d, and the server does not hand out more", version, t.Roster.Version())
		}
	}
	return nil
}

// once refuses what was seen before: the request's id, the session's and the
// operator's ephemeral key (attacks B2, B10). It stands after the signature,
// although protocol 2.5 lists it before: an id that anybody may write into the
// cache would let the server push out others' and raise their floor.
func (a *Agent) once(q *question, now time.Time) error {
	if a.waiting.take(q.hash, now) {
		return nil
	}
	kid := q.request.Operator.String()
	eph := q.open.Ephemeral()
	sum := sha256.Sum256(eph[:])
	issued, expires := q.request.IssuedAt.Time(), q.request.ExpiresAt.Time().Add(wire.ClockSkew)
	for _, id := range []struct {
		kind string
		id   [16]byte
	}{{"/request", q.request.ID}, {"/session", q.request.Session}, {"/ephemeral", [16]byte(sum[:16])}} {
		if err := a.seen.Use(kid+id.kind, id.id, issued, expires, now); err != nil {
			return err
		}
	}
	if a.sessions.has(q.request.Session) {
		return refusal.New(refusal.Replay, "a session of this id is open")
	}
	return nil
}

// checkRequest compares the request with the handshake message beside it, with
// this agent and with the clock.
func (a *Agent) checkRequest(q *question, now time.Time) error {
	r := &q.request
	switch {
	case r.Eph != q.open.EphHash():
		return refusal.New(refusal.EphMismatch, "the request was signed for another ephemeral key")
	case q.open.RequestHash != q.hash, q.open.Session != [16]byte(r.Session), q.open.RosterHash != r.RosterHash:
		return refusal.New(refusal.BadMessage, "OPEN and the request beside it do not belong together")
	case len(r.Suites) == 0 || r.Suites[0] != uint16(q.open.Suite):
		return refusal.New(refusal.NoCommonSuite, "OPEN begins with another suite than the signed request")
	case !slices.Contains(r.Protocols, protocolVersion):
		return refusal.New(refusal.NoCommonSuite, "the operator does not offer protocol version %d", protocolVersion)
	case r.Agent != a.identity.ID():
		return refusal.New(refusal.WrongAgent, "the request is for another agent")
	case r.Team != a.cert.Team:
		return refusal.New(refusal.WrongTeam, "the request is of another team")
	}
	return inTime("request", r.IssuedAt, r.ExpiresAt, wire.GatedRequestLifetime, now)
}

// inTime checks a statement's times against this clock. Only issue times get an
// allowance: a late end would keep a withdrawn right alive.
func inTime(what string, issued, expires wire.Millis, longest time.Duration, now time.Time) error {
	switch {
	case issued.Time().After(now.Add(wire.ClockSkew)):
		return refusal.New(refusal.NotYetValid, "the %s is issued in the future: compare the clocks", what)
	case expires <= issued || expires.Time().Sub(issued.Time()) > longest:
		return refusal.New(refusal.BadTime, "the %s lives more than 0 and at most %v", what, longest)
	case !now.Before(expires.Time()):
		return refusal.New(refusal.Expired, "the %s expired at %s", what, expires.Time().Format(time.RFC3339))
	}
	return nil
}

// checkGrant demands the rendezvous' consent to this very request.
func (a *Agent) checkGrant(q *question, now time.Time) error {
	t, _ := a.keeper.Get()
	grant, _, err := statement.Open[wire.Grant](q.offer.Grant, t.Roster.FindGrant)
	if err != nil {
		return err
	}
	switch {
	case grant.RequestHash != q.hash || grant.Agent != a.identity.ID() || grant.Team != a.cert.Team:
		return refusal.New(refusal.GrantMismatch, "the grant is for another request")
	case len(grant.Relay.Endpoints) > wire.MaxRelayEndpoints:
		return refusal.New(refusal.TooMany, "the grant lists %d relays; at most %d", len(grant.Relay.Endpoints), wire.MaxRelayEndpoints)
	}
	q.grant = grant
	return inTime("grant", grant.IssuedAt, grant.ExpiresAt, wire.GrantLifetime, now)
}

// resolve finds out what the request means on this host: which user, which
// folder, which file (protocol 4.3, "command identity").
func (q *question) resolve() error {
	r := &q.request
	if r.Action != wire.Shell && r.Action != wire.Exec && r.Action != wire.Ping {
		return refusal.New(refusal.BadArgument, "this version of the agent knows no such action")
	}
	switch n := len(r.Params.Argv); {
	case r.Action == wire.Exec && n == 0:
		return refusal.New(refusal.BadArgument, "exec has no arguments")
	case r.Action == wire.Shell && n > 1:
		return refusal.New(refusal.BadArgument, "shell has more than one command line")
	case r.Action == wire.Ping && !r.Params.Empty():
		return refusal.New(refusal.BadArgument, "ping runs nothing and takes no parameters")
	}
	for _, arg := range r.Params.Argv {
		if slices.Contains(arg, 0) {
			return refusal.New(refusal.BadArgument, "an argument holds a zero byte")
		}
	}
	var err error
	if r.Action == wire.Ping { // nothing runs in it, so it needs no rights
		q.account, err = process.Nobody()
		return err
	}
	if q.account, err = process.LookUp(r.Params.User); err != nil {
		return err
	}
	q.dir = q.account.Home
	if cwd := string(r.Params.Cwd); cwd != "" {
		if !filepath.IsAbs(cwd) || slices.Contains(r.Params.Cwd, 0) {
			return refusal.New(refusal.BadArgument, "the working directory is not an absolute path")
		}
		q.dir = cwd
	}
	if _, err := process.Environment(q.account, "", pair.Variables(r.Params.Env)); err != nil {
		return err
	}
	if r.Action == wire.Exec {
		q.file, err = process.Resolve(string(r.Params.Argv[0]), q.dir)
	}
	return err
}

// discreet keeps from those who have no right here what files there are: the agent
// may be root and see all of them. Who could run a program of that name may hear
// why it does not run.
func (a *Agent) discreet(q *question, refused error, now time.Time) error {
	if code := refusal.Of(refused); code != refusal.CommandNotFound && code != refusal.NotExecutable {
		return refused
	}
	t, err := a.keeper.Usable(now)
	if err != nil {
		return err
	}
	cert, err := t.Roster.VerifyAgent(a.member.Token, a.member.Certificate, now)
	if err != nil {
		return err
	}
	asked := a.policyRequest(q, q.operator, cert)
	asked.Unresolved = true
	if d := t.Rules.Decide(asked, now); d.Effect == policy.Deny {
		return d.Err()
	}
	return refused
}

// decide asks the newest roster, the policy and the approvals. It is called
// twice: before ACCEPT, and again when keys are about to be released, because a
// right may have been taken away in between (attack E13).
func (a *Agent) decide(q *question, now time.Time) (answer, error) {
	if err := a.witness.Err(); err != nil { // a server that showed two logs gets no new session here (protocol 5.3)
		return answer{}, err
	}
	if err := a.keeper.Save(); err != nil { // nothing is given by what a restart would forget
		return answer{}, err
	}
	t, err := a.keeper.Usable(now)
	if err != nil {
		return answer{}, err
	}
	ans := answer{trust: t}
	op, err := t.Roster.Operator(q.request.Operator, now)
	if err != nil {
		return ans, err
	}
	if err := a.checkProgram(t.Roster, op.Role); err != nil {
		return ans, err
	}
	if err := a.checkVersions(q, t); err != nil {
		return ans, err
	}
	cert, err := t.Roster.VerifyAgent(a.member.Token, a.member.Certificate, now)
	if err != nil {
		return ans, err
	}
	ans.decision = t.Rules.Decide(a.policyRequest(q, op, cert), now)
	switch ans.decision.Effect {
	case policy.Allow:
		return ans, nil
	case policy.NeedApproval:
		ans.uses, err = approval.Check(t.Roster, q.request, q.hash, ans.decision.Approval, q.offer.Approvals, now)
		return ans, err
	}
	err = ans.decision.Err()
	if err == nil {
		err = errors.New("deciding: internal error: neither allowed nor refused")
	}
	return ans, err
}

// checkProgram refuses with ProgramTooOld while this program is older than the
// roster asks for. Admins and owners are let through to the policy: a session may
// be the only way in to bring a newer program here, and a least version must not
// become a lock-out (protocol 3.2).
func (a *Agent) checkProgram(st *roster.State, role policy.Role) error {
	if role.AtLeast(policy.Admin) {
		return nil
	}
	return st.CheckProgram(a.version)
}

// checkVersions compares what the operator signed with what is in force here.
// Equal versions must have equal content; an operator that is behind is judged
// by the newer roster and policy.
func (a *Agent) checkVersions(q *question, t *trust.Trust) error {
	if q.request.RosterVersion != t.Roster.Version() {
		return nil
	}
	if q.request.RosterHash != t.Roster.Hash() {
		a.log.Error("operator and agent hold different rosters of one version", "version", t.Roster.Version(), "operator", q.request.Operator.ShortCode())
		return refusal.New(refusal.Fork, "operator and agent hold different rosters of version %d", t.Roster.Version())
	}
	if q.request.PolicyHash != t.Rules.Hash() {
		return refusal.New(refusal.PolicyMismatch, "the request names another policy than the roster")
	}
	return nil
}

// policyRequest puts the question to the policy. Name and tags are the
// certificate's, whatever this host calls itself (attack F7).
func (a *Agent) policyRequest(q *question, op roster.Operator, cert roster.AgentCert) *policy.Request {
	p := &q.request.Params
	names := make([]string, len(p.Env))
	for i, v := range p.Env {
		names[i] = v.Name
	}
	argv := make([][]byte, len(p.Argv))
	for i, arg := range p.Argv {
		argv[i] = arg
	}
	return &policy.Request{
		Action: policy.Action(q.request.Action), Argv: argv, File: q.file.Path,
		Cwd: string(p.Cwd), Env: names, User: p.User, Self: a.self.Name,
		Agent: cert.Name, Tags: cert.Tags,
		Operator: q.request.Operator, Email: op.Email, Person: op.Person, Role: op.Role,
	}
}
