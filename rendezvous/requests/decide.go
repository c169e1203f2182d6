package requests

import (
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// Subject is the request that the path names.
func (q *Queue) Subject(c *gate.Call) (gate.Subject, error) {
	hash, err := c.HashVar("request")
	return gate.Subject{Request: hash}, err
}

// Approve takes a signed decision. What it does to the request is settled in the
// transaction that stores it, under the request's lock (attacks E12, K8).
func (q *Queue) Approve(c *gate.Call) (any, error) {
	hash, err := c.HashVar("request")
	if err != nil {
		return nil, err
	}
	var body wire.ApprovalPublish
	if err := strict.Decode(c.Body, &body); err != nil {
		return nil, err
	}
	var r store.Request
	var late bool
	err = q.Store.InTx(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		stored, err := tx.Request(hash)
		if err != nil {
			return err
		}
		decision, err := readApproval(c, stored, body.Approval)
		if err != nil {
			return err
		}
		r, err = tx.AddApproval(store.Approval{Request: hash, ID: decision.ID, Approver: c.Who.Operator,
			Decision: string(decision.Decision), Statement: body.Approval}, c.Now)
		late = refusal.Of(err) == refusal.ApprovalUsed && decision.Decision == approval.Deny
		if err != nil {
			r = stored
			return err
		}
		if err := conclude(c, tx, &r); err != nil {
			return err
		}
		return q.recordApproval(tx, c, r, decision, body.Approval)
	})
	if late { // too late for the request, not for what it opened
		q.Teams.Cut(c.Team, c.Now, team.One(r.Session, refusal.ApprovalDenied))
	}
	if err != nil {
		return nil, err
	}
	q.waiting.wake(hash)
	return r.Info(), nil
}

// readApproval verifies one decision as the agent will: made by the caller, for
// this request and content, by somebody who may.
func readApproval(c *gate.Call, r store.Request, signed statement.Signed) (approval.Approval, error) {
	req, _, err := statement.Open[wire.Request](r.Statement, c.State.Roster.FindOperator(c.Now))
	if err != nil {
		return approval.Approval{}, err
	}
	a, kid, err := statement.Open[approval.Approval](signed, c.State.Roster.FindOperator(c.Now))
	if err != nil {
		return a, err
	}
	if kid != c.Who.Operator {
		return a, refusal.New(refusal.NotYours, "the decision was signed by another key")
	}
	one := policy.Approval{Count: 1, Roles: Roles(r.Roles)}
	_, err = approval.Check(c.State.Roster, req, r.Hash, one, []statement.Signed{signed}, c.Now)
	if refusal.Of(err) == refusal.ApprovalDenied && a.Decision == approval.Deny {
		err = nil
	}
	return a, err
}

// conclude moves a request that has what it needs, or that somebody denied.
func conclude(c *gate.Call, tx *store.Tx, r *store.Request) error {
	req, _, err := statement.Open[wire.Request](r.Statement, c.State.Roster.FindOperator(c.Now))
	if err != nil {
		return err
	}
	_, err = approval.Check(c.State.Roster, req, r.Hash, policy.Approval{Count: r.Need, Roles: Roles(r.Roles)}, r.Approvals, c.Now)
	next := r.State
	switch {
	case err == nil:
		next = wire.RequestApproved
	case refusal.Of(err) == refusal.ApprovalDenied:
		next = wire.RequestDenied
	case refusal.Of(err) == "":
		return err
	}
	if next == r.State {
		return nil
	}
	if err := tx.SetRequestState(r.Hash, r.State, next, c.Now); err != nil {
		return err
	}
	r.State = next
	return nil
}

// Cancel withdraws a request; only whoever made it may. One that was used stays
// so, and the refusal says it, but the session that it opened ends: the operator
// has given up, perhaps in the very moment in which the agent accepted.
func (q *Queue) Cancel(c *gate.Call) (any, error) {
	hash, err := c.HashVar("request")
	if err != nil {
		return nil, err
	}
	var r store.Request
	err = q.Store.InTx(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		if r, err = tx.Request(hash); err != nil {
			return err
		}
		if r.Operator != c.Who.Operator {
			return refusal.New(refusal.NotYours, "only the requester may withdraw a request; others may deny it")
		}
		from := r.State
		if from != wire.RequestApproved {
			from = wire.RequestPending // any other state is named by the refusal
		}
		if err := tx.SetRequestState(hash, from, wire.RequestCancelled, c.Now); err != nil {
			return err
		}
		r.State = wire.RequestCancelled
		return q.recordCancel(tx, c, r)
	})
	if refusal.Of(err) == refusal.ApprovalUsed {
		q.Teams.Cut(c.Team, c.Now, team.One(r.Session, refusal.ApprovalCancelled))
	}
	if err != nil {
		return nil, err
	}
	q.waiting.wake(hash)
	return r.Info(), nil
}

func (q *Queue) recordApproval(tx *store.Tx, c *gate.Call, r store.Request, a approval.Approval, signed statement.Signed) error {
	e := c.Entry(entry.RequestApprove)
	if a.Decision == approval.Deny {
		e.Type = entry.RequestDeny
	}
	e.Approvals = []key.Hash{signed.Hash()}
	return c.Team.Log.Record(tx, c.State, about(e, r))
}

func (q *Queue) recordCancel(tx *store.Tx, c *gate.Call, r store.Request) error {
	return c.Team.Log.Record(tx, c.State, about(c.Entry(entry.RequestCancel), r))
}

func about(e entry.Entry, r store.Request) entry.Entry {
	e.Target.Agent, e.Session, e.RequestHash = r.Agent, r.Session, r.Hash
	e.Policy = entry.PolicyResult{Decision: policy.NeedApproval.String(), Rule: r.Rule, Need: r.Need}
	return e
}
