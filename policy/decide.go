package policy

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Decide answers q at the given time. It is a pure function of the file, the
// request and the time, allocates nothing, and looks at every rule at most a few
// times, so the largest file bounds its cost.
//
// Order: a request that makes no sense is denied; so is everything in lockdown;
// so is an environment name that is not allowed; so is what a block rule matches; so
// is a target that has to be named (closed.go) where no rule that matches names it.
// Of the allow rules that match, all have their say: the decision needs approval
// if one of them asks for it or the gate does, and every limit is the smallest
// one set. Without a matching allow rule the answer is no. None of this depends on
// the order of the rules in the file.
//
// Copy and Forward are allowed where one of their parts is, and then ask for what
// all parts ask for that are not denied: who holds the answer decides again for
// each part when it is used.
func (r *Rules) Decide(q *Request, at time.Time) Decision {
	parts := q.Action.parts()
	if parts == nil {
		return r.decideOne(q, at)
	}
	var answer Decision
	for i, part := range parts {
		one := *q
		one.Action = part
		d := r.decideOne(&one, at)
		d.Roots, d.Sockets = nil, nil // each part has its own; who uses it asks again
		switch {
		case i == 0 || answer.Effect == Deny:
			if i == 0 || d.Effect != Deny {
				answer = d
			}
		case d.Effect != Deny:
			answer = Stricter(answer, d)
		}
	}
	return answer
}

func (r *Rules) decideOne(q *Request, at time.Time) Decision {
	if d, done := r.early(q, at); done {
		return d
	}
	s := clock{r: r, at: at, action: q.Action.bit()}
	t := tally{best: failsAction}
	x := &r.index
	t.all(x.byKey[q.Operator], q, &s)
	t.all(x.byPerson[q.Person], q, &s)
	t.all(x.byEmail[q.Email], q, &s)
	t.all(x.byAgent[q.Agent], q, &s)
	for _, tag := range q.Tags {
		t.all(x.byTag[tag], q, &s)
	}
	for i, a := range actions {
		if a == q.Action {
			t.all(x.rest[i], q, &s)
		}
	}
	return r.conclude(&t, q)
}

// early answers what needs no rule.
func (r *Rules) early(q *Request, at time.Time) (Decision, bool) {
	d := Decision{PolicyHash: r.hash}
	if p := q.check(); p != nil {
		return d.deny(p.code, p.reason), true
	}
	switch {
	case at.IsZero():
		return d.deny(refusal.BadTime, "the time of the decision is not known"), true
	case r.mode == modeLockdown:
		return d.deny(refusal.PolicyDenied, "the policy is in lockdown: it denies everything"), true
	case !r.envAllowed(q.Env):
		return d.deny(refusal.EnvNotAllowed, "an environment variable that the policy's environment.allow does not name"), true
	}
	return d, false
}

// Names reports whether the allow rule of that id names the action or all its parts.
func (r *Rules) Names(id string, a Action) bool {
	i, found := slices.BinarySearchFunc(r.rules, id, func(x *rule, id string) int { return cmp.Compare(x.id, id) })
	return found && !r.rules[i].block && a.bit() != 0 && a.bit()&^r.rules[i].actions == 0
}

// EnvAllowed reports whether a request may name this environment variable. Clients
// ask it to leave out what would make the whole request be refused.
func (r *Rules) EnvAllowed(name string) bool { return r.env[name] }

// Environment lists every variable that a request may name, sorted.
func (r *Rules) Environment() []string { return slices.Sorted(maps.Keys(r.env)) }

// envAllowed refuses rather than drops: a program that runs without a variable it
// was promised may do something else than was meant (protocol 4.3).
func (r *Rules) envAllowed(names []string) bool {
	if len(names) > MaxEnv {
		return false
	}
	for _, name := range names {
		if !r.env[name] {
			return false
		}
	}
	return true
}

// tally is what the rules looked at so far amount to.
type tally struct {
	blocked  *rule    // matching block rule with the smallest id
	allowed  *rule    // matching allow rule that asks for most, then smallest id
	listed   bool     // some matching allow rule spells the command out
	named    bool     // some matching allow rule names the target
	roots    []string // folders that the matching allow rules open together, nil for all
	approval Approval
	limits   Limits
	best     stage // furthest that an allow rule got

	open, shut actionSet // for Ping: what allow rules that match name, and what block rules that would match but for it name
}

func (t *tally) all(rules []*rule, q *Request, s *clock) {
	for _, r := range rules {
		got := r.match(q, s)
		if r.block {
			if got == matched && (t.blocked == nil || r.id < t.blocked.id) {
				t.blocked = r
			}
			if got == failsAction && q.Action == Ping {
				t.shut |= r.actions
			}
			continue
		}
		t.best = max(t.best, got)
		if got == matched {
			t.allow(r)
		}
	}
}

