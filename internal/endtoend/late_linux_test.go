package endtoend

import (
	"strings"
	"testing"
	"time"
)

// lateRules spell out one file that may be run at hosts tagged web, with one approval
// at most, and ask for two of all else. Which file a word without a folder stands for
// only the machine knows.
const lateRules = `version = 1
mode = "enforce"

[gate]
where.tags_any = ["web"]
approval.count = 2
approval.roles = ["approver"]

[[allow]]
id = "team"
who.roles = ["operator", "approver", "admin"]
actions = ["shell", "exec"]

[[allow]]
id = "free"
who.roles = ["operator", "approver", "admin"]
where.tags_any = ["web"]
actions = ["exec"]
commands = [["/opt/ours/echo", "..."]]

[[allow]]
id = "one"
who.roles = ["operator", "approver", "admin"]
where.tags_any = ["web"]
actions = ["exec"]
commands = [["/opt/ours/printf", "..."]]
approval.count = 1
approval.roles = ["approver"]
`

// An approval that only the machine finds missing gets as much time as any other:
// people can look at a request for ten minutes, not for what is left of one.
func TestApprovalThatOnlyTheMachineAsksFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(_ *world, p *plan) { p.policy = lateRules })
	bob, carol := w.enter("bob", "approver"), w.enter("carol", "approver")
	w.agent("web", "web")

	t.Run("asked anew to wait long", func(t *testing.T) {
		w.ann.run("exec", "--nowait", "web", "--", "echo", "nobody").refused(t, 252, "approval_pending")
		asks := w.ann.start("exec", "web", "--", "echo", "late")
		hash := waiting(t, asks)
		var list []struct {
			Request, State string
			Expires        time.Time
		}
		decode(t, bob.run("requests", "ls", "--json").is(t, 0).out, &list)
		states := map[string]int{}
		for _, r := range list {
			states[r.State]++
			if left := time.Until(r.Expires); r.State == "pending" && (!strings.HasPrefix(r.Request, hash) || left < 8*time.Minute) {
				t.Errorf("request %s waits, for %s; want %s, for ten minutes", r.Request, left, hash)
			}
		}
		if states["pending"] != 1 || states["cancelled"] != 2 {
			t.Errorf("requests by state: %v; want one that waits, and the short ones withdrawn", states)
		}
		if offered := bob.run("__complete", "requests", "approve", hash[:3]).is(t, 0).out; !strings.HasPrefix(offered, hash+"\techo late\n") {
			t.Errorf("the shell offers %q", offered)
		}
		if offered := bob.run("__complete", "requests", "approve", "--yes", hash[:3]).is(t, 0).out; !strings.HasPrefix(offered, hash) || strings.Index(offered, "\t") != 64 {
			t.Errorf("the shell offers %q to approve unseen", offered)
		}
		for _, p := range []*person{bob, carol} {
			p.decides("approve", hash).is(t, 0)
		}
		if a := asks.finish().is(t, 0); a.out != "late\n" || strings.Count(a.err, "waits for an approval") != 1 {
			t.Errorf("printed %q and said %q", a.out, a.err)
		}
	})
	t.Run("asked for more after the first approval", func(t *testing.T) {
		asks := w.ann.start("exec", "web", "--", "printf", "more")
		hash := waiting(t, asks)
		bob.decides("approve", hash).is(t, 0)
		asks.says("waits for an approval", 2) // the machine's count is two, and bob's one stays
		carol.decides("approve", hash).is(t, 0)
		if a := asks.finish().is(t, 0); a.out != "more" {
			t.Errorf("printed %q and said %q", a.out, a.err)
		}
	})
}
