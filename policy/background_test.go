package policy

import "testing"

// "background" is none of the other actions, and a rule is asked by its name whether it
// gives it.
func TestBackgroundIsNamedByItself(t *testing.T) {
	r := load(t, `
[gate]
where.tags_any = ["prod"]
approval.count = 1

[[allow]]
id = "all-but"
who.roles = ["operator"]
actions = ["shell", "exec", "copy", "forward", "forward-agent"]

[[allow]]
id = "stay"
who.roles = ["admin"]
actions = ["exec", "background"]

[[block]]
id = "never"
where.tags_any = ["clean"]
actions = ["background"]
`)
	background := func(q *Request) { q.Action = Background }
	admin := func(q *Request) { q.Role, q.Tags = Admin, nil }
	expectEffect(t, r, ask(background, func(q *Request) { q.Tags = nil }), noon, Deny)
	expectEffect(t, r, ask(background, admin), noon, Allow)
	expectEffect(t, r, ask(background, admin, func(q *Request) { q.Tags = []string{"prod"} }), noon, NeedApproval)
	expectEffect(t, r, ask(background, admin, func(q *Request) { q.Tags = []string{"clean"} }), noon, Deny)
	for _, c := range []struct {
		rule   string
		action Action
		want   bool
	}{
		{"stay", Background, true}, {"stay", Exec, true}, {"stay", Shell, false}, {"stay", Copy, false}, {"stay", "", false},
		{"all-but", Background, false}, {"all-but", Copy, true}, {"never", Background, false}, {"none", Background, false}, {"", Background, false},
	} {
		if got := r.Names(c.rule, c.action); got != c.want {
			t.Errorf("rule %q names %q: %v", c.rule, c.action, got)
		}
	}
}
