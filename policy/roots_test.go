package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const rootRules = `
[[allow]]
id = "data"
who.roles = ["operator"]
actions = ["copy-read"]
roots = ["/srv/data", "/srv/logs"]
[[allow]]
id = "logs"
who.roles = ["operator", "viewer"]
actions = ["copy-read"]
roots = ["/srv/logs", "/var/log"]
[[allow]]
id = "uploads"
who.roles = ["operator"]
actions = ["copy-write"]
roots = ["/srv/in"]
[[allow]]
id = "all"
who.roles = ["admin"]
actions = ["copy"]
[[allow]]
id = "some"
who.roles = ["admin"]
actions = ["copy"]
roots = ["/srv"]
approval.count = 1
`

// What does not fit into one answer is denied by name, and check says so before; one
// less is allowed.
func TestH8MoreRootsThanOneAnswerHoldsAreDenied(t *testing.T) {
	names := func(n, size int, from string) string {
		var s strings.Builder
		for i := range n {
			fmt.Fprintf(&s, "%q, ", fmt.Sprintf("/%s%0*d", from, size-1-len(from), i))
		}
		return s.String()
	}
	rules := func(a, b string) string {
		text := ""
		for id, list := range map[string]string{"a": a, "b": b} {
			text += "[[allow]]\nid = \"" + id + "\"\nwho.roles = [\"operator\"]\nactions = [\"copy-read\"]\nroots = [" + list + "]\n"
		}
		return text
	}
	for name, c := range map[string]struct {
		text string
		want Effect
	}{
		"as many":         {rules(names(1000, 64, "a"), names(1000, 64, "a")), Allow},
		"one more":        {rules(names(1000, 16, "a"), names(1, 16, "b")), Deny},
		"as long":         {rules(names(16, 4096, "a"), names(16, 4096, "a")), Allow},
		"one byte longer": {rules(names(16, 4096, "a"), names(1, 4, "b")), Deny},
	} {
		r := load(t, c.text)
		d := r.Decide(ask(func(q *Request) { q.Action, q.Argv, q.File = CopyRead, nil, "" }), noon)
		if d.Effect != c.want || d.Effect == Deny && d.Reason != manyRoots {
			t.Errorf("%s: %v, %s", name, d.Effect, d.Reason)
		}
		found := slices.ContainsFunc(r.Check(), func(f Finding) bool { return strings.Contains(f.Text, manyRoots) })
		if found != (c.want == Deny) {
			t.Errorf("%s: check finds %v", name, r.Check())
		}
	}
}

func TestRootsOfRulesThatMatchAddUp(t *testing.T) {
	r := load(t, rootRules)
	for _, c := range []struct {
		role   Role
		action Action
		want   Effect
		roots  []string
	}{
		{Operator, CopyRead, Allow, []string{"/srv/data", "/srv/logs", "/var/log"}},
		{Operator, CopyWrite, Allow, []string{"/srv/in"}},
		{Operator, Copy, Allow, nil}, // each direction has its own
		{Viewer, CopyRead, Allow, []string{"/srv/logs", "/var/log"}},
		{Viewer, CopyWrite, Deny, nil},
		{Admin, CopyWrite, NeedApproval, nil}, // a rule that opens everything takes no demand away
	} {
		d := r.Decide(ask(func(q *Request) { q.Role, q.Action, q.Argv, q.File = c.role, c.action, nil, "" }), noon)
		if d.Effect != c.want || !slices.Equal(d.Roots, c.roots) || (d.Roots == nil) != (c.roots == nil) {
			t.Errorf("%v %s: %v in %q (%s)", c.role, c.action, d.Effect, d.Roots, d.Reason)
		}
	}
}

// What two policies open is in both of them, and nothing in common is not everything.
func TestF10StricterOpensOnlyWhatBothOpen(t *testing.T) {
	for _, c := range []struct{ a, b, want []string }{
		{nil, nil, nil},
		{nil, []string{"/a"}, []string{"/a"}},
		{[]string{"/a", "/c"}, []string{"/a/b", "/ab", "/c"}, []string{"/a/b", "/c"}},
		{[]string{"/"}, []string{"/x"}, []string{"/x"}},
	} {
		a, b := Decision{Effect: Allow, Roots: c.a}, Decision{Effect: Allow, Roots: c.b}
		for _, d := range []Decision{Stricter(a, b), Stricter(b, a)} {
			if d.Effect != Allow || !slices.Equal(d.Roots, c.want) || (d.Roots == nil) != (c.want == nil) {
				t.Errorf("%q and %q: %v %q", c.a, c.b, d.Effect, d.Roots)
			}
		}
	}
	if d := Stricter(Decision{Effect: Allow, Roots: []string{"/a"}}, Decision{Effect: Allow, Roots: []string{"/ab"}}); d.Effect != Deny || d.Err() == nil {
		t.Errorf("nothing in common: %v", d.Effect)
	}
}

