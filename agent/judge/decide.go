package judge

import (
	"errors"
	"time"

	"github.com/tucdesk/tucdesk/agent/trust"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// decide asks the newest roster, the policy and the approvals. It is called
// twice: before ACCEPT, and again when keys are about to be released, because a
// right may have been taken away in between (attack E13).
func (j *Judge) decide(q *Question, now time.Time) (Answer, error) {
	if err := j.cfg.Accused(); err != nil { // a server that showed two logs gets no new session here (protocol 5.3)
		return Answer{}, err
	}
	if err := j.cfg.Keeper.Save(); err != nil { // nothing is given by what a restart would forget
		return Answer{}, err
	}
	t, err := j.cfg.Keeper.Usable(now)
	if err != nil {
		return Answer{}, err
	}
	ans := Answer{Trust: t}
	op, err := Entitled(t, q.Request.Operator, now)
	if err != nil {
		return ans, err
	}
	if err := j.checkProgram(t.Roster, op.Role); err != nil {
		return ans, err
	}
	if err := j.checkVersions(q, t); err != nil {
		return ans, err
	}
	cert, err := t.Roster.VerifyAgent(j.cfg.Token, j.cfg.Certificate, now)
	if err != nil {
		return ans, err
	}
	ans.Decision = t.Rules.Decide(j.policyRequest(q, op, cert), now)
	switch ans.Decision.Effect {
	case policy.Allow:
		return ans, nil
	case policy.NeedApproval:
		ans.Uses, err = approval.Check(t.Roster, q.Request, q.Hash, ans.Decision.Approval, q.Offer.Approvals, now)
		if err == nil {
			err = j.remembers(ans.Uses, now)
		}
		return ans, err
	}
	err = ans.Decision.Err()
	if err == nil {
		err = errors.New("deciding: internal error: neither allowed nor refused")
	}
	return ans, err
}

// remembers refuses with ApprovalUsed approvals that were given before this program
// began: the disk may have been set back since, and the ledger on it, which then does
// not know that they were used (attack E3). Nobody else could say so: an honest server
// sees to it that a request runs once, and one that helps to run it twice would not tell.
// Ages are compared, not times, so that a clock which was ahead when the program began
// keeps nothing out until it is as late as that.
func (j *Judge) remembers(uses []approval.Use, now time.Time) error {
	for _, u := range uses {
		age := now.Sub(u.IssuedAt.Time()) - time.Millisecond // statements have no smaller part of a second
		if age > now.Sub(j.cfg.Began) {
			return refusal.New(refusal.ApprovalUsed, "an approval was given before this machine's agent began, which does not know whether it was used then")
		}
	}
	return nil
}

// checkProgram refuses with ProgramTooOld while this program is older than the
// roster asks for. Admins and owners are let through to the policy: a session may
// be the only way in to bring a newer program here, and a least version must not
// become a lock-out (protocol 3.2).
func (j *Judge) checkProgram(st *roster.State, role policy.Role) error {
	if role.AtLeast(policy.Admin) {
		return nil
	}
	return st.CheckProgram(j.cfg.Version)
}

// checkVersions compares what the operator signed with what is in force here.
// Equal versions must have equal content; an operator that is behind is judged
// by the newer roster and policy.
func (j *Judge) checkVersions(q *Question, t *trust.Trust) error {
	if q.Request.RosterVersion != t.Roster.Version() {
		return nil
	}
	if q.Request.RosterHash != t.Roster.Hash() {
		j.cfg.Logger.Error("operator and agent hold different rosters of one version", "version", t.Roster.Version(), "operator", q.Request.Operator.ShortCode())
		return refusal.New(refusal.Fork, "operator and agent hold different rosters of version %d", t.Roster.Version())
	}
	if q.Request.PolicyHash != t.Rules.Hash() {
		return refusal.New(refusal.PolicyMismatch, "the request names another policy than the roster")
	}
	return nil
}

// policyRequest puts the question to the policy. Name and tags are the
// certificate's, whatever this host calls itself (attack F7).
func (j *Judge) policyRequest(q *Question, op roster.Operator, cert roster.AgentCert) *policy.Request {
	p := &q.Request.Params
	names := make([]string, len(p.Env))
	for i, v := range p.Env {
		names[i] = v.Name
	}
	argv := make([][]byte, len(p.Argv))
	for i, arg := range p.Argv {
		argv[i] = arg
	}
	return &policy.Request{
		Action: policy.Action(q.Request.Action), Argv: argv, File: q.File.Path,
		Cwd: string(p.Cwd), Env: names, User: p.User, Self: j.cfg.User,
		Agent: cert.Name, Tags: cert.Tags,
		Operator: q.Request.Operator, Email: op.Email, Person: op.Person, Role: op.Role,
	}
}

// Again asks once more, when the operator has proved its key: whether q is still in
// time, and what is decided on it by what is in force now (attack E13).
func (j *Judge) Again(q *Question, now time.Time) (Answer, error) {
	if err := inTime("request", q.Request.IssuedAt, q.Request.ExpiresAt, wire.GatedRequestLifetime, now); err != nil {
		return Answer{}, err
	}
	return j.decide(q, now)
}
