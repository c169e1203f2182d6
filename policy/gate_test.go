package policy

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"pgregory.net/rapid"
)

const gated = `
[gate]
where.tags_any = ["prod"]
approval.count = 2
approval.roles = ["approver", "admin"]
[[allow]]
id = "team"
who.roles = ["operator"]
actions = ["shell", "exec", "copy", "forward"]
` + listed

func TestE18GatedHostAsksForApprovalOfTheShell(t *testing.T) {
	r := load(t, gated)
	for _, a := range []Action{Shell, Copy, Forward} {
		d := expectEffect(t, r, ask(func(q *Request) { q.Action = a }), noon, NeedApproval)
		if want := (Approval{2, Roles(Approver, Admin)}); d.Approval != want || d.Code != refusal.ApprovalRequired || d.Rule != "team" || d.Asks != Gate {
			t.Errorf("%s: %+v", a, d)
		}
	}
	expectEffect(t, r, ask(func(q *Request) { q.Tags = []string{"test"} }), noon, Allow)
}

func TestGatedExecIsApprovedUnlessListed(t *testing.T) {
	r := load(t, gated)
	expectEffect(t, r, ask(exec("/usr/bin/systemctl", "restart", "nginx")), noon, Allow)
	for _, argv := range [][]string{
		{"/usr/bin/systemctl", "restart", "sshd"}, {"/usr/bin/rm", "-rf", "/"}, {"/usr/bin/env", "nice", "sudo", "rm"}, {"/usr/bin/uptime"},
	} {
		expectEffect(t, r, ask(exec(argv...)), noon, NeedApproval)
	}
	expectEffect(t, r, ask(exec("/usr/bin/uptime"), func(q *Request) { q.Role = Viewer }), noon, Deny)
}

func TestDecisionNamesWhatAsksForMost(t *testing.T) {
	for rule, want := range map[string]string{"": Gate, "approval.count = 1": Gate, "approval.count = 2": Gate, "approval.count = 3": "team"} {
		r := load(t, strings.Replace(gated, "[[allow]]", "[[allow]]\n"+rule, 1))
		if d := expectEffect(t, r, ask(), noon, NeedApproval); d.Asks != want {
			t.Errorf("gate of 2, rule with %q: %q asks, want %q", rule, d.Asks, want)
		}
		if d := r.Decide(ask(func(q *Request) { q.Tags = nil }), noon); d.Effect == NeedApproval && d.Asks != "team" || d.Effect == Allow && d.Asks != "" {
			t.Errorf("no gate, rule with %q: %q asks", rule, d.Asks)
		}
	}
	r := load(t, strings.Replace(gated, "[[allow]]", "[[allow]]\napproval.count = 1", 1))
	if d := expectEffect(t, r, ask(func(q *Request) { q.Role = Viewer }), noon, Deny); d.Asks != "" {
		t.Errorf("denied, and %q asks", d.Asks)
	}
}

func TestDemandsOfAllMatchingRulesAddUp(t *testing.T) {
	r := load(t, `
[limits]
session = "10h"
[[allow]]
id = "a"
who.roles = ["operator"]
actions = ["shell"]
limits.session = "12h"
limits.idle = "1h"
[[allow]]
id = "b"
who.roles = ["operator"]
where.tags_any = ["prod"]
actions = ["shell"]
approval.count = 1
limits.idle = "5m"
[[allow]]
id = "c"
who.roles = ["operator"]
where.tags_all = ["prod", "web"]
actions = ["shell"]
approval.count = 2
approval.roles = ["approver", "admin"]
`)
	d := expectEffect(t, r, ask(), noon, NeedApproval)
	if want := (Approval{2, Roles(Approver, Admin)}); d.Approval != want || d.Rule != "c" {
		t.Errorf("approval %+v by %s", d.Approval, d.Rule)
	}
	if want := (Limits{10 * time.Hour, 5 * time.Minute, 0}); d.Limits != want {
		t.Errorf("limits %+v", d.Limits)
	}
	d = expectEffect(t, r, ask(func(q *Request) { q.Tags = nil }), noon, Allow)
	if want := (Limits{10 * time.Hour, time.Hour, 0}); d.Limits != want || d.Approval != (Approval{}) {
		t.Errorf("without prod: %+v", d)
	}
}

func TestApprovalThatNobodyCanGiveIsADenial(t *testing.T) {
	r := load(t, `
[gate]
approval.count = 1
approval.roles = ["owner"]
[[allow]]
id = "a"
who.roles = ["operator"]
actions = ["shell"]
approval.count = 1
approval.roles = ["approver"]
`)
	expectEffect(t, r, ask(), noon, Deny)
}