func TestRootsStandOnlyWhereTheyMeanSomething(t *testing.T) {
	for _, text := range []string{
		"[[allow]]\nid = \"a\"\nwho.roles = [\"operator\"]\nactions = [\"copy\", \"shell\"]\nroots = [\"/srv\"]\n",
		"[[allow]]\nid = \"a\"\nwho.roles = [\"operator\"]\nactions = [\"copy\"]\nroots = []\n",
		"[[allow]]\nid = \"a\"\nwho.roles = [\"operator\"]\nactions = [\"copy\"]\nroots = [\"srv\"]\n",
		"[[allow]]\nid = \"a\"\nwho.roles = [\"operator\"]\nactions = [\"copy\"]\nroots = [\"/srv/../etc\"]\n",
		"[[block]]\nid = \"a\"\nactions = [\"copy\"]\nroots = [\"/etc\"]\n",
	} {
		if _, err := Parse([]byte("version = 1\nmode = \"enforce\"\n" + text)); err == nil {
			t.Errorf("loads:\n%s", text)
		}
	}
}

// A folder to read below one to write is named; folders side by side, or one below
// another in the same direction, are not.
func TestI3CheckNamesFoldersInsideOneAnother(t *testing.T) {
	for _, c := range []struct {
		read, write string
		odd         bool
	}{
		{"/srv/pub", "/srv", true},
		{"/srv", "/srv/in", true},
		{"/srv/pub", "/srv/in", false},
		{"/srv", "/srv", false},
		{"/srv2", "/srv", false},
	} {
		rules := "[[allow]]\nid = \"r\"\nwho.roles = [\"operator\"]\nactions = [\"copy-read\"]\nroots = [\"" + c.read + "\"]\n" +
			"[[allow]]\nid = \"same\"\nwho.roles = [\"viewer\"]\nactions = [\"copy-read\"]\nroots = [\"" + c.read + "/x\"]\n" +
			"[[allow]]\nid = \"w\"\nwho.roles = [\"operator\"]\nactions = [\"copy-write\"]\nroots = [\"" + c.write + "\"]\n"
		found := slices.ContainsFunc(load(t, rules).Check(), func(f Finding) bool {
			return f.Rule != "same" && strings.HasPrefix(f.Text, "roots: ")
		})
		if found != c.odd {
			t.Errorf("read %s and write %s: %v", c.read, c.write, found)
		}
	}
}

// Who may write files hears of every socket that some rule opens by its name, whoever the
// rule is for: a copy must not put another one there.
func TestP4WhoWritesFilesHearsWhichSocketsRulesName(t *testing.T) {
	r := load(t, `
[[allow]]
id = "in"
who.roles = ["operator"]
actions = ["copy"]
[[allow]]
id = "web"
who.roles = ["admin"]
actions = ["forward-local"]
targets = ["/srv/run/web.sock", "db.lan:5432", "/run/a.sock"]
[[allow]]
id = "again"
who.people = ["p-1"]
actions = ["forward-remote"]
targets = ["/run/a.sock"]
[[block]]
id = "no"
actions = ["forward-local"]
targets = ["/run/blocked.sock"]
`)
	for action, want := range map[Action][]string{CopyWrite: {"/run/a.sock", "/srv/run/web.sock"}, CopyRead: nil, Copy: nil} {
		q := ask(func(q *Request) { q.Action, q.Argv, q.File = action, nil, "" })
		if d := r.Decide(q, noon); d.Effect != Allow || !slices.Equal(d.Sockets, want) {
			t.Errorf("%s: %v, %q", action, d.Effect, d.Sockets)
		}
	}
}

func TestH8MoreNamedSocketsThanOneAnswerHoldsLetNothingBeWritten(t *testing.T) {
	for n, want := range map[int]Effect{MaxRoots: Allow, MaxRoots + 1: Deny} {
		text := "[[allow]]\nid='in'\nwho.roles=['operator']\nactions=['copy']\n"
		for i := range n {
			text += fmt.Sprintf("[[allow]]\nid='s%d'\nwho.roles=['operator']\nactions=['forward-local']\ntargets=['/run/%d']\n", i, i)
		}
		r := load(t, text)
		for action, want := range map[Action]Effect{CopyWrite: want, CopyRead: Allow} {
			if d := r.Decide(ask(func(q *Request) { q.Action, q.Argv, q.File = action, nil, "" }), noon); d.Effect != want {
				t.Errorf("%s beside %d sockets: %v, %s", action, n, d.Effect, d.Reason)
			}
		}
		found := slices.ContainsFunc(r.Check(), func(f Finding) bool { return strings.Contains(f.Text, manySockets) })
		if found != (want == Deny) {
			t.Errorf("%d sockets: check says so: %v", n, found)
		}
	}
}
