package policy

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestF5MistakesInWindowsAreLoadErrors(t *testing.T) {
	const rule = "[[block]]\nid='w'\n"
	for when, text := range map[string]string{
		"when.days=['mon']\nwhen.zone='Europe/Atlantis'":         "not a time zone",
		"when.days=['mon']\nwhen.zone='Local'":                   "not a time zone",
		"when.days=['mon']\nwhen.zone=''":                        "not a time zone",
		"when.days=['mon']\nwhen.zone='../etc/passwd'":           "not a time zone",
		"when.days=['mon']":                                      "when.zone",
		"when.from='08:00'\nwhen.to='08:00'\nwhen.zone='UTC'":    "the window is empty",
		"when.from='08:00'\nwhen.to='24:00'\nwhen.zone='UTC'":    "the end of the day is",
		"when.from='8:00'\nwhen.to='09:00'\nwhen.zone='UTC'":     "not a time of day",
		"when.from='08:60'\nwhen.to='09:00'\nwhen.zone='UTC'":    "not a time of day",
		"when.from='08:00:01'\nwhen.to='09:00'\nwhen.zone='UTC'": "not a time of day",
		"when.from=480\nwhen.to='09:00'\nwhen.zone='UTC'":        "not a time of day",
		"when.from='08:00'\nwhen.zone='UTC'":                     "stand together",
		"when.days=[]\nwhen.zone='UTC'":                          "the list is empty",
		"when.days=['Mon']\nwhen.zone='UTC'":                     "not a day",
		"when.days=['monday']\nwhen.zone='UTC'":                  "not a day",
		"when.days=[{}]\nwhen.zone='UTC'":                        "not a string",
		"when.zone='UTC'":                                        "neither days nor",
		"when.day=['mon']\nwhen.zone='UTC'":                      "block.when.day: unknown key, did you mean days?",
		"when.from={}\nwhen.to='09:00'\nwhen.zone='UTC'":         "when.from: want a string",
	} {
		if _, err := Parse([]byte(head + rule + when + "\n")); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", when, err)
		}
	}
}

