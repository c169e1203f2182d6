package approval

import (
	"slices"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// Use is one approval that was counted: its ID is to be recorded in the Ledger
// before anything runs, the rest goes into the audit log.
type Use struct {
	ID        wire.Nonce
	Hash      key.Hash // of the approval's statement
	Approver  key.ID
	Person    string
	IssuedAt  wire.Millis
	ExpiresAt wire.Millis
}

// Check decides whether the approvals meet need for req, whose statement has the
// given hash, at now and by the newest roster st. The caller has verified req
// itself, and afterwards records the uses and the request's own id in the Ledger;
// only when that succeeded may it start anything.
//
// Approvals that do not hold are left out, and the first one's refusal is
// returned if those that hold are too few: unknown_key, wrong_role,
// bad_signature, bad_statement; approver_not_allowed (no longer, or not in this
// role); self_approval; approval_mismatch (another request, or other content);
// bad_time, expired. Besides, approval_required when none was offered,
// not_enough_approvers when too few people agree, approval_denied when somebody
// rightly said no, too_many, bad_argument.
func Check(st *roster.State, req wire.Request, hash key.Hash, need policy.Approval, approvals []statement.Signed, now time.Time) ([]Use, error) {
	c := checker{st: st, req: req, hash: hash, need: need, now: now, people: make(map[string]bool)}
	if err := c.request(len(approvals)); err != nil {
		return nil, err
	}
	for _, s := range approvals {
		c.take(s)
	}
	return c.conclude()
}

// checker is one call of Check.
type checker struct {
	st        *roster.State
	req       wire.Request
	hash      key.Hash
	need      policy.Approval
	now       time.Time
	requester roster.Operator

	uses   []Use
	people map[string]bool // who agreed
	denied bool
	first  error // why the first approval that does not hold does not
}

// request checks what the approvals are about.
func (c *checker) request(offered int) error {
	switch {
	case offered > MaxApprovals:
		return refusal.New(refusal.TooMany, "%d approvals offered; at most %d", offered, MaxApprovals)
	case c.req.Team != c.st.Team():
		return refusal.New(refusal.WrongTeam, "the request is of another team")
	case c.hash.IsZero():
		return refusal.New(refusal.BadRequest, "the request has no hash")
	case wire.At(c.now) >= c.req.ExpiresAt:
		return refusal.New(refusal.Expired, "the request expired at %s", c.req.ExpiresAt.Time().Format(time.RFC3339))
	}
	if err := checkParams(c.req.Params); err != nil {
		return err
	}
	var err error
	c.requester, err = c.st.Operator(c.req.Operator, c.now)
	return err
}

func (c *checker) take(s statement.Signed) {
	a, by, err := c.open(s)
	if err == nil && a.Decision == Deny {
		c.denied = true
		return
	}
	if err == nil {
		err = c.usable(a)
	}
	if err != nil {
		if c.first == nil {
			c.first = err
		}
		return
	}
	c.people[by.Person] = true
	c.uses = append(c.uses, Use{ID: a.ID, Hash: s.Hash(), Approver: by.Key.ID(), Person: by.Person, IssuedAt: a.IssuedAt, ExpiresAt: a.ExpiresAt})
}

// open verifies who says what about this request. A denial is taken from
// whoever might have approved and from who asked, who may change their mind.
func (c *checker) open(s statement.Signed) (Approval, roster.Operator, error) {
	var by roster.Operator
	a, _, err := statement.Open[Approval](s, func(id key.ID) (_ statement.Verifier, err error) {
		if by, err = c.st.Operator(id, c.now); err != nil {
			return nil, noLonger(err)
		}
		return by.Key, nil
	})
	if err != nil {
		return a, by, err
	}
	own := by.Person == c.requester.Person
	switch {
	case a.Decision != Approve && a.Decision != Deny:
		return a, by, refusal.New(refusal.BadStatement, "an approval that neither approves nor denies")
	case a.RequestHash != c.hash || !a.repeats(c.req, c.hash):
		return a, by, refusal.New(refusal.ApprovalMismatch, "the approval is for another request or other content")
	case own && a.Decision == Approve:
		return a, by, refusal.New(refusal.SelfApproval, "the approver is who asked, %q", by.Person)
	case !own && !c.need.Roles.Has(by.Role):
		return a, by, refusal.New(refusal.ApproverNotAllowed, "role %s may not decide here; needed is one of: %s", by.Role, c.need.Roles)
	}
	return a, by, nil
}

// noLonger tells a key that lost its right since from one that never had any
// (attack E13).
func noLonger(err error) error {
	switch refusal.Of(err) {
	case refusal.KeyRevoked, refusal.Expired:
		return refusal.New(refusal.ApproverNotAllowed, "the approver's key is revoked or has ended")
	}
	return err
}

// usable checks what only an approval to be counted must keep to.
func (c *checker) usable(a Approval) error {
	if slices.ContainsFunc(c.uses, func(u Use) bool { return u.ID == a.ID }) {
		return refusal.New(refusal.ApprovalUsed, "the approval is offered twice")
	}
	return c.timely(a)
}

// timely bounds an approval's own times. Its issue time is compared with the
// request's under the usual allowance between two clocks: the request's hash
// already proves which came first.
func (c *checker) timely(a Approval) error {
	at, skew := wire.At(c.now), wire.Millis(wire.ClockSkew.Milliseconds())
	switch {
	case a.ExpiresAt <= a.IssuedAt || a.ExpiresAt-a.IssuedAt > wire.Millis(Lifetime.Milliseconds()):
		return refusal.New(refusal.BadTime, "an approval lives more than 0 and at most %v", Lifetime)
	case a.IssuedAt < c.req.IssuedAt-skew:
		return refusal.New(refusal.BadTime, "the approval is older than the request")
	case a.IssuedAt > at+skew:
		return refusal.New(refusal.BadTime, "the approval is issued in the future, or the clock here went back")
	case at >= a.ExpiresAt:
		return refusal.New(refusal.Expired, "the approval expired at %s", a.ExpiresAt.Time().Format(time.RFC3339))
	}
	return nil
}

// conclude never passes on less than one person: a need of nobody is not a
// question for this package.
func (c *checker) conclude() ([]Use, error) {
	needed := max(c.need.Count, 1)
	switch {
	case c.denied:
		return nil, refusal.New(refusal.ApprovalDenied, "the request was denied")
	case len(c.people) >= needed:
		return c.uses, nil
	case c.first != nil:
		return nil, c.first
	case len(c.people) == 0:
		return nil, refusal.New(refusal.ApprovalRequired, "%d people have to approve, none has", needed)
	}
	return nil, refusal.New(refusal.NotEnoughApprovers, "%d of %d people have approved", len(c.people), needed)
}
