package policy

import (
	"slices"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
)

func TestExplainSaysOfEveryRuleWhy(t *testing.T) {
	r := load(t, `
[[allow]]
id = "a-team"
description = "everybody"
who.roles = ["operator"]
actions = ["shell"]
[[allow]]
id = "b-action"
who.roles = ["operator"]
actions = ["copy"]
[[allow]]
id = "c-who"
who.people = ["p-9"]
who.emails = ["x@y.z"]
who.keys = ["0700000000000000000000000000000000000000000000000000000000000000"]
actions = ["shell"]
[[allow]]
id = "d-where"
who.roles = ["operator"]
where.tags_all = ["db"]
where.agents = ["db-1"]
actions = ["shell"]
[[allow]]
id = "e-user"
who.roles = ["operator"]
actions = ["shell"]
users = ["root"]
[[block]]
id = "f-cwd"
cwd = ["/srv"]
[[block]]
id = "g-when"
when.days = ["sat", "sun"]
when.from = "08:00"
when.to = "09:30"
when.zone = "Europe/Berlin"
`)
	e := r.Explain(ask(), noon)
	text := e.String()
	for _, want := range []string{
		"allow: allowed by rule a-team",
		"yes allow a-team (line 4): every condition holds",
		"no  allow b-action (line 9): it is for other actions",
		"c-who (line 13): it is for other people: people p-9 and emails x@y.z and key 0W00-0000-0000",
		"d-where (line 19): it is for other hosts: all tags of db and the names db-1",
		"e-user (line 25): it is for other login users: root",
		"no  block f-cwd (line 30): it is for other directories: /srv",
		"g-when (line 33): it holds at other times: sat sun, 08:00 to 09:30 in Europe/Berlin, where it is mon 13:00",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if e.Rules[0].Description != "everybody" || len(e.Rules) != 7 {
		t.Errorf("%+v", e.Rules)
	}
	e = load(t, gated).Explain(ask(exec("/usr/bin/id")), noon)
	for _, want := range []string{"approval: rule team", "approval by 2 of: approver, admin", "the host is gated", "it lists 4 commands"} {
		if !strings.Contains(e.String(), want) {
			t.Errorf("%q is missing in\n%s", want, e)
		}
	}
	if e := r.Explain(ask(func(q *Request) { q.Action = "" }), noon); len(e.Rules) != 0 || e.Decision.Effect != Deny {
		t.Errorf("a request that no rule was asked about: %+v", e)
	}
}

func TestCheckFindsWhatIsNotMeant(t *testing.T) {
	for _, c := range []struct{ body, text string }{
		{"", "there is no allow rule"},
		{team, "there is no [[expect]]"},
		{team + "[[block]]\nid='all'\n", "line 4: rule team: it can never apply: block rule all denies everything"},
		{team + "[[block]]\nid='b'\nwho.roles=['operator','admin']\nactions=['shell','exec']\nusers=['@agent']\n", "can never apply"},
		{team + "[[allow]]\nid='less'\nwho.roles=['operator']\nwho.people=['p-1']\nactions=['shell']\nwhere.tags_all=['a']\n", "rule less: rule team already says"},
		{team + strings.Replace(team, "team", "twin", 1), "rule twin: rule team already says"},
		{"[[allow]]\nid='a'\nwho.emails=['Ann@team.com']\nactions=['shell']\n", "with its capitals"},
		{"[[allow]]\nid='a'\nwho.roles=['operator']\nactions=['exec']\ncommands=[['/bin/df']]\n", "the real path begins with /usr"},
		{"limits.idle='1m'\n[[allow]]\nid='a'\nwho.roles=['operator']\nactions=['exec']\nlimits.idle='1h'\n", "these change nothing"},
		{"[gate]\napproval.count=1\napproval.roles=['owner']\n[[allow]]\nid='a'\nwho.roles=['operator']\nactions=['shell']\napproval.count=1\n", ""},
		{"[gate]\napproval.count=1\napproval.roles=['owner']\n[[allow]]\nid='a'\nwho.roles=['operator']\nactions=['shell']\napproval.count=1\napproval.roles=['admin']\n", "allows nothing"},
	} {
		var lines []string
		for _, f := range load(t, c.body).Check() {
			lines = append(lines, f.String())
		}
		if all := strings.Join(lines, "\n"); !strings.Contains(all, c.text) || c.text == "" && strings.Contains(all, "rule a") {
			t.Errorf("%s\n%q is not in %s", c.body, c.text, all)
		}
	}
	r, err := Parse([]byte("version=1\nmode='lockdown'\n"))
	if err != nil || !strings.Contains(r.Check()[0].String(), "lockdown") {
		t.Error(err)
	}
}

func TestCoversIsNeverClaimedFalsely(t *testing.T) {
	for _, block := range []string{
		"who.roles=['admin']", "who.emails=['a@b.c']", "who.people=['p']", "where.tags_all=['x']", "where.agents=['x']", "actions=['shell']",
		"users=['root']", "cwd=['/x']", "when.days=['mon']\nwhen.zone='UTC'", "actions=['exec']\ncommands=[['/bin/a','...']]",
		"who.keys=['" + key.ID{1}.String() + "']", "where.tags_any=['x']",
	} {
		r := load(t, team+"[[block]]\nid='b'\n"+block+"\n")
		if by := r.shadow(r.rules[1]); by != "" {
			t.Errorf("%s: %s", block, by)
		}
	}
}

func TestExpectationsReportWhatTheyGot(t *testing.T) {
	r := load(t, team+`
[[expect]]
name = "right"
action = "exec"
role = "operator"
argv = ["/usr/bin/id", "-u"]
user = "@agent"
want = "allow"
rule = "team"
[[expect]]
name = "wrong answer"
action = "shell"
role = "viewer"
want = "allow"
[[block]]
id = "other"
who.people = ["p-1"]
[[expect]]
name = "wrong rule"
action = "shell"
role = "operator"
person = "p-1"
want = "deny"
rule = "team"
`)
	got := r.RunExpectations()
	if len(got) != 3 || !got[0].OK || got[1].OK || got[2].OK {
		t.Fatalf("%+v", got)
	}
	if got[1].Got.Effect != Deny || got[1].Line != 17 || got[2].Got.Rule != "other" || got[2].Rule != "team" {
		t.Errorf("%+v", got)
	}
}

func TestRoles(t *testing.T) {
	for r := Viewer; r <= Owner; r++ {
		text, err := r.MarshalText()
		back, err2 := ParseRole(string(text))
		if err != nil || err2 != nil || back != r {
			t.Errorf("%v: %v %v", r, err, err2)
		}
		if !r.AtLeast(Viewer) || r.AtLeast(r+1) || !Roles(r).Has(r) || Roles(r).Has(r-1) {
			t.Errorf("order of %v", r)
		}
	}
	for _, bad := range []string{"", "Admin", "no role", "root", "admin "} {
		if _, err := ParseRole(bad); err == nil {
			t.Errorf("%q is a role", bad)
		}
	}
	if _, err := Role(0).MarshalText(); err == nil || Role(9).Valid() || Role(0).AtLeast(0) || Role(9).String() != "no role" {
		t.Error("the zero role passes")
	}
	if s := Roles(Owner, Viewer, 0, 99).String(); s != "viewer, owner" {
		t.Error(s)
	}
}

func TestEffects(t *testing.T) {
	for _, e := range []Effect{Deny, NeedApproval, Allow} {
		var back Effect
		if text, _ := e.MarshalText(); back.UnmarshalText(text) != nil || back != e {
			t.Errorf("%v", e)
		}
	}
	if Effect(9).String() != "deny" {
		t.Error("an unknown effect is not a denial")
	}
}

func TestRoleSetsAsText(t *testing.T) {
	for _, c := range []struct {
		set  RoleSet
		text string
		has  []Role
	}{
		{Roles(), "", nil},
		{Roles(0, 6, 255), "", nil},
		{RoleSet(1), "", nil},
		{RoleSet(1 << 6), "", nil},
		{Roles(Admin, Admin), "admin", []Role{Admin}},
		{Roles(Owner, Approver, Operator), "operator, approver, owner", []Role{Operator, Approver, Owner}},
		{allRoles, "viewer, operator, approver, admin, owner", []Role{Viewer, Operator, Approver, Admin, Owner}},
	} {
		if c.set.String() != c.text {
			t.Errorf("%08b is %q, want %q", c.set, c.set, c.text)
		}
		for r := range Role(16) {
			if c.set.Has(r) != slices.Contains(c.has, r) {
				t.Errorf("%q has %v: %v", c.text, r, c.set.Has(r))
			}
		}
	}
}
