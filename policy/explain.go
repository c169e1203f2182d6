package policy

import (
	"fmt"
	"strings"
	"time"
)

// Explanation is a decision with what every rule had to do with it.
type Explanation struct {
	Decision Decision
	At       time.Time
	Gated    bool         // the host stands behind the gate
	Rules    []Considered // sorted by id

	// OnlyHost are the ids of rules that name login users and may match at the host alone:
	// the request is for the agent's own user, and only the host knows whether that is one
	// of them. So the host may be stricter than this decision; none when it is a denial.
	OnlyHost []string
}

// Considered is one rule's part in a decision.
type Considered struct {
	ID          string
	Description string // as the file's author wrote it: escape it before showing
	Block       bool
	Line        int // of the rule in the file, 0 when it was written inline
	Matched     bool
	Why         string // the first condition that failed, or that all hold
}

// Explain answers like Decide and says of every rule whether it matched and why
// not. It is for people: it looks at all rules and allocates.
func (r *Rules) Explain(q *Request, at time.Time) Explanation {
	e := Explanation{Decision: r.Decide(q, at), At: at, Gated: r.gated(q)}
	if _, early := r.early(q, at); early {
		return e // no rule was asked
	}
	s := clock{r: r, at: at, action: q.Action.bit()}
	for _, rule := range r.rules {
		got := rule.match(q, &s)
		e.Rules = append(e.Rules, Considered{rule.id, rule.description, rule.block, rule.line, got == matched, r.why(rule, got, &s)})
		if got == failsUser && e.Decision.Effect != Deny && q.User == "" && q.Self == "" {
			e.OnlyHost = append(e.OnlyHost, rule.id)
		}
	}
	return e
}

// why words the condition of rule that failed, with what it asks for.
func (r *Rules) why(x *rule, got stage, s *clock) string {
	switch got {
	case failsAction:
		return "it is for other actions"
	case failsWho:
		return "it is for other people: " + x.whoText()
	case failsWhere:
		return "it is for other hosts: " + x.where.text()
	case failsUser:
		return "it is for other login users: " + strings.Join(x.userList, ", ")
	case failsCwd:
		return "it is for other directories: " + strings.Join(x.cwd, ", ")
	case failsTarget:
		return "it is for other targets: " + strings.Join(x.targets, ", ")
	case failsCommand:
		return fmt.Sprintf("it lists %d commands, and this is none of them", len(x.commands))
	case failsWhen:
		return "it holds at other times: " + r.whenText(x.when, s)
	}
	if x.roots != nil {
		return "every condition holds, for files in " + strings.Join(x.roots, ", ")
	}
	return "every condition holds"
}

func (r *rule) whoText() string {
	var parts []string
	add := func(name string, list ...string) {
		if len(list) > 0 {
			parts = append(parts, name+" "+strings.Join(list, ", "))
		}
	}
	if r.roles != allRoles {
		add("roles", r.roles.String())
	}
	add("people", r.people...)
	add("emails", r.emails...)
	for _, k := range r.keys {
		add("key", k.ShortCode())
	}
	if parts == nil {
		return "everybody with a role"
	}
	return strings.Join(parts, " and ")
}

func (w *where) text() string {
	var parts []string
	for _, p := range []struct {
		name string
		list []string
	}{{"any tag of", w.tagsAny}, {"all tags of", w.tagsAll}, {"the names", w.agents}} {
		if p.list != nil {
			parts = append(parts, p.name+" "+strings.Join(p.list, ", "))
		}
	}
	return strings.Join(parts, " and ")
}

func (r *Rules) whenText(w *window, s *clock) string {
	var days []string
	for i := range 7 {
		if day := time.Weekday((i + 1) % 7); w.days&(1<<day) != 0 {
			days = append(days, strings.ToLower(day.String()[:3]))
		}
	}
	now := s.wall(w.zone)
	hours := "the whole day"
	if w.from != w.to {
		hours = clockText(w.from) + " to " + clockText(w.to)
	}
	return fmt.Sprintf("%s, %s in %s, where it is %s %s", strings.Join(days, " "), hours, r.zones[w.zone],
		strings.ToLower(now.day.String()[:3]), clockText(now.minute))
}

func clockText(minutes int) string { return fmt.Sprintf("%02d:%02d", minutes/60, minutes%60) }

// String writes the explanation as lines for a terminal.
func (e Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", e.Decision.Effect, e.Decision.Reason)
	if a := e.Decision.Approval; a.Count > 0 {
		fmt.Fprintf(&b, "approval by %d of: %s\n", a.Count, a.Roles)
	}
	if e.Gated {
		b.WriteString("the host is gated\n")
	}
	for _, r := range e.Rules {
		kind, sign := "allow", "no "
		if r.Block {
			kind = "block"
		}
		if r.Matched {
			sign = "yes"
		}
		fmt.Fprintf(&b, "%s %s %s (line %d): %s\n", sign, kind, r.ID, r.Line, r.Why)
	}
	if len(e.OnlyHost) > 0 {
		fmt.Fprintf(&b, "the machine may be stricter: if its agent runs as a user whom these rules name, they count there: %s\n", strings.Join(e.OnlyHost, ", "))
	}
	return b.String()
}