func TestMistakesNameTheLineAndWhatToDo(t *testing.T) {
	long := strings.Repeat("'a',", MaxList+1)
	for body, text := range map[string]string{
		"":                          "version = 1",
		"version=2\nmode='enforce'": "version = 1",
		"version=1":                 "mode",
		"version=1\nmode='x'":       `line 2: mode: "x" is not a mode`,
		"version=1\nmode=1":         `"1" is not a mode`,
		"version=1\nMode='enforce'": `line 2: key "Mode"`,
		"version=1\nmode='enforce'\nmode='enforce'": "line 3",
		head + "[alow]":                                                                        "line 3: alow: unknown key, did you mean allow?",
		head + "roster_grace='1y'":                                                             "line 3: roster_grace",
		head + "roster_grace='900h'":                                                           "not a duration from",
		head + "limits.idle='0s'":                                                              "not a duration from",
		head + "[gate]\nwhere.tags_any=['a']":                                                  "approval.count",
		head + "gate.approval.count=0":                                                         "from 1 to 10",
		head + "gate.approval.count=11":                                                        "from 1 to 10",
		head + "[gate]\napproval.count=1\nwhere.agents=[]":                                     "[gate]: where.agents",
		head + "[gate]\napproval.count=1\napproval.roles=['boss']":                             "is not a role",
		head + "[gate]\napproval.count=1\napproval.roles=[3]":                                  "is not a role",
		head + "[[block]]\nwho.roles=['operator']":                                             "every rule needs one",
		head + "[[block]]\nid='A'":                                                             "is not a rule id",
		head + "[[block]]\nid='a'\napproval.count=1":                                           "no meaning in a block rule",
		head + "[[block]]\nid='a'\nlimits.idle='1m'":                                           "no meaning in a block rule",
		head + "\n\n[[block]]\nid='a'\n[[block]]\nid='a'":                                      "line 7: [[block]] rule \"a\": id: another rule",
		head + "[[allow]]\nid='a'\nactions=['shell']":                                          "who: an allow rule says whom",
		head + "[[allow]]\nid='a'\nwho.roles=['admin']":                                        "actions: an allow rule lists them",
		head + "[[allow]]\nid='a'\nwho.roles=[]\nactions=['shell']":                            "who.roles: the list is empty",
		head + "[[allow]]\nid='a'\nwho.roles=[{}]\nactions=['shell']":                          "not a string",
		head + "[[block]]\nid='a'\nactions=[]":                                                 "actions: the list is empty",
		head + "[[block]]\nid='a'\nactions=['Shell']":                                          "is not an action",
		head + "[[block]]\nid='a'\nusers=[]":                                                   "users: the list is empty",
		head + "[[block]]\nid='a'\nusers=['*']":                                                "is not a login name",
		head + "[[block]]\nid='a'\nusers=['-oProxy']":                                          "is not a login name",
		head + "[[block]]\nid='a'\nusers=['@root']":                                            "is not a login name",
		head + "[[block]]\nid='a'\nusers=[" + long + "]":                                       "the limit is 1000",
		head + "[[block]]\nid='a'\nwho.people=['a b']":                                         "is not a person id",
		head + "[[block]]\nid='a'\nwho.keys=['zz']":                                            "line 5: block.who.keys",
		head + "[[block]]\nid='a'\nwho.keys=[[1,2]]":                                           "who.keys",
		head + "[[block]]\nid='a'\nwhere.agents=['a_b']":                                       "is not a host name",
		head + "[[block]]\nid='a'\ncwd=['srv']":                                                "is not an absolute directory",
		head + "[[block]]\nid='a'\ncommands=[['/bin/x']]":                                      "restrict exec only",
		head + "[[block]]\nid='a'\nactions=['exec']\ncommands=[]":                              "the list is empty",
		head + "[[block]]\nid='a'\nactions=['exec']\ncommands=[[]]":                            "absolute path",
		head + "[[block]]\nid='a'\nactions=['exec']\ncommands=[['rm']]":                        "absolute path",
		head + "[[block]]\nid='a'\nactions=['exec']\ncommands=[['/bin/../rm']]":                "absolute path",
		head + "[[block]]\nid='a'\nactions=['exec']\ncommands=[['...']]":                       "absolute path",
		head + "[[block]]\nid='a'\nactions=['exec']\ncommands=[['/']]":                         "absolute path",
		head + "[[block]]\nid='a'\nactions=['exec']\ncommands=[[\"/a\", \"\\u0000\"]]":         "zero byte",
		head + "environment.allow=['LC_*']":                                                    "there are no patterns",
		head + "environment.allow=['1A']":                                                      "is not the name",
		head + "[[expect]]\nname='x'\naction='shell'\nrole='operator'":                         "want",
		head + "[[expect]]\nwant='deny'":                                                       "name",
		head + "[[expect]]\nname='x'\nwant='maybe'":                                            "is not an answer",
		head + "[[expect]]\nname='x'\nwant='deny'":                                             "action",
		head + "[[expect]]\nname='x'\nwant='deny'\naction='shell'":                             "role",
		head + "[[expect]]\nname='x'\nwant='deny'\naction='shell'\nrole='operator'\nrule='no'": "there is no rule",
		head + "[[expect]]\nname='x'\nat='yesterday'":                                          "not a point in time",
	} {
		if _, err := Parse([]byte(body)); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q:\n got %v\nwant %s", body, err, text)
		}
	}
}

func TestExpectationNeedsATimeWhereThereAreHours(t *testing.T) {
	body := head + "[[block]]\nid='w'\nwhen.days=['mon']\nwhen.zone='UTC'\n[[expect]]\nname='x'\nwant='deny'\naction='shell'\nrole='operator'\n"
	if _, err := Parse([]byte(body)); err == nil || !strings.Contains(err.Error(), "at: this policy has hours") {
		t.Error(err)
	}
	if _, err := Parse([]byte(body + "at='2026-03-02T12:00:00Z'\n")); err != nil {
		t.Error(err)
	}
}

