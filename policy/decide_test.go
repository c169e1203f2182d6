package policy

import (
	"fmt"
	"math/rand"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"pgregory.net/rapid"
)

// drawRule writes one rule with conditions from a small world, so that rules and
// requests meet often.
func drawRule(t *rapid.T, i int) string {
	var b strings.Builder
	pick := func(name string, of ...string) {
		if n := rapid.IntRange(0, 2*len(of)).Draw(t, name); n < len(of) {
			fmt.Fprintf(&b, "%s = [%s]\n", name, strings.Join(of[:n+1], ","))
		}
	}
	block := rapid.IntRange(0, 4).Draw(t, "block") == 0
	kind := "allow"
	if block {
		kind = "block"
	}
	fmt.Fprintf(&b, "[[%s]]\nid = \"r%d\"\n", kind, i)
	exec := rapid.IntRange(0, 3).Draw(t, "exec") == 0
	switch {
	case exec:
		b.WriteString("actions = [\"exec\"]\n")
		pick("commands", `["/bin/a"]`, `["/bin/b", "..."]`)
	case !block:
		b.WriteString("actions = [\"shell\", \"exec\"]\n")
	}
	if !block {
		b.WriteString("who.roles = [\"operator\", \"admin\"]\n")
	} else {
		pick("who.roles", `"operator"`, `"viewer"`)
	}
	pick("who.emails", `"ann@team.com"`, `"bob@team.com"`)
	pick("who.people", `"p-1"`, `"p-2"`)
	pick("who.keys", `"`+key.ID{1}.String()+`"`, `"`+key.ID{2}.String()+`"`)
	pick("where.tags_any", `"prod"`, `"web"`, `"db"`)
	pick("where.tags_all", `"web"`, `"prod"`)
	pick("where.agents", `"web-1"`, `"db-1"`)
	pick("users", `"@agent"`, `"root"`)
	if rapid.IntRange(0, 3).Draw(t, "when") == 0 {
		b.WriteString("when.from = \"08:00\"\nwhen.to = \"18:00\"\nwhen.zone = \"Europe/Berlin\"\n")
	}
	if !block && rapid.Bool().Draw(t, "approval") {
		fmt.Fprintf(&b, "approval.count = %d\nlimits.idle = \"%dm\"\n", rapid.IntRange(1, 2).Draw(t, "count"), rapid.IntRange(1, 9).Draw(t, "idle"))
	}
	return b.String()
}

func drawRequest(t *rapid.T) (*Request, time.Time) {
	of := func(name string, list ...string) string { return rapid.SampledFrom(list).Draw(t, name) }
	q := ask(func(q *Request) {
		q.Role = rapid.SampledFrom([]Role{Viewer, Operator, Admin}).Draw(t, "role")
		q.Email, q.Person = of("email", "ann@team.com", "bob@team.com", ""), of("person", "p-1", "p-2", "")
		q.Operator = key.ID{byte(rapid.IntRange(1, 3).Draw(t, "key"))}
		q.Agent, q.User, q.Self = of("agent", "web-1", "db-1", "x"), of("user", "", "root", "eve"), of("self", "", "root")
		q.Tags = rapid.SliceOfDistinct(rapid.SampledFrom([]string{"prod", "web", "db", "x"}), rapid.ID).Draw(t, "tags")
	})
	if rapid.Bool().Draw(t, "runs") {
		exec(rapid.SliceOfN(rapid.SampledFrom([]string{"/bin/a", "/bin/b", "/bin/c"}), 1, 3).Draw(t, "argv")...)(q)
	}
	return q, noon.Add(time.Duration(rapid.IntRange(0, 23).Draw(t, "hour")) * time.Hour)
}

// plain decides without index, order or early ends: what the package doc says,
// written down a second time.
func plain(r *Rules, q *Request, at time.Time) Decision {
	d := Decision{PolicyHash: r.hash}
	s := clock{r: r, at: at, action: q.Action.bit()}
	listed, found := false, false
	for _, x := range r.rules {
		if x.match(q, &s) != matched {
			continue
		}
		if x.block {
			return Decision{PolicyHash: r.hash, Rule: x.id}
		}
		found, listed = true, listed || x.commands != nil
		d.Approval, d.Limits = d.Approval.and(x.approval), d.Limits.and(x.limits)
	}
	if !found {
		return Decision{PolicyHash: r.hash}
	}
	if r.gated(q) && !listed {
		d.Approval = d.Approval.and(r.gate.approval)
	}
	if d.Effect = Allow; d.Approval.Count > 0 {
		d.Effect = NeedApproval
	}
	return d
}

func TestF9OrderOfRulesDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := make([]string, rapid.IntRange(0, 12).Draw(t, "n"))
		for i := range rules {
			rules[i] = drawRule(t, i)
		}
		gate := ""
		if rapid.Bool().Draw(t, "gate") {
			gate = "[gate]\nwhere.tags_any = [\"prod\"]\napproval.count = 1\n"
		}
		a, err := Parse([]byte(head + gate + strings.Join(rules, "")))
		if err != nil {
			t.Fatal(err)
		}
		b, err := Parse([]byte(head + gate + strings.Join(rapid.Permutation(rules).Draw(t, "order"), "")))
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			q, at := drawRequest(t)
			x, y, z := a.Decide(q, at), b.Decide(q, at), plain(a, q, at)
			y.PolicyHash = x.PolicyHash
			if !reflect.DeepEqual(x, y) {
				t.Fatalf("%+v\nshuffled %+v", x, y)
			}
			if x.Effect != z.Effect || x.Approval != z.Approval || x.Limits != z.Limits || z.Rule != "" && x.Rule != z.Rule {
				t.Fatalf("%+v\nplain %+v", x, z)
			}
		}
	})
}

