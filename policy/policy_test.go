package policy

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

const head = "version = 1\nmode = \"enforce\"\n"

// noon is a Monday.
var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func load(t testing.TB, body string) *Rules {
	t.Helper()
	r, err := Parse([]byte(head + body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ask builds a request of an operator for a shell on web-1, with changes.
func ask(change ...func(*Request)) *Request {
	q := &Request{
		Action: Shell, Agent: "web-1", Tags: []string{"prod", "web"},
		Operator: key.ID{1}, Email: "ann@team.com", Person: "p-1", Role: Operator,
	}
	for _, c := range change {
		c(q)
	}
	return q
}

func exec(argv ...string) func(*Request) {
	return func(q *Request) {
		q.Action, q.File, q.Argv = Exec, argv[0], nil
		for _, a := range argv {
			q.Argv = append(q.Argv, []byte(a))
		}
	}
}

// expectEffect asserts the answer and that Explain agrees with Decide.
func expectEffect(t *testing.T, r *Rules, q *Request, at time.Time, want Effect) Decision {
	t.Helper()
	d := r.Decide(q, at)
	if d.Effect != want {
		t.Errorf("got %s (%s), want %s\n%s", d.Effect, d.Reason, want, r.Explain(q, at))
	}
	if d.PolicyHash != r.Hash() {
		t.Error("the decision does not name its policy")
	}
	if (d.Effect == Allow) != (d.Err() == nil) || (d.Effect == Allow) != (d.Code == "") {
		t.Errorf("effect %s, code %q, error %v do not agree", d.Effect, d.Code, d.Err())
	}
	if e := r.Explain(q, at); !reflect.DeepEqual(e.Decision, d) {
		t.Errorf("Explain says %+v, Decide %+v", e.Decision, d)
	}
	return d
}

const team = `
[[allow]]
id = "team"
who.roles = ["operator"]
actions = ["shell", "exec"]
`

func TestF1NoRuleDeniesAndSaysWhatIsMissing(t *testing.T) {
	r := load(t, team+`
[[allow]]
id = "night"
who.roles = ["admin"]
where.agents = ["db-1"]
actions = ["copy"]
users = ["root"]
cwd = ["/srv"]
when.from = "22:00"
when.to = "23:00"
when.zone = "UTC"
[[allow]]
id = "uptime"
who.roles = ["approver"]
actions = ["exec"]
commands = [["/usr/bin/uptime"]]
`)
	admin := func(q *Request) { q.Role, q.Action, q.Agent, q.User, q.Cwd = Admin, Copy, "db-1", "root", "/srv" }
	for name, c := range map[string]struct {
		q    *Request
		code refusal.Code
		text string
	}{
		"action":  {ask(func(q *Request) { q.Action = Forward }), refusal.PolicyDenied, "names this action"},
		"person":  {ask(func(q *Request) { q.Role = Viewer }), refusal.PolicyDenied, "lets this person do this on this host"},
		"host":    {ask(admin, func(q *Request) { q.Agent = "db-2" }), refusal.PolicyDenied, "on this host"},
		"user":    {ask(func(q *Request) { q.User = "root" }), refusal.UserNotAllowed, "names this login user"},
		"cwd":     {ask(admin, func(q *Request) { q.Cwd = "/" }), refusal.PolicyDenied, "working directory"},
		"command": {ask(exec("/usr/bin/id"), func(q *Request) { q.Role = Approver }), refusal.PolicyDenied, "this program with these arguments"},
		"hours":   {ask(admin), refusal.PolicyDenied, "outside their hours"},
	} {
		d := expectEffect(t, r, c.q, noon, Deny)
		if d.Rule != "" || d.Code != c.code || !strings.Contains(d.Reason, c.text) {
			t.Errorf("%s: rule %q, code %s, reason %q", name, d.Rule, d.Code, d.Reason)
		}
	}
}

func TestF2BlockBeatsAllow(t *testing.T) {
	r := load(t, team+`
[[block]]
id = "z-freeze"
where.tags_any = ["prod"]
[[block]]
id = "freeze"
where.tags_all = ["prod", "web"]
`)
	if d := expectEffect(t, r, ask(), noon, Deny); d.Rule != "freeze" {
		t.Errorf("settled by %q, want the first of both by id", d.Rule)
	}
	expectEffect(t, r, ask(func(q *Request) { q.Tags = []string{"web"} }), noon, Allow)
}

func TestF7OnlyTheGivenTagsCount(t *testing.T) {
	r := load(t, "[[allow]]\nid='a'\nwho.roles=['operator']\nactions=['shell']\nwhere.tags_all=['prod']\n")
	expectEffect(t, r, ask(func(q *Request) { q.Tags, q.Agent = nil, "prod" }), noon, Deny)
	expectEffect(t, r, ask(), noon, Allow)
}

func TestF8NamesMatchExactly(t *testing.T) {
	r := load(t, "[[allow]]\nid='a'\nwho.roles=['operator']\nactions=['shell']\nwhere.tags_any=['p.d']\nwhere.agents=['web-1']\n")
	for _, tag := range []string{"P.D", "pad", "p.d ", " p.d", "p.d\x00", "p․d", "*", "p.*", "", "p", "p.dx"} {
		expectEffect(t, r, ask(func(q *Request) { q.Tags = []string{tag} }), noon, Deny)
	}
	good := func(q *Request) { q.Tags = []string{"p.d"} }
	expectEffect(t, r, ask(good), noon, Allow)
	expectEffect(t, r, ask(good, func(q *Request) { q.Agent = "WEB-1" }), noon, Deny)
	for _, bad := range []string{"Prod", "pro d", "prod\u200b", "prod*", "pr[o]d", "^prod$", "", "-prod", "прод", strings.Repeat("a", 64)} {
		if _, err := Parse([]byte(head + "[[block]]\nid='b'\nwhere.tags_any=[" + fmt.Sprintf("%q", bad) + "]\n")); err == nil {
			t.Errorf("tag %q was taken", bad)
		}
		if ValidTag(bad) || ValidAgentName(bad) {
			t.Errorf("%q is called valid", bad)
		}
	}
}

func TestF12EmailIsALabelAndTheDomainGrantsNothing(t *testing.T) {
	r := load(t, "[[allow]]\nid='a'\nwho.emails=['a@team.com']\nactions=['shell']\n")
	expectEffect(t, r, ask(func(q *Request) { q.Email = "a@team.com" }), noon, Allow)
	for _, other := range []string{"A@Team.com", "a+x@team.com", "a@tеam.com", "a@team.com.evil.org", "b@team.com", "a@team.com ", ""} {
		expectEffect(t, r, ask(func(q *Request) { q.Email = other }), noon, Deny)
	}
	for _, bad := range []string{"@team.com", "*@team.com", "team.com", "a@", "a@b@c", "a b@team.com", "ä@team.com", ""} {
		if _, err := Parse([]byte(head + "[[block]]\nid='b'\nwho.emails=[" + fmt.Sprintf("%q", bad) + "]\n")); err == nil {
			t.Errorf("e-mail %q was taken", bad)
		}
	}
	byKey := load(t, fmt.Sprintf("[[allow]]\nid='k'\nwho.keys=['%s']\nactions=['shell']\n", key.ID{7}))
	expectEffect(t, byKey, ask(func(q *Request) { q.Email = "a@team.com" }), noon, Deny)
	expectEffect(t, byKey, ask(func(q *Request) { q.Operator = key.ID{7} }), noon, Allow)
}

func TestEveryConditionOfARuleMustHold(t *testing.T) {
	r := load(t, fmt.Sprintf(`[[allow]]
id = "all"
who.roles = ["operator", "admin"]
who.people = ["p-1"]
who.emails = ["ann@team.com"]
who.keys = ["%s"]
where.agents = ["web-1", "web-2"]
where.tags_all = ["prod", "web"]
where.tags_any = ["web", "db"]
actions = ["shell"]
users = ["deploy"]
`, key.ID{1}))
	deploy := func(q *Request) { q.User = "deploy" }
	expectEffect(t, r, ask(deploy), noon, Allow)
	for name, change := range map[string]func(*Request){
		"role":   func(q *Request) { q.Role = Approver },
		"person": func(q *Request) { q.Person = "p-2" },
		"email":  func(q *Request) { q.Email = "eve@team.com" },
		"key":    func(q *Request) { q.Operator = key.ID{2} },
		"agent":  func(q *Request) { q.Agent = "web-3" },
		"tags":   func(q *Request) { q.Tags = []string{"web"} },
		"action": func(q *Request) { q.Action = Copy },
		"user":   func(q *Request) { q.User = "" },
	} {
		if d := r.Decide(ask(deploy, change), noon); d.Effect != Deny {
			t.Errorf("%s: %s", name, d.Effect)
		}
	}
}

func TestAgentUserHasTwoSpellings(t *testing.T) {
	byWord := load(t, team)
	root := func(q *Request) { q.User = "root" }
	self := func(q *Request) { q.Self = "root" }
	expectEffect(t, byWord, ask(), noon, Allow)
	expectEffect(t, byWord, ask(root), noon, Deny)
	expectEffect(t, byWord, ask(root, self), noon, Allow)
	expectEffect(t, byWord, ask(func(q *Request) { q.User = AgentUser }), noon, Deny)

	noRoot := load(t, team+"[[block]]\nid='no-root'\nusers=['root']\n")
	expectEffect(t, noRoot, ask(self), noon, Deny)
	expectEffect(t, noRoot, ask(), noon, Allow)
	expectEffect(t, load(t, team+"[[block]]\nid='b'\nusers=['@agent']\n"), ask(root, self), noon, Deny)
	expectEffect(t, load(t, team+"[[block]]\nid='everybody'\n"), ask(root), noon, Deny)
}

func TestLockdownDeniesEverything(t *testing.T) {
	r, err := Parse([]byte("version=1\nmode='lockdown'\n" + team))
	if err != nil {
		t.Fatal(err)
	}
	if d := expectEffect(t, r, ask(), noon, Deny); !strings.Contains(d.Reason, "lockdown") {
		t.Errorf("reason %q", d.Reason)
	}
}

func TestBadRequestsAreDenied(t *testing.T) {
	r := load(t, team)
	for name, c := range map[string]struct {
		change func(*Request)
		code   refusal.Code
	}{
		"unknown action": {func(q *Request) { q.Action = "format" }, refusal.PolicyDenied},
		"no action":      {func(q *Request) { q.Action = "" }, refusal.PolicyDenied},
		"no role":        {func(q *Request) { q.Role = 0 }, refusal.PolicyDenied},
		"wrong role":     {func(q *Request) { q.Role = 77 }, refusal.PolicyDenied},
		"many tags":      {func(q *Request) { q.Tags = make([]string, MaxTags+1) }, refusal.PolicyDenied},
		"zero byte":      {exec("/bin/a", "x\x00y"), refusal.BadArgument},
		"zero byte cwd":  {func(q *Request) { q.Cwd = "/a\x00" }, refusal.BadArgument},
		"long cwd":       {func(q *Request) { q.Cwd = strings.Repeat("a", MaxCwdBytes+1) }, refusal.BadArgument},
		"many arguments": {exec(make([]string, MaxArgs+1)...), refusal.BadArgument},
		"long argument":  {exec("/bin/a", strings.Repeat("a", MaxArgBytes)), refusal.BadArgument},
		"empty program":  {exec(""), refusal.BadArgument},
		"no program":     {func(q *Request) { q.Action, q.File = Exec, "/bin/a" }, refusal.BadArgument},
		"not resolved":   {func(q *Request) { exec("/bin/a")(q); q.File = "" }, refusal.BadArgument},
		"relative":       {func(q *Request) { exec("/bin/a")(q); q.File = "bin/a" }, refusal.BadArgument},
		"dots":           {func(q *Request) { exec("/bin/a")(q); q.File = "/bin/../bin/rm" }, refusal.BadArgument},
		"both resolved":  {func(q *Request) { exec("/bin/a")(q); q.Unresolved = true }, refusal.BadArgument},
		"environment":    {func(q *Request) { q.Env = []string{"FOO"} }, refusal.EnvNotAllowed},
		"much environment": {func(q *Request) {
			for range MaxEnv + 1 {
				q.Env = append(q.Env, "LANG")
			}
		}, refusal.EnvNotAllowed},
	} {
		d := expectEffect(t, r, ask(c.change), noon, Deny)
		if d.Code != c.code {
			t.Errorf("%s: code %s, want %s", name, d.Code, c.code)
		}
	}
	if d := expectEffect(t, r, ask(), time.Time{}, Deny); d.Code != refusal.BadTime {
		t.Errorf("no time: code %s", d.Code)
	}
}

// Nothing that a peer wrote may reach a reason: it is printed and logged.
func TestReasonsHoldNothingOfTheRequest(t *testing.T) {
	r := load(t, team)
	const mark = "\x1b[31mmark"
	for _, q := range []*Request{
		ask(func(q *Request) { q.Action = mark }), ask(func(q *Request) { q.User = mark }),
		ask(func(q *Request) { q.Env = []string{mark} }), ask(exec("/bin/"+mark, mark)),
		ask(func(q *Request) { q.Cwd, q.Email, q.Agent = mark, mark, mark }),
	} {
		if d := r.Decide(q, noon); strings.Contains(d.Reason+d.Rule, "mark") {
			t.Errorf("reason %q", d.Reason)
		}
	}
}

func TestE8EnvironmentOfLoadersAndShellsIsNeverAllowed(t *testing.T) {
	standard := load(t, team)
	expectEffect(t, standard, ask(func(q *Request) { q.Env = []string{"TERM", "LANG", "LC_ALL"} }), noon, Allow)
	for _, name := range []string{
		"LD_PRELOAD", "LD_AUDIT", "BASH_ENV", "ENV", "IFS", "PATH", "PYTHONPATH", "PERL5OPT", "NODE_OPTIONS", "GIT_SSH_COMMAND",
		"ld_preload", "Path", "DYLD_INSERT_LIBRARIES", "BASH_FUNC_ls%%", "RUBYOPT", "SSH_AUTH_SOCK", "PROMPT_COMMAND",
	} {
		d := expectEffect(t, standard, ask(func(q *Request) { q.Env = []string{"TERM", name} }), noon, Deny)
		if d.Code != refusal.EnvNotAllowed {
			t.Errorf("%s: code %s", name, d.Code)
		}
		if !RefusedEnv(name) {
			t.Errorf("%s could be allowed", name)
		}
		if _, err := Parse([]byte(head + "environment.allow=['" + name + "']\n")); err == nil {
			t.Errorf("a policy could allow %s", name)
		}
	}
	own := load(t, "environment.allow=['BUILD_ID']\n"+team)
	expectEffect(t, own, ask(func(q *Request) { q.Env = []string{"BUILD_ID"} }), noon, Allow)
	for _, name := range []string{"build_id", "BUILD_ID=x", "BUILD_ID\x00", "", "LANG"} {
		expectEffect(t, own, ask(func(q *Request) { q.Env = []string{name} }), noon, Deny)
	}
	none := load(t, "environment.allow=[]\n"+team)
	expectEffect(t, none, ask(func(q *Request) { q.Env = []string{"LANG"} }), noon, Deny)
}

func TestStandardEnvironmentIsNotRefused(t *testing.T) {
	for _, name := range standardEnv {
		if RefusedEnv(name) {
			t.Errorf("%s is both", name)
		}
	}
}