func TestF11SizeAndDepthAreBounded(t *testing.T) {
	var many strings.Builder
	for i := range MaxRules + 1 {
		fmt.Fprintf(&many, "[[block]]\nid='%d'\n", i)
	}
	var hundredThousand strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&hundredThousand, "[[block]]\nid='%d'\n", i)
	}
	for name, c := range map[string]struct{ body, text string }{
		"10 MB":               {strings.Repeat("# padding\n", 1<<20), "the limit is 1048576"},
		"100,000 rules":       {hundredThousand.String(), "the limit is"},
		"10,001 rules":        {many.String(), "10001 rules, the limit is 10000"},
		"10,001 expectations": {strings.Repeat("[[expect]]\n", MaxExpect+1), "10001 expectations, the limit is 10000"},
		"deep arrays":         {"a=" + strings.Repeat("[", 1<<19), "nested deeper"},
		"deep tables":         {"a=" + strings.Repeat("{a=", 1<<18), "nested deeper"},
		"deep keys":           {strings.Repeat("a.", 1<<19-100) + "a=1", "a key of more than"},
	} {
		mustTake(t, name, 5*time.Second, func() {
			if _, err := Parse([]byte(head + c.body)); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s: %.200v", name, err)
			}
		})
	}
}

// mustTake wants f to take no longer than limit, at the best of five times: what else a
// machine has to do makes it slower, and nothing makes it faster than it is.
func mustTake(t *testing.T, what string, limit time.Duration, f func()) {
	t.Helper()
	best := time.Duration(math.MaxInt64)
	for try := 0; try < 5 && best > limit; try++ {
		start := time.Now()
		f()
		best = min(best, time.Since(start))
	}
	if best > limit {
		t.Errorf("%s took %v", what, best)
	}
}

// The largest file that loads: 10,000 rules that all apply to one host.
func TestF11EvaluationOfTheLargestFileIsBounded(t *testing.T) {
	var b strings.Builder
	for i := range MaxRules {
		fmt.Fprintf(&b, "[[allow]]\nid='r%d'\nwho.roles=['operator']\nactions=['shell']\nlimits.idle='1h'\n", i)
	}
	r := load(t, b.String())
	mustTake(t, "one decision", time.Second, func() { expectEffectFast(t, r) })
	if len(r.Check()) == 0 {
		t.Error("10,000 equal rules and no finding")
	}
}

func expectEffectFast(t *testing.T, r *Rules) {
	if d := r.Decide(ask(), noon); d.Effect != Allow || d.Rule != "r0" {
		t.Errorf("%+v", d)
	}
}

func TestHashIsOfTheBytes(t *testing.T) {
	a, b := load(t, team), load(t, team+"# a comment\n")
	if a.Hash() != sha256.Sum256([]byte(head+team)) || a.Hash() == b.Hash() {
		t.Error("the hash is not that of the file")
	}
}

func TestRosterGrace(t *testing.T) {
	if g := load(t, "").RosterGrace(); g != 0 {
		t.Errorf("without the key: %v", g)
	}
	if g := load(t, "roster_grace='12h'\n").RosterGrace(); g != 12*time.Hour {
		t.Errorf("12h is %v", g)
	}
}

func TestDefaultPolicy(t *testing.T) {
	text := Default()
	text[0] = 'x'
	if bytes.Equal(text, Default()) {
		t.Fatal("the caller got the package's own bytes")
	}
	r, err := Parse(Default())
	if err != nil {
		t.Fatal(err)
	}
	if f := r.Check(); len(f) != 0 {
		t.Errorf("findings: %v", f)
	}
	for _, res := range r.RunExpectations() {
		if !res.OK {
			t.Errorf("%+v", res)
		}
	}
	for _, role := range []Role{Operator, Approver, Admin, Owner} {
		as := func(q *Request) { q.Role = role }
		expectEffect(t, r, ask(as), noon, Allow)
		expectEffect(t, r, ask(as, exec("/usr/bin/id")), noon, Allow)
		expectEffect(t, r, ask(as, func(q *Request) { q.User = "root" }), noon, Deny)
		expectEffect(t, r, ask(as, func(q *Request) { q.Action = Forward }), noon, Allow)
		expectEffect(t, r, ask(as, func(q *Request) { q.Action = Copy }), noon, Allow)
		expectEffect(t, r, ask(as, func(q *Request) { q.Action = Background }), noon, Allow)
		expectEffect(t, r, ask(as, func(q *Request) { q.Action = ForwardAgent }), noon, Deny)
	}
	expectEffect(t, r, ask(func(q *Request) { q.Role = Viewer }), noon, Deny)
}

