package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Each rule fails at one stage, and the text says what the rule asks for. The
// stages have an order: what fails first is what is named.
func TestExplainNamesTheFirstConditionThatFailed(t *testing.T) {
	const key7 = "who.keys=['0700000000000000000000000000000000000000000000000000000000000000']\n"
	const runs = "actions=['exec']\ncommands=[['/usr/bin/df'],['/usr/bin/df','-h']]\n"
	const night = "when.from='22:00'\nwhen.to='06:00'\nwhen.zone='Asia/Kathmandu'\n"
	const others = "it is for other people: "
	for _, c := range []struct {
		rule string
		q    *Request
		why  string
	}{
		{"actions=['copy','forward']", ask(), "it is for other actions"},
		{"who.roles=['viewer','owner']", ask(), others + "roles viewer, owner"},
		{"who.people=['p-7','p-8']", ask(), others + "people p-7, p-8"},
		{"who.emails=['Ann@team.com']", ask(), others + "emails Ann@team.com"},
		{key7, ask(), others + "key 0W00-0000-0000"},
		{"who.roles=['owner']\nwho.people=['p-1']\n" + key7, ask(), others + "roles owner and people p-1 and key 0W00-0000-0000"},
		{"where.tags_any=['db','cache']", ask(), "it is for other hosts: any tag of db, cache"},
		{"where.tags_all=['prod','db']", ask(), "it is for other hosts: all tags of prod, db"},
		{"where.agents=['web-2']", ask(), "it is for other hosts: the names web-2"},
		{"where.agents=['web-1']\nwhere.tags_all=['prod']\nwhere.tags_any=['db']", ask(),
			"it is for other hosts: any tag of db and all tags of prod and the names web-1"},
		{"users=['root','@agent']", ask(func(q *Request) { q.User = "deploy" }), "it is for other login users: root, @agent"},
		{"cwd=['/srv','/opt/a b']", ask(), "it is for other directories: /srv, /opt/a b"},
		{runs, ask(exec("/usr/bin/df", "-i")), "it lists 2 commands, and this is none of them"},
		{"when.days=['fri','sun','tue']\nwhen.zone='UTC'", ask(),
			"it holds at other times: tue fri sun, the whole day in UTC, where it is mon 12:00"},
		{night, ask(), "it holds at other times: mon tue wed thu fri sat sun, 22:00 to 06:00 in Asia/Kathmandu, where it is mon 17:45"},
		{"actions=['copy']\nwho.people=['p-7']", ask(), "it is for other actions"},
		{"who.people=['p-7']\nwhere.agents=['web-2']", ask(), others + "people p-7"},
		{"where.agents=['web-2']\nusers=['root']", ask(), "it is for other hosts: the names web-2"},
		{"users=['root']\ncwd=['/srv']", ask(), "it is for other login users: root"},
		{"cwd=['/srv']\n" + runs, ask(exec("/bin/ls")), "it is for other directories: /srv"},
		{runs + night, ask(exec("/bin/ls")), "it lists 2 commands, and this is none of them"},
		{"where.agents=['web-1']\nusers=['@agent']\nactions=['shell']", ask(), "every condition holds"},
	} {
		e := load(t, team+"[[block]]\nid='b'\n"+c.rule).Explain(c.q, noon)
		got := e.Rules[0]
		if got.ID != "b" || !got.Block || got.Line != 8 || got.Why != c.why || got.Matched != (c.why == "every condition holds") {
			t.Errorf("%s:\n got %+v\nwant %s", c.rule, got, c.why)
		}
		if got.Matched != (e.Decision.Rule == "b") {
			t.Errorf("%s: matched is %v, and rule %q settled it", c.rule, got.Matched, e.Decision.Rule)
		}
	}
}