func (t *tally) allow(r *rule) {
	t.listed, t.named = t.listed || r.commands != nil, t.named || r.targets != nil
	t.approval, t.limits, t.open = t.approval.and(r.approval), t.limits.and(r.limits), t.open|r.actions
	if t.roots = joinRoots(t.roots, r.roots); t.allowed == nil {
		t.roots = r.roots
	}
	if t.allowed == nil || r.approval.Count > t.allowed.approval.Count ||
		r.approval.Count == t.allowed.approval.Count && r.id < t.allowed.id {
		t.allowed = r
	}
}

func (r *Rules) conclude(t *tally, q *Request) Decision {
	d := Decision{PolicyHash: r.hash}
	if t.blocked != nil {
		d.Rule = t.blocked.id
		return d.deny(refusal.PolicyDenied, t.blocked.whyBlocked)
	}
	if t.allowed == nil {
		return d.deny(r.missing(t.best, q.Action))
	}
	if no := q.closed(); no != nil && !t.named {
		return d.deny(no.Code, no.Detail)
	}
	if overRoots(t.roots) {
		d.Rule = t.allowed.id
		return d.deny(refusal.PolicyDenied, manyRoots)
	}
	if q.Action == CopyWrite {
		if overRoots(r.sockets) {
			return d.deny(refusal.PolicyDenied, manySockets)
		}
		d.Sockets = r.sockets
	}
	d.Effect, d.Rule, d.Reason = Allow, t.allowed.id, t.allowed.whyAllowed
	d.Limits, d.Named, d.Roots = t.limits.and(r.limits), t.named, t.roots
	if q.Action == Ping {
		return d.ping(t)
	}
	d.Approval = t.approval
	if d.Approval.Count > 0 {
		d.Effect, d.Reason, d.Asks = NeedApproval, t.allowed.whyApproval, d.Rule
	}
	if r.gated(q) && !t.listed {
		d.Effect, d.Reason = NeedApproval, t.allowed.whyGated
		if r.gate.approval.Count >= d.Approval.Count {
			d.Asks = Gate
		}
		d.Approval = d.Approval.and(r.gate.approval)
	}
	if d.Approval.impossible() {
		return d.deny(refusal.PolicyDenied, noApprover)
	}
	if d.Effect == NeedApproval {
		d.Code = refusal.ApprovalRequired
	}
	return d
}

// ping settles a ping that some allow rule lets through: it asks for no approval
// and knows no gate, since it runs nothing. But where block rules deny every action
// that the allow rules name, nothing may be done on the host, and so not this.
func (d Decision) ping(t *tally) Decision {
	if t.open&^t.shut == 0 {
		d.Rule = ""
		return d.deny(refusal.PolicyDenied, "block rules deny everything that the allow rules let this person do on this host")
	}
	return d
}

// gated reports whether the gate stands before the host.
func (r *Rules) gated(q *Request) bool { return r.gate != nil && r.gate.where.match(q) }

// missing words a denial without a rule by what the nearest rule lacked (attack
// F1). Rules are looked up by person and host, so "not found" covers both.
func (r *Rules) missing(best stage, a Action) (refusal.Code, string) {
	switch {
	case r.index.allows&a.bit() == 0:
		return refusal.PolicyDenied, "no allow rule names this action"
	case best <= failsWhere:
		return refusal.PolicyDenied, "no allow rule lets this person do this on this host"
	case best == failsUser:
		return refusal.UserNotAllowed, "no allow rule names this login user on this host"
	case best == failsCwd:
		return refusal.PolicyDenied, "no allow rule names this working directory"
	case best == failsTarget:
		return refusal.PolicyDenied, "no allow rule names this target"
	case best == failsCommand:
		return refusal.PolicyDenied, "no allow rule lists this program with these arguments"
	}
	return refusal.PolicyDenied, "the allow rules for this are outside their hours"
}

// clock is what one decision works out once: the bit of the action, and the time
// in each zone, because a reading searches the zone's tables.
type clock struct {
	action actionSet
	r      *Rules
	at     time.Time
	read   [8]bool
	known  [8]wall
}

func (c *clock) wall(zone int) wall {
	if zone >= len(c.read) {
		return wallAt(c.at, c.r.zones[zone])
	}
	if !c.read[zone] {
		c.known[zone], c.read[zone] = wallAt(c.at, c.r.zones[zone]), true
	}
	return c.known[zone]
}