// F10: the agent's answer joined with the rendezvous' is never milder than either.
func TestF10StricterNeverMilderThanEither(t *testing.T) {
	decision := rapid.Custom(func(t *rapid.T) Decision {
		d := Decision{Effect: Effect(rapid.IntRange(0, 2).Draw(t, "effect")), Rule: rapid.StringN(1, 3, 3).Draw(t, "rule")}
		if d.Effect == Deny {
			d.Code = refusal.PolicyDenied
			return d
		}
		if d.Effect == NeedApproval {
			d.Code = refusal.ApprovalRequired
			d.Approval = Approval{rapid.IntRange(1, 3).Draw(t, "count"), RoleSet(rapid.IntRange(1, 31).Draw(t, "roles")) << 1}
		}
		d.Limits = Limits{time.Duration(rapid.IntRange(0, 3).Draw(t, "session")), time.Duration(rapid.IntRange(0, 3).Draw(t, "idle")), time.Duration(rapid.IntRange(0, 3).Draw(t, "resume"))}
		return d
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := decision.Draw(t, "a"), decision.Draw(t, "b")
		d, e := Stricter(a, b), Stricter(b, a)
		if d.Effect != e.Effect || d.Approval != e.Approval || d.Limits != e.Limits || d.Code != e.Code {
			t.Fatalf("not symmetric: %+v, %+v", d, e)
		}
		if d.Effect > min(a.Effect, b.Effect) || (d.Effect == Allow) != (d.Code == "") {
			t.Fatalf("milder: %+v", d)
		}
		for _, x := range []Decision{a, b} {
			if d.Effect == Deny {
				continue
			}
			if d.Approval.Count < x.Approval.Count || x.Approval.Count > 0 && d.Approval.Roles&^x.Approval.Roles != 0 || d.Approval.impossible() {
				t.Fatalf("approval %+v is less than %+v", d.Approval, x.Approval)
			}
			if x.Limits.Session != 0 && (d.Limits.Session == 0 || d.Limits.Session > x.Limits.Session) {
				t.Fatalf("limits %+v are wider than %+v", d.Limits, x.Limits)
			}
		}
		if !reflect.DeepEqual(Stricter(a, a), a) {
			t.Fatal("not idempotent")
		}
	})
}

func TestF10StricterKeepsTheStricterAnswersRule(t *testing.T) {
	allow, deny := Decision{Effect: Allow, Rule: "a"}, Decision{Effect: Deny, Rule: "b", Code: refusal.PolicyDenied, Reason: "no"}
	if d := Stricter(allow, deny); !reflect.DeepEqual(d, deny) {
		t.Errorf("%+v", d)
	}
	if d := Stricter(allow, Decision{Effect: Allow, Rule: "z"}); d.Rule != "a" {
		t.Errorf("%+v", d)
	}
	if d := Stricter(allow, Decision{}); d.Effect != Deny || d.Err() == nil {
		t.Error("an answer that nobody filled in opened something")
	}
}

func TestF10StricterJoinsDemandsOrDenies(t *testing.T) {
	wait := func(rule string, count int, roles ...Role) Decision {
		return Decision{Effect: NeedApproval, Code: refusal.ApprovalRequired, Rule: rule, Approval: Approval{count, Roles(roles...)}}
	}
	open := Decision{Effect: Allow, Rule: "open", Limits: Limits{Session: time.Hour}}
	for name, c := range map[string]struct {
		a, b     Decision
		effect   Effect
		rule     string
		approval Approval
	}{
		"a role in common":       {wait("a", 1, Approver, Admin), wait("b", 3, Admin, Owner), NeedApproval, "a", Approval{3, Roles(Admin)}},
		"no role in common":      {wait("a", 1, Approver), wait("b", 1, Admin, Owner), Deny, "a", Approval{}},
		"no roles at all":        {wait("a", 2), open, Deny, "a", Approval{}},
		"only the second waits":  {open, wait("b", 2, Owner), NeedApproval, "b", Approval{2, Roles(Owner)}},
		"impossible, but denied": {wait("a", 1, Approver), Decision{Rule: "no", Reason: "r"}, Deny, "no", Approval{}},
	} {
		d := Stricter(c.a, c.b)
		if d.Effect != c.effect || d.Rule != c.rule || d.Approval != c.approval {
			t.Errorf("%s: %+v", name, d)
		}
		if d.Effect == Deny && d.Limits != (Limits{}) || (d.Reason == noApprover) != (c.effect == Deny && c.rule == "a") {
			t.Errorf("%s: limits %+v, reason %q", name, d.Limits, d.Reason)
		}
	}
}

func TestErrPassesTheCodeOn(t *testing.T) {
	for _, c := range []struct {
		d    Decision
		code refusal.Code
		text string
	}{
		{Decision{}, refusal.PolicyDenied, "policy_denied"},
		{Decision{Reason: "why"}, refusal.PolicyDenied, "policy_denied: why"},
		{Decision{Code: refusal.UserNotAllowed, Reason: "100%d"}, refusal.UserNotAllowed, "user_not_allowed: 100%d"},
		{Decision{Effect: NeedApproval, Code: refusal.ApprovalRequired, Reason: "ask"}, refusal.ApprovalRequired, "approval_required: ask"},
		{Decision{Effect: NeedApproval}, refusal.PolicyDenied, "policy_denied"},
		{Decision{Effect: Allow + 1}, refusal.PolicyDenied, "policy_denied"},
	} {
		if err := c.d.Err(); refusal.Of(err) != c.code || err.Error() != c.text {
			t.Errorf("%+v: %v", c.d, err)
		}
	}
	if d := (Decision{Effect: Allow, Code: refusal.PolicyDenied}); d.Err() != nil {
		t.Errorf("allowed, and %v", d.Err())
	}
}
