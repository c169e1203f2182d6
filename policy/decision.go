package policy

import (
	"fmt"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Effect is the answer itself, strictest first. The zero Effect is Deny, so a
// Decision that nobody filled in opens nothing.
type Effect uint8

// The effects.
const (
	Deny         Effect = iota // refused
	NeedApproval               // allowed once Decision.Approval is met
	Allow                      // allowed as it is
)

var effectNames = [...]string{Deny: "deny", NeedApproval: "approval", Allow: "allow"}

// String returns "deny", "approval" or "allow".
func (e Effect) String() string {
	if int(e) >= len(effectNames) {
		return "deny"
	}
	return effectNames[e]
}

// MarshalText returns what String returns.
func (e Effect) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads what String returns.
func (e *Effect) UnmarshalText(text []byte) error {
	for i, name := range effectNames {
		if name == string(text) {
			*e = Effect(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not an answer: write allow, approval or deny", text)
}

// Approval says who must agree before a request runs (protocol 4.3): Count
// distinct people other than the requester, each holding one of Roles. Count 0
// asks for nobody.
type Approval struct {
	Count int     // 0 to MaxApprovers
	Roles RoleSet // not empty when Count > 0
}

// and joins two demands so that whoever meets the result meets both.
func (a Approval) and(b Approval) Approval {
	if a.Count == 0 {
		return b
	}
	if b.Count == 0 {
		return a
	}
	return Approval{Count: max(a.Count, b.Count), Roles: a.Roles & b.Roles}
}

// impossible reports a demand that nobody can meet: two rules asked for
// approvers with no role in common.
func (a Approval) impossible() bool { return a.Count > 0 && a.Roles == 0 }

// Limits bound a session. A zero field sets no limit here; the protocol's own
// limits still hold.
type Limits struct {
	Session time.Duration // from first prompt to forced end
	Idle    time.Duration // without any traffic of the user's
	Resume  time.Duration // after the network between both ends was lost; 0 is DefaultResume
}

// DefaultResume is how long a session waits for its network to come back where
// the policy does not say: a laptop that sleeps over night wakes to its shells.
const DefaultResume = 24 * time.Hour

// and takes the smaller of each limit.
func (l Limits) and(m Limits) Limits {
	return Limits{
		Session: smaller(l.Session, m.Session),
		Idle:    smaller(l.Idle, m.Idle),
		Resume:  smaller(l.Resume, m.Resume),
	}
}

func smaller(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Gate is what Decision.Asks names where the section [gate] asks for the approval. No
// rule has that id: brackets are not of its alphabet.
const Gate = "[gate]"

// Decision is the policy's answer to one request at one time.
type Decision struct {
	Effect     Effect
	Code       refusal.Code // why not, empty when Effect is Allow
	Rule       string       // id of the rule that settled it, empty when none did
	Reason     string       // for people; holds nothing from the request
	Approval   Approval     // what NeedApproval waits for, else zero
	Asks       string       // what asks for most of it: the id of a rule, or Gate; empty unless NeedApproval
	Limits     Limits       // for the session, zero when denied
	Named      bool         // an allow rule that matches lists targets, and so the request's, if it has one
	Roots      []string     // folders that copies stay in, absolute; nil for all that the user may see. Not to be changed
	Sockets    []string     // of CopyWrite: what some allow rule names as a target, which copies leave in its place. Not to be changed
	PolicyHash key.Hash     // the policy that answered
}

// Err returns nil for Allow and otherwise the refusal to pass on: its code is
// ApprovalRequired for NeedApproval.
func (d *Decision) Err() error {
	if d.Effect == Allow {
		return nil
	}
	code := d.Code
	if code == "" {
		code = refusal.PolicyDenied
	}
	return refusal.New(code, "%s", d.Reason)
}

// Stricter joins the answers of two policies that were asked the same question,
// the rendezvous' and the agent's (attack F10): deny beats approval beats allow,
// approvals and limits of both apply. Rule, Reason, Asks and PolicyHash are those of
// the stricter answer, of a when they are equally strict.
func Stricter(a, b Decision) Decision {
	d := a
	if b.Effect < a.Effect {
		d = b
	}
	if d.Effect == Deny {
		d.Approval, d.Limits, d.Roots, d.Sockets = Approval{}, Limits{}, nil, nil
		return d
	}
	d.Approval, d.Limits = a.Approval.and(b.Approval), a.Limits.and(b.Limits)
	if d.Roots = bothRoots(a.Roots, b.Roots); d.Roots != nil && len(d.Roots) == 0 {
		return d.deny(refusal.PolicyDenied, noRoot)
	}
	if d.Approval.impossible() {
		return d.deny(refusal.PolicyDenied, noApprover)
	}
	return d
}

const noRoot = "the folders that one policy opens and those that the other one opens have nothing in common"

const noApprover = "the approvals asked for have no role in common, so nobody could give them"

// deny turns d into a denial that keeps its rule and policy.
func (d Decision) deny(code refusal.Code, reason string) Decision {
	return Decision{Effect: Deny, Code: code, Rule: d.Rule, Reason: reason, PolicyHash: d.PolicyHash}
}