// The parts of the default file that are commented out must work as well.
func TestDefaultPolicyExamples(t *testing.T) {
	text := uncommented()
	r, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	expectEffect(t, r, ask(), noon, NeedApproval)
	expectEffect(t, r, ask(exec("/usr/bin/systemctl", "restart", "nginx")), noon, Allow)
	expectEffect(t, r, ask(func(q *Request) { q.Tags, q.Action = nil, Copy }), noon, Allow)
}

// uncommented is the default file with what is commented out in it.
func uncommented() string {
	var b strings.Builder
	for line := range strings.Lines(string(Default())) {
		code := strings.TrimPrefix(strings.TrimPrefix(line, "#"), " ")
		if strings.HasPrefix(line, "# ") && strings.ContainsAny(code[:1], "[]w aciud") && strings.ContainsAny(code, "=[]") && !strings.Contains(code, "[[expect]] tables") {
			line = code
		}
		b.WriteString(line)
	}
	return b.String()
}

// The example of the package doc is a policy.
func TestDocExample(t *testing.T) {
	r, err := Parse([]byte(docExample(t)))
	if err != nil {
		t.Fatal(err)
	}
	for _, res := range r.RunExpectations() {
		if !res.OK {
			t.Errorf("%+v", res)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Default())
	f.Add([]byte(head + gated))
	f.Add([]byte(docExample(f)))
	f.Add([]byte("a=[[[[[[[["))
	f.Add([]byte("a=\"\\\n[[[[\""))
	f.Add([]byte("'''a''''='"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data)
		if err != nil {
			return
		}
		r.Check()
		r.RunExpectations()
		for _, q := range []*Request{ask(), ask(exec("/usr/bin/systemctl", "restart", "nginx"))} {
			if d := r.Decide(q, noon); !reflect.DeepEqual(r.Explain(q, noon).Decision, d) || d.Effect == NeedApproval != (d.Approval.Count > 0) {
				t.Errorf("%+v", d)
			}
		}
		again, err := Parse(data)
		if err != nil || again.Hash() != r.Hash() || !reflect.DeepEqual(again.Decide(ask(), noon), r.Decide(ask(), noon)) {
			t.Error("the same bytes made another policy")
		}
	})
}

// Whoever edits the file sees the line and the key, whatever table it is in.
func TestMistakesInEachTableNameLineAndKey(t *testing.T) {
	const allow, expect = head + "[[allow]]\nid='a'\nwho.roles=['admin']\n", head + "[[expect]]\nname='n'\n"
	for body, text := range map[string]string{
		head + "environment.allow='LANG'":                    "line 3: environment.allow: ",
		head + "environment.deny=[]":                         "line 3: environment.deny: unknown key",
		head + "environment.allow=[{}]":                      "environment.allow: no. 1 is not a string",
		head + "environment.allow=['LANG','LD_PRELOAD']":     `environment.allow: "LD_PRELOAD" can never be allowed`,
		head + "[limits]\n\nidle='soon'":                     `line 5: limits.idle: "soon" is not a duration`,
		head + "[limits]\ntotal='1h'":                        "line 4: limits.total: unknown key",
		head + "[gate]\nwhere.tag=['a']":                     "line 4: gate.where.tag: unknown key",
		head + "[gate]\napproval.count='1'":                  "line 4: gate.approval.count: ",
		head + "gate={}":                                     "[gate]: approval.count: say how many",
		allow + "actions=['exec']\nactions=['copy']":         "line 7: actions: key actions is already defined",
		allow + "who.role=['admin']":                         "line 6: allow.who.role: unknown key",
		allow + "actions=['exec']\ncwd=['/a',{}]":            `line 3: [[allow]] rule "a": cwd: no. 2 is not a string`,
		allow + "actions=['exec']\napproval={}":              `line 3: [[allow]] rule "a": approval.count: 0 is not from`,
		allow + "actions=['exec']\ncommands=[['/b'],['c']]":  `line 3: [[allow]] rule "a": commands: no. 2: the first element`,
		allow + "actions=['exec']\ncommands=[['/b',1]]":      "line 7: allow.commands: ",
		allow + "actions=['exec']\nlimits.session='31d'":     "line 7: allow.limits.session: ",
		allow + "actions=['exec']\n [[ block ]] # x\nid='a'": `line 7: [[block]] rule "a": id: another rule`,
		head + "allow=[{id='x',who.roles=['owner']}]":        `line 0: [[allow]] rule "x": actions: an allow rule lists`,
		head + "[[block]]\nid='b'\nwhen.to='6'":              `line 5: block.when.to: "6" is not a time of day`,
		head + "[[block]]\nid='b'\nwhen={}":                  `line 3: [[block]] rule "b": when.zone: say whose clock`,
		expect + "who='x'":                                   "line 5: expect.who: unknown key",
		expect + "path='/x'":                                 "line 5: expect.path: unknown key; the keys there are name, action, role, email, person, key, agent, tags, user, argv, cwd, env, target, at, want, rule",
		head + "[gate]\nhosts=['a']":                         "line 4: gate.hosts: unknown key; the keys there are where, approval",
		expect + "user='*'":                                  `line 5: expect.user: "*" is not a login name`,
		expect + "\nkey='zz'":                                "line 6: expect.key: reading a key id",
		expect + "want={}":                                   `line 3: [[expect]] "n": want: write`,
		head + "# \xff":                                      "line 3: invalid UTF-8",
	} {
		if r, err := Parse([]byte(body)); r != nil || err == nil || !strings.HasPrefix(err.Error(), "reading the policy: ") || !strings.Contains(err.Error(), text) {
			t.Errorf("%q:\n got %v\nwant %s", body, err, text)
		}
	}
}