func TestExplanationAsWholeText(t *testing.T) {
	const gate = "[gate]\nwhere.agents=['web-1']\napproval.count=2\napproval.roles=['owner','approver']\n"
	const block = "[[block]]\nid='b'\nwhere.agents=['db-1']\n"
	const body = gate + team + block
	locked := "version = 1\nmode = \"lockdown\"\n" + body
	for name, c := range map[string]struct {
		file string
		q    *Request
		at   time.Time
		text string
	}{
		"gate": {head + body, ask(), noon,
			"approval: rule team allows this, and the host is gated: everything but listed commands needs approval\n" +
				"approval by 2 of: approver, owner\nthe host is gated\n" +
				"no  block b (line 12): it is for other hosts: the names db-1\nyes allow team (line 8): every condition holds\n"},
		"block": {head + body, ask(func(q *Request) { q.Agent = "db-1" }), noon,
			"deny: blocked by rule b\nyes block b (line 12): every condition holds\nyes allow team (line 8): every condition holds\n"},
		"lockdown": {locked, ask(), noon, "deny: the policy is in lockdown: it denies everything\nthe host is gated\n"},
		"environment": {head + team, ask(func(q *Request) { q.Env = []string{"EDITOR"} }), noon,
			"deny: an environment variable that the policy's environment.allow does not name\n"},
		"no time": {head + team, ask(), time.Time{}, "deny: the time of the decision is not known\n"},
	} {
		r, err := Parse([]byte(c.file))
		if err != nil {
			t.Fatal(err)
		}
		if e := r.Explain(c.q, c.at); e.String() != c.text || !e.At.Equal(c.at) {
			t.Errorf("%s:\n got %q\nwant %q", name, e.String(), c.text)
		}
	}
}

func TestFindingsOfPairsOfCommands(t *testing.T) {
	const again = "line 8: rule b: rule a already says all of it"
	allow := func(id, command string) string {
		return "[[allow]]\nid='" + id + "'\nwho.roles=['operator']\nactions=['exec']\ncommands=[" + command + "]\n"
	}
	block := func(command string) string {
		return "[[block]]\nid='b'\nactions=['exec']\ncommands=[" + command + "]\n"
	}
	for _, c := range []struct{ a, b, want string }{
		{"['/usr/bin/x','...']", allow("b", "['/usr/bin/x','-u','nginx']"), again},
		{"['/usr/bin/x','-u','...']", allow("b", "['/usr/bin/x','-u','...']"), again},
		{"['/usr/bin/x'],['/usr/bin/y']", allow("b", "['/usr/bin/y']"), again},
		{"['/usr/bin/x','-u']", allow("b", "['/usr/bin/x','...']"), "line 3: rule a: rule b already says all of it"},
		{"['/usr/bin/x','-u']", allow("b", "['/usr/bin/x','-v']"), ""},
		{"['/usr/bin/x','-u','...']", allow("b", "['/usr/bin/x','-v','...']"), ""},
		{"['/usr/bin/x','-u']", allow("b", "['/opt/x','-u']"), ""},
		{"['/usr/bin/x','-u']", allow("b", "['/usr/bin/x','-u'],['/usr/bin/y']"), "line 3: rule a: rule b already says all of it"},
		{"['/usr/bin/x','-u']", block("['/opt/x','...']"), "line 3: rule a: it can never apply: block rule b denies everything it allows"},
		{"['/usr/bin/x','-u']", block("['/opt/x','-v']"), ""},
		{"['/usr/bin/x','...']", block("['/usr/bin/x']"), ""},
		{"['/bin/x'],['/sbin/y']", block("['/bin/z']"), "line 3: rule a: commands: /bin/x: on most systems that folder is a link; the real path begins with /usr\n" +
			"line 3: rule a: commands: /sbin/y: on most systems that folder is a link; the real path begins with /usr"},
	} {
		var lines []string
		for _, f := range load(t, allow("a", c.a)+c.b).Check() {
			if f.Line > 0 {
				lines = append(lines, f.String())
			}
		}
		if got := strings.Join(lines, "\n"); got != c.want {
			t.Errorf("%s and\n%s\n got %s\nwant %s", c.a, c.b, got, c.want)
		}
	}
}

