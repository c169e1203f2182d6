package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"pgregory.net/rapid"
)

func ping(q *Request) {
	q.Action, q.Argv, q.File, q.User, q.Cwd, q.Env = Ping, nil, "", "", "", nil
}

const weekday9to17 = "when.days = [\"mon\"]\nwhen.from = \"09:00\"\nwhen.to = \"17:00\"\nwhen.zone = \"UTC\"\n"

func TestPingIsAllowedWhereAnythingIs(t *testing.T) {
	for name, rule := range map[string]string{
		"shell":          "actions = [\"shell\"]\n",
		"another user":   "actions = [\"shell\"]\nusers = [\"root\"]\n",
		"one command":    "actions = [\"exec\"]\ncommands = [[\"/usr/bin/id\"]]\n",
		"one folder":     "actions = [\"exec\"]\ncwd = [\"/srv\"]\n",
		"copy":           "actions = [\"copy\"]\n",
		"by approval":    "actions = [\"shell\"]\napproval.count = 2\n",
		"ping itself":    "actions = [\"ping\"]\n",
		"in its hours":   "actions = [\"shell\"]\n" + weekday9to17,
		"on this host":   "actions = [\"shell\"]\nwhere.agents = [\"web-1\"]\n",
		"on its tags":    "actions = [\"shell\"]\nwhere.tags_all = [\"prod\", \"web\"]\n",
		"to this e-mail": "actions = [\"shell\"]\nwho.emails = [\"ann@team.com\"]\n",
	} {
		who := "who.roles = [\"operator\"]\n"
		r := load(t, "[gate]\nwhere.tags_any = [\"prod\"]\napproval.count = 1\n[[allow]]\nid = \"a\"\n"+who+rule)
		if d := expectEffect(t, r, ask(ping), noon, Allow); d.Rule != "a" || d.Approval.Count != 0 {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestPingIsDeniedWhereNothingIsAllowed(t *testing.T) {
	shell := "[[allow]]\nid = \"a\"\nactions = [\"shell\", \"exec\"]\nwho.roles = [\"operator\"]\n"
	for name, body := range map[string]string{
		"no rule":           "",
		"other people":      shell + "who.emails = [\"bob@team.com\"]\n",
		"other hosts":       shell + "where.agents = [\"db-1\"]\n",
		"other hours":       shell + strings.ReplaceAll(weekday9to17, "mon", "sun"),
		"blocked":           shell + "[[block]]\nid = \"b\"\n",
		"blocked by who":    shell + "[[block]]\nid = \"b\"\nwho.people = [\"p-1\"]\n",
		"blocked by name":   shell + "[[block]]\nid = \"b\"\nactions = [\"ping\"]\n",
		"all it does":       shell + "[[block]]\nid = \"b\"\nactions = [\"exec\", \"shell\"]\n",
		"all, by two rules": shell + "[[block]]\nid = \"b\"\nactions = [\"exec\"]\n[[block]]\nid = \"c\"\nactions = [\"shell\"]\nwho.roles = [\"operator\"]\n",
	} {
		if d := expectEffect(t, load(t, body), ask(ping), noon, Deny); d.Rule == "a" {
			t.Errorf("%s: denied by the rule that allows", name)
		}
	}
	lockdown, err := Parse([]byte("version = 1\nmode = \"lockdown\"\n" + shell))
	if err != nil {
		t.Fatal(err)
	}
	expectEffect(t, lockdown, ask(ping), noon, Deny)
}

// A block rule that looks at what is run leaves the host visible, as does one
// that takes only a part of what is allowed.
func TestBlocksOfProgramsDoNotHideTheHost(t *testing.T) {
	shell := "[[allow]]\nid = \"a\"\nactions = [\"shell\", \"exec\"]\nwho.roles = [\"operator\"]\n[[block]]\nid = \"b\"\n"
	for _, block := range []string{"users = [\"root\"]\n", "actions = [\"exec\"]\ncommands = [[\"/bin/rm\", \"...\"]]\n", "cwd = [\"/\"]\n", "actions = [\"shell\"]\n", "actions = [\"forward\"]\n"} {
		expectEffect(t, load(t, shell+block), ask(ping), noon, Allow)
	}
}

func TestPingThatCarriesSomethingIsRefused(t *testing.T) {
	r := load(t, team)
	for name, change := range map[string]func(*Request){
		"argv": func(q *Request) { q.Argv = [][]byte{[]byte("id")} }, "file": func(q *Request) { q.File = "/bin/id" },
		"user": func(q *Request) { q.User = "root" }, "cwd": func(q *Request) { q.Cwd = "/" }, "env": func(q *Request) { q.Env = []string{"LANG"} },
	} {
		if d := r.Decide(ask(ping, change), noon); d.Code != refusal.BadArgument {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestExpectationsKnowPing(t *testing.T) {
	r := load(t, team+"[[expect]]\nname = \"is seen\"\naction = \"ping\"\nrole = \"operator\"\nagent = \"x\"\nwant = \"allow\"\n"+
		"[[expect]]\nname = \"is not\"\naction = \"ping\"\nrole = \"viewer\"\nagent = \"x\"\nwant = \"deny\"\n")
	for _, e := range r.RunExpectations() {
		if !e.OK {
			t.Errorf("%+v", e)
		}
	}
}

// visible is the rule about pings, written down a second time without index or
// early ends.
func visible(r *Rules, q *Request, at time.Time) bool {
	s := clock{r: r, at: at}
	var open, shut actionSet
	for _, x := range r.rules {
		switch {
		case !x.matchWho(q) || !x.where.match(q) || x.when != nil && !x.when.contains(s.wall(x.when.zone)):
		case !x.block:
			open |= x.actions
		case x.anyUser && x.cwd == nil && x.commands == nil:
			shut |= x.actions
		}
	}
	return open&^shut != 0 && shut&Ping.bit() == 0
}

// A ping is never denied where something is allowed, and never allowed where no
// rule lets this person do anything on this host at this time.
func TestPingShowsNoMoreAndNoLessThanRulesLet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := ""
		if rapid.Bool().Draw(t, "gate") {
			body = "[gate]\nwhere.tags_any = [\"prod\"]\napproval.count = 1\n"
		}
		for i := range rapid.IntRange(0, 10).Draw(t, "n") {
			body += drawRule(t, i)
		}
		r, err := Parse([]byte(head + body))
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			q, at := drawRequest(t)
			other := r.Decide(q, at)
			ping(q)
			d := r.Decide(q, at)
			if (d.Effect == Allow) != visible(r, q, at) || d.Effect == NeedApproval || d.Approval.Count != 0 {
				t.Fatalf("%+v, by the book %v\n%s", d, visible(r, q, at), r.Explain(q, at))
			}
			if other.Effect != Deny && d.Effect != Allow {
				t.Fatalf("allowed %+v, and yet %+v", other, d)
			}
		}
	})
}
