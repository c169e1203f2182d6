package judge

import (
	"time"

	"github.com/tucdesk/tucdesk/agent/trust"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// May decides whether something may be done in a session that was opened by q with
// ans: what its signed request leaves open, such as the target of a connection. The
// newest roster and policy decide each time, so a right that is taken away is gone
// for the next connection. action and target are as policies write them.
func (j *Judge) May(q *Question, ans Answer, action wire.Action, target string, now time.Time) (policy.Decision, error) {
	if !belongs(q.Request.Action, action) || policy.Action(action) == policy.Background && q.Request.Params.Keep != nil {
		return policy.Decision{}, refusal.New(refusal.BadArgument, "the session was opened for something else")
	}
	t, d, err := j.within(q, action, target, now)
	if err != nil {
		return policy.Decision{}, err
	}
	if policy.Action(action) == policy.Background && d.Effect != policy.Deny && ans.Decision.Approval.Count > 0 && !t.Rules.Names(ans.Decision.Rule, policy.Background) {
		return policy.Decision{}, refusal.New(refusal.PolicyDenied, "the session needed approval, and the rule that allowed it does not name background")
	}
	if d.Effect == policy.NeedApproval && met(d.Approval, ans.Decision.Approval) {
		return d, nil
	}
	return d, d.Err()
}

// MayShell reports whether who asked q may have a shell as the same user, and needs
// nobody's approval for it: a copy gives them nothing then that they could not have
// made there themselves. Nothing is opened by it.
func (j *Judge) MayShell(q *Question, now time.Time) bool {
	_, d, err := j.within(q, wire.Shell, "", now)
	return err == nil && d.Effect == policy.Allow
}

// within decides about an action of who asked q, as the user that q names.
func (j *Judge) within(q *Question, action wire.Action, target string, now time.Time) (*trust.Trust, policy.Decision, error) {
	t, err := j.cfg.Keeper.Usable(now)
	if err != nil {
		return t, policy.Decision{}, err
	}
	op, err := Entitled(t, q.Request.Operator, now)
	if err != nil {
		return t, policy.Decision{}, err
	}
	cert, err := t.Roster.VerifyAgent(j.cfg.Token, j.cfg.Certificate, now)
	if err != nil {
		return t, policy.Decision{}, err
	}
	r := j.policyRequest(q, op, cert)
	r.Action, r.Target, r.Argv, r.File, r.Cwd, r.Env = policy.Action(action), target, nil, "", "", nil
	return t, t.Rules.Decide(r, now), nil
}

// belongs reports what may be asked for in a session of an action: a session for
// files reaches nothing, one for forwards reads nothing.
func belongs(session, asked wire.Action) bool {
	switch policy.Action(asked) {
	case policy.CopyRead, policy.CopyWrite:
		return session == wire.Copy
	case policy.ForwardLocal, policy.ForwardRemote:
		return session == wire.Forward
	case policy.ForwardAgent, policy.Background:
		return session == wire.Shell || session == wire.Exec
	}
	return false
}

// met reports that the approvals with which a session was opened are at least what
// is asked for now.
func met(need, had policy.Approval) bool {
	return had.Count >= need.Count && had.Roles != 0 && had.Roles&^need.Roles == 0
}