func TestRosterGraceBounds(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1s": time.Second, "1m30s": 90 * time.Second, "720h": 30 * 24 * time.Hour,
		"999ms": 0, "720h0m1s": 0, "-1h": 0, "0": 0, "0s": 0, "": 0, "12": 0, "1d": 0, "9999999h": 0, "+Inf": 0,
	} {
		r, err := Parse([]byte(head + "roster_grace='" + text + "'\n"))
		if (err == nil) != (want > 0) || err == nil && r.RosterGrace() != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// The TOML library takes {} for any value that reads itself; it must not load as
// a limit that was left out.
func TestEmptyTableIsNoValue(t *testing.T) {
	rule := "[[allow]]\nid = 'x'\nwho.roles = ['admin']\nactions = ['shell']\n"
	hours := rule + "when.zone = 'UTC'\nwhen.days = ['mon']\n"
	expect := "[[expect]]\nname = 'e'\nrole = 'admin'\naction = 'shell'\nwant = 'deny'\n"
	for _, text := range []string{
		"limits.session = {}", "# limits\n[limits]\nidle = '1h'\nsession = { }", "[limits.session] # 1h\n[gate]\napproval.count = 1",
		"limits = {idle = {}}", "[limits.resume]", "roster_grace = {}", rule + "limits.session = {}", rule + "limits.resume = {}",
		hours + "when.from = {}\nwhen.to = '09:00'", hours + "when.from = {}\nwhen.to = {}", hours + "[allow.when.to]\n[allow.when.from]",
		expect + "user = {}", expect + "key = {}", expect + "at = {}",
	} {
		if _, err := Parse([]byte("version = 1\nmode = 'enforce'\n" + text + "\n")); err == nil || !strings.Contains(err.Error(), "want a string") || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%q: %v", text, err)
		}
	}
	for text, line := range map[string]string{
		"limits.session = {}": "line 3", "# limits\n[limits]\nidle = '1h'\nsession = { } # none": "line 6", "\n[limits.session] # 1h\n\n[gate]\napproval.count = 1": "line 4",
		"[gate]\napproval.count=1\n[limits.session]": "line 5", "[limits.session]\n[[allow]]": "line 3",
	} {
		if _, err := Parse([]byte("version = 1\nmode = 'enforce'\n" + text)); err == nil || !strings.Contains(err.Error(), line+": limits.session: want a string") {
			t.Errorf("%q: %v, want %s", text, err, line)
		}
	}
}
