package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Finding is something in a policy that loads but is probably not meant.
type Finding struct {
	Rule string // id, "" when it is about the whole file
	Line int    // of the rule, 0 when it is about the whole file
	Text string // what is odd and what to do
}

// String writes the finding as one line.
func (f Finding) String() string {
	if f.Rule == "" {
		return f.Text
	}
	return fmt.Sprintf("line %d: rule %s: %s", f.Line, f.Rule, f.Text)
}

// Check looks for rules that can never decide anything, for demands that nobody
// can meet, and for names that look as if they meant more than they do. It knows
// only what it can prove from the text, so no finding is not a proof of sense.
// It compares all pairs of rules: a second for the largest file.
func (r *Rules) Check() []Finding {
	out := r.checkFile()
	for _, rule := range r.rules {
		out = append(out, r.checkRule(rule)...)
		if by := r.shadow(rule); by != "" {
			out = append(out, Finding{rule.id, rule.line, by})
		}
		for _, odd := range [...]string{r.nested(rule), r.crowded(rule)} {
			if odd != "" {
				out = append(out, Finding{rule.id, rule.line, odd})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return cmp.Compare(a.Line, b.Line) })
	return out
}

// sessionRoles may open sessions where a rule lets them (protocol 3.4).
const sessionRoles = allRoles &^ (1 << Viewer)

// CheckTeam names demands for approval that a team cannot meet, whoever asks: what
// needs them is denied to everybody, and that shows only when somebody waits. people
// has for each person the roles of all keys of theirs. It names what it can prove from
// the roles alone, rule by rule, so no finding is no promise.
func (r *Rules) CheckTeam(people []RoleSet) (out []Finding) {
	if r.gate != nil {
		if odd := r.gate.approval.lacking(people, sessionRoles); odd != "" {
			out = append(out, Finding{Text: "[gate]: " + odd})
		}
	}
	for _, x := range r.rules {
		if odd := x.approval.lacking(people, x.roles&sessionRoles); odd != "" && !x.block {
			out = append(out, Finding{x.id, x.line, odd})
		}
	}
	return out
}

// lacking says that too few of people may approve besides the one who asks, who has one
// of the roles in ask, or "".
func (a Approval) lacking(people []RoleSet, ask RoleSet) string {
	may, asks, both := 0, 0, 0 // who may approve, who asks, and who does both
	for _, p := range people {
		if p&a.Roles != 0 {
			may++
		}
		if p&ask != 0 {
			asks++
		}
		if p&ask != 0 && p&a.Roles != 0 {
			both++
		}
	}
	if asks > 0 && both == asks { // whoever asks is one of them, and nobody agrees to their own wish
		may--
	}
	if a.Count == 0 || a.Count <= may {
		return ""
	}
	return fmt.Sprintf("it wants approvals by %d of %s, and of this team %d could give one to somebody else, so nobody gets through", a.Count, a.Roles, may)
}

func (r *Rules) checkFile() (out []Finding) {
	if r.mode == modeLockdown {
		out = append(out, Finding{Text: "the policy is in lockdown: it denies everything"})
	}
	if r.index.allows == 0 {
		out = append(out, Finding{Text: "there is no allow rule, so everything is denied"})
	}
	if overRoots(r.sockets) {
		out = append(out, Finding{Text: "targets: " + manySockets + "; as it is, no file can be written"})
	}
	if len(r.expect) == 0 {
		out = append(out, Finding{Text: "there is no [[expect]]: write down what must stay allowed and what denied"})
	}
	return out
}

func (r *Rules) checkRule(x *rule) (out []Finding) {
	add := func(format string, args ...any) {
		out = append(out, Finding{x.id, x.line, fmt.Sprintf(format, args...)})
	}
	for _, e := range x.emails {
		if e != strings.ToLower(e) {
			add("who.emails: %s is compared with its capitals, as the roster spells it", e)
		}
	}
	for _, c := range x.commands {
		if does := harm(c.argv[0]); c.rest && !x.block && does != "" {
			add(`commands: %s with any further arguments %s; write the exact arguments in place of "..."`, base(c.argv[0]), does)
		}
		if c.argv[0] != "/bin/"+base(c.argv[0]) && c.argv[0] != "/sbin/"+base(c.argv[0]) || x.block {
			continue
		}
		add("commands: %s: on most systems that folder is a link; the real path begins with /usr", c.argv[0])
	}
	if r.gate != nil && !x.block && x.commands == nil && x.approval.and(r.gate.approval).impossible() {
		add("approval.roles: none of these roles may approve at the gate, so on gated hosts the rule allows nothing")
	}
	if x.limits != (Limits{}) && x.limits.and(r.limits) == r.limits {
		add("limits: those of [limits] are as small or smaller, so these change nothing")
	}
	return out
}

// shadow says which other rule leaves x nothing to decide, or "".
func (r *Rules) shadow(x *rule) string {
	for _, y := range r.rules {
		if y == x || !y.covers(x) {
			continue
		}
		switch {
		case y.block && !x.block:
			return "it can never apply: block rule " + y.id + " denies everything it allows"
		case y.block == x.block && x.addsNothing(y) && (!x.covers(y) || !y.addsNothing(x) || x.id > y.id):
			return "rule " + y.id + " already says all of it"
		}
	}
	return ""
}

// addsNothing reports that where y matches, x changes no decision.
func (x *rule) addsNothing(y *rule) bool {
	return x.approval.and(y.approval) == y.approval && x.limits.and(y.limits) == y.limits &&
		(x.commands == nil || y.commands != nil || x.block) && (y.roots == nil || x.roots != nil && slices.Equal(joinRoots(x.roots, y.roots), joinRoots(y.roots, y.roots)))
}

// covers reports that y matches every request that x matches. It may miss some
// such pairs but never claims one falsely.
func (y *rule) covers(x *rule) bool {
	return x.actions&^y.actions == 0 && y.coversTargets(x) && x.roles&^y.roles == 0 &&
		subset(x.emails, y.emails) && subset(x.people, y.people) && subset(x.keys, y.keys) &&
		y.where.covers(&x.where) && subset(x.cwd, y.cwd) &&
		(y.anyUser || !x.anyUser && subset(x.userList, y.userList)) &&
		(y.when == nil || x.when != nil && *x.when == *y.when) && y.coversCommands(x)
}

// coversTargets compares targets. A rule for forwards to anywhere opens nothing that has
// to be named, and a rule beside it that names it does: who took that one out would lose
// what it opens.
func (y *rule) coversTargets(x *rule) bool {
	if y.targets == nil && (y.block || x.block) {
		return true
	}
	return slices.Equal(x.targets, y.targets) || y.targets == nil && !slices.ContainsFunc(x.targets, x.opens)
}

// opens reports that x is needed for a target, whatever other rules there are that do not
// name it.
func (x *rule) opens(target string) bool {
	for _, a := range Forward.parts() {
		q := Request{Action: a, Target: target}
		if x.actions&a.bit() != 0 && q.closed() != nil {
			return true
		}
	}
	return false
}

func (y *where) covers(x *where) bool {
	return subset(x.agents, y.agents) &&
		(y.tagsAll == nil || x.tagsAll != nil && subset(y.tagsAll, x.tagsAll)) &&
		(subset(x.tagsAny, y.tagsAny) || slices.ContainsFunc(x.tagsAll, func(t string) bool { return slices.Contains(y.tagsAny, t) }))
}

// subset reports that the condition "one of x" implies "one of y"; nil is no condition.
func subset[T comparable](x, y []T) bool {
	if y == nil {
		return true
	}
	if x == nil {
		return false
	}
	for _, v := range x {
		if !slices.Contains(y, v) {
			return false
		}
	}
	return true
}

func (y *rule) coversCommands(x *rule) bool {
	if y.commands == nil {
		return true
	}
	for i := range x.commands {
		if !slices.ContainsFunc(y.commands, func(c command) bool { return c.covers(&x.commands[i], y.block, x.block) }) {
			return false
		}
	}
	return x.commands != nil
}

// covers compares patterns. A block rule's pattern goes by the name of the file,
// an allow rule's by the whole path, so the latter never covers the former.
func (c *command) covers(d *command, block, dBlock bool) bool {
	if block && base(c.argv[0]) != base(d.argv[0]) || !block && (dBlock || c.argv[0] != d.argv[0]) {
		return false
	}
	n := len(c.argv)
	if len(d.argv) < n || !slices.Equal(c.argv[1:], d.argv[1:n]) {
		return false
	}
	return c.rest || !d.rest && len(d.argv) == n
}