// An expectation that fails says by which rule and with which code.
func TestEveryKindOfFailingExpectation(t *testing.T) {
	const rules = team + "[[allow]]\nid='ask'\nwho.roles=['operator']\nwhere.tags_any=['db']\nactions=['shell']\napproval.count=1\n" +
		"[[block]]\nid='out'\nwho.people=['p-9']\n"
	line := 1 + strings.Count(head+rules, "\n")
	for _, c := range []struct {
		set  string
		want Effect
		rule string
		ok   bool
		got  Effect
		by   string
		code refusal.Code
	}{
		{"role='operator'\nwant='deny'", Deny, "", false, Allow, "team", ""},
		{"role='operator'\nwant='approval'", NeedApproval, "", false, Allow, "team", ""},
		{"role='operator'\nwant='allow'\nrule='ask'", Allow, "ask", false, Allow, "team", ""},
		{"role='operator'\ntags=['db']\nwant='allow'", Allow, "", false, NeedApproval, "ask", refusal.ApprovalRequired},
		{"role='operator'\ntags=['db']\nwant='approval'\nrule='team'", NeedApproval, "team", false, NeedApproval, "ask", refusal.ApprovalRequired},
		{"role='operator'\nperson='p-9'\nwant='allow'", Allow, "", false, Deny, "out", refusal.PolicyDenied},
		{"role='operator'\nperson='p-9'\nwant='deny'\nrule='team'", Deny, "team", false, Deny, "out", refusal.PolicyDenied},
		{"role='viewer'\nwant='deny'\nrule='out'", Deny, "out", false, Deny, "", refusal.PolicyDenied},
		{"role='operator'\nuser='root'\nwant='approval'", NeedApproval, "", false, Deny, "", refusal.UserNotAllowed},
		{"role='operator'\nenv=['PATH']\nwant='allow'", Allow, "", false, Deny, "", refusal.EnvNotAllowed},
		{"role='operator'\ncwd=\"/\\u0000\"\nwant='allow'", Allow, "", false, Deny, "", refusal.BadArgument},
		{"role='operator'\ntags=['db']\nwant='approval'\nrule='ask'", NeedApproval, "ask", true, NeedApproval, "ask", refusal.ApprovalRequired},
		{"role='operator'\nperson='p-9'\nwant='deny'\nrule='out'", Deny, "out", true, Deny, "out", refusal.PolicyDenied},
	} {
		got := load(t, rules+"[[expect]]\nname='e'\naction='shell'\n"+c.set+"\n").RunExpectations()
		if len(got) != 1 {
			t.Fatalf("%s: %d results", c.set, len(got))
		}
		res := got[0]
		if res.Name != "e" || res.Line != line || res.OK != c.ok || res.Want != c.want || res.Rule != c.rule {
			t.Errorf("%s: %+v", c.set, res)
		}
		if res.Got.Effect != c.got || res.Got.Rule != c.by || res.Got.Code != c.code {
			t.Errorf("%s: got %s by %q with code %q", c.set, res.Got.Effect, res.Got.Rule, res.Got.Code)
		}
	}
}

// Only the machine knows its agent's user, so a rule that names users may count there and
// not here; who asks for a user by name, or is refused anyway, is told nothing of it.
func TestExplainSaysWhereTheHostMayBeStricter(t *testing.T) {
	rules := load(t, team+"[[block]]\nid='named'\nactions=['exec']\nusers=['root']\n[[block]]\nid='copies'\nactions=['copy']\nusers=['root']\n")
	asked := func(change func(*Request)) *Request { return ask(exec("/usr/bin/id"), change) }
	for name, c := range map[string]struct {
		q    *Request
		want string
	}{
		"nobody in particular": {asked(func(*Request) {}), "named"},
		"another":              {asked(func(q *Request) { q.User = "deploy" }), ""},
		"at the host":          {asked(func(q *Request) { q.Self = "deploy" }), ""},
		"refused anyway":       {asked(func(q *Request) { q.Role = 0 }), ""},
	} {
		e := rules.Explain(c.q, noon)
		said := strings.Contains(e.String(), "the machine may be stricter: if its agent runs as a user whom these rules name, they count there: named\n")
		if got := strings.Join(e.OnlyHost, " "); got != c.want || said != (c.want != "") {
			t.Errorf("%s: %q\n%s", name, got, e)
		}
	}
}