// Adding a block rule, or a demand to an allow rule, never opens anything.
func TestMoreBlocksNeverAllowMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := ""
		for i := range rapid.IntRange(0, 6).Draw(t, "n") {
			body += drawRule(t, i)
		}
		a, err := Parse([]byte(head + body))
		if err != nil {
			t.Fatal(err)
		}
		b, err := Parse([]byte(head + body + "[[block]]\nid = \"more\"\nwhere.tags_any = [\"prod\"]\n"))
		if err != nil {
			t.Fatal(err)
		}
		q, at := drawRequest(t)
		if x, y := a.Decide(q, at), b.Decide(q, at); y.Effect > x.Effect {
			t.Fatalf("%s became %s", x.Effect, y.Effect)
		}
	})
}

// What Check calls unreachable or redundant can be removed without changing any answer.
func TestFindingsAboutRulesAreTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := make([]string, rapid.IntRange(2, 8).Draw(t, "n"))
		for i := range rules {
			rules[i] = drawRule(t, i)
		}
		a, err := Parse([]byte(head + strings.Join(rules, "")))
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range a.rules {
			if a.shadow(x) == "" {
				continue
			}
			var n int
			fmt.Sscanf(x.id, "r%d", &n)
			rest := append(append([]string{}, rules[:n]...), rules[n+1:]...)
			b, err := Parse([]byte(head + strings.Join(rest, "")))
			if err != nil {
				t.Fatal(err)
			}
			q, at := drawRequest(t)
			if x, y := a.Decide(q, at), b.Decide(q, at); x.Effect != y.Effect || x.Approval != y.Approval || x.Limits != y.Limits {
				t.Fatalf("%s: %+v became %+v", a.shadow(a.rules[n]), x, y)
			}
		}
	})
}

// thousand is a policy as a large team has it: rules by host tag and by person,
// with hours, some general ones, some blocks.
func thousand(tb testing.TB) *Rules {
	var b strings.Builder
	random := rand.New(rand.NewSource(1))
	for i := range 1000 {
		fmt.Fprintf(&b, "[[%s]]\nid=\"r%d\"\n", []string{"allow", "allow", "allow", "block"}[i%4], i)
		fmt.Fprintf(&b, "actions=[\"shell\",\"exec\"]\nwho.roles=[%q]\n", []string{"operator", "admin", "approver"}[random.Intn(3)])
		switch i % 10 {
		case 0:
			fmt.Fprintf(&b, "who.emails=[\"p%d@team.com\"]\n", i)
		case 1:
			fmt.Fprintf(&b, "where.agents=[\"web-%d\"]\n", i)
		case 2:
			fmt.Fprintf(&b, "users=[\"u%d\"]\n", i)
		default:
			fmt.Fprintf(&b, "where.tags_all=[\"prod\",\"t%d\"]\n", random.Intn(60))
		}
		if i%3 == 0 {
			fmt.Fprintf(&b, "when.days=[\"mon\",\"tue\"]\nwhen.from=\"08:00\"\nwhen.to=\"18:00\"\nwhen.zone=%q\n", []string{"UTC", "Europe/Berlin"}[i%2])
		}
	}
	b.WriteString(team)
	return load(tb, b.String())
}

func TestDecideAllocatesNothing(t *testing.T) {
	r := thousand(t)
	for name, q := range map[string]*Request{
		"allow": ask(), "tags": ask(func(q *Request) { q.Tags = []string{"prod", "t1", "t2", "t3"} }),
		"deny": ask(func(q *Request) { q.User = "eve" }), "bad": ask(func(q *Request) { q.Action = "" }),
		"env": ask(func(q *Request) { q.Env = []string{"LANG", "X"} }), "exec": ask(exec("/usr/bin/id", "-u")),
	} {
		if n := testing.AllocsPerRun(100, func() { r.Decide(q, noon) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkDecide1000Rules(b *testing.B) {
	r := thousand(b)
	q := ask(func(q *Request) { q.Tags = []string{"prod", "web", "t7", "t20"} })
	b.ReportAllocs()
	for b.Loop() {
		r.Decide(q, noon)
	}
}

// The worst case: no rule can be told from another by host or person.
func BenchmarkDecide1000RulesAllGeneral(b *testing.B) {
	var s strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&s, "[[allow]]\nid=\"r%d\"\nwho.roles=[\"operator\"]\nactions=[\"shell\"]\nusers=[\"u%d\"]\n", i, i)
	}
	r := load(b, s.String())
	q := ask(func(q *Request) { q.User = "u999" })
	b.ReportAllocs()
	for b.Loop() {
		r.Decide(q, noon)
	}
}

func BenchmarkParse1000Rules(b *testing.B) {
	var s strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&s, "[[allow]]\nid=\"r%d\"\nwho.roles=[\"operator\"]\nactions=[\"shell\"]\nwhere.tags_all=[\"prod\"]\n", i)
	}
	for b.Loop() {
		load(b, s.String())
	}
}
