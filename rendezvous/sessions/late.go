package sessions

import (
	"errors"
	"time"

	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/requests"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

// needOf reads what an agent misses. It is a peer's word, and may ask for anything
// but what nobody could give.
func needOf(n wire.ApprovalNeed) (policy.Approval, error) {
	need := policy.Approval{Count: n.Count, Roles: requests.Roles(n.Roles)}
	if n.Count < 1 || n.Count > approval.MaxApprovals || need.Roles == 0 || len(n.Rule) > MaxRule || !policyRule(n.Rule) {
		return need, refusal.New(refusal.ProtocolError, "the agent asks for approvals that nobody could give")
	}
	return need, nil
}

// policyRule reports whether s could be the name of a rule, or of the gate: it is shown
// to people.
func policyRule(s string) bool {
	for _, b := range []byte(s) {
		if b <= ' ' || b > '~' {
			return false
		}
	}
	return true
}

// waitAfterAll stores a request whose agent found an approval missing that the
// policy did not ask for here: only the agent knows which file a command would run
// (protocol 4.3). The agent has used up nothing, so the same OPEN may come again
// with approvals. why is the agent's refusal, which is the answer if the request
// cannot wait.
func (d *Desk) waitAfterAll(c *gate.Call, out outcome, n wire.ApprovalNeed, why error) (any, error) {
	need, err := needOf(n)
	if err != nil {
		return nil, err
	}
	if c.Now = time.Now(); !c.Now.Before(c.Session.Request.ExpiresAt.Time()) {
		return nil, why
	}
	out.decision.Effect, out.decision.Asks, out.decision.Approval = policy.NeedApproval, n.Rule, need
	out.approvals, out.uses = nil, nil
	var refused error
	err = d.Store.InTx(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) (err error) {
		out.waits = nil
		stored, err := tx.Request(c.Session.Hash)
		switch {
		case refusal.Of(err) == refusal.NotFound:
			refused, err = d.wait(tx, c, &out)
		case err == nil:
			refused, err = nil, d.reopen(tx, c, &out, stored)
		}
		if err != nil || refused != nil {
			return err
		}
		return d.recordDecision(tx, c, out, nil)
	})
	if err = errors.Join(err, refused); err != nil {
		return nil, err
	}
	c.Team.Due.Note(out.waits.ExpiresAt)
	info := out.waits.Info()
	return gate.Accepted{Reply: wire.SessionReply{Pending: &info}}, nil
}

// reopen lets a request that was approved, used and refused by its agent wait for
// what the agent misses beyond what the policy asked for here. What people decided
// stays: approvals count towards the new number.
func (d *Desk) reopen(tx *store.Tx, c *gate.Call, out *outcome, r store.Request) error {
	need := out.decision.Approval
	r.Need, r.Rule = max(r.Need, need.Count), out.decision.Asks
	r.Roles = requests.RoleNames(requests.Roles(r.Roles) & need.Roles)
	if len(r.Roles) == 0 {
		return refusal.New(refusal.PolicyDenied, "the approvals that server and agent ask for have no role in common")
	}
	if err := tx.ReopenRequest(r, c.Now); err != nil {
		return err
	}
	r.State = wire.RequestPending
	if r.Approvals == nil {
		r.Approvals = []statement.Signed{}
	}
	out.waits, out.isNew = &r, true
	return nil
}
