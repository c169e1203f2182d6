package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
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

	// Depends is what the request leaves open and the answer depends on: "target" for
	// forwards without one, "path" for copies where rules open folders; else "". The
	// effect is then that of what the rules open; Considered.Why says what that is.
	Depends string
}

// Considered is one rule's part in a decision.
type Considered struct {
	ID          string
	Description string // as the file's author wrote it: escape it before showing
	Block       bool
	Line        int // of the rule in the file, 0 when it was written inline
	Matched     bool
	Why         string   // the first condition that failed, or that all hold
	Targets     []string // of forwards, that it is for; nil for all that need not be named. Not to be changed
	Roots       []string // folders that it opens for copies; nil for all. Likewise
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
		e.Rules = append(e.Rules, Considered{rule.id, rule.description, rule.block, rule.line, got == matched, r.why(rule, got, q, &s), rule.targets, rule.roots})
		if got == failsUser && e.Decision.Effect != Deny && q.User == "" && q.Self == "" {
			e.OnlyHost = append(e.OnlyHost, rule.id)
		}
	}
	e.Depends = e.depends(q)
	return e
}

func (e Explanation) depends(q *Request) string {
	switch asked := q.Action.bit(); {
	case e.Decision.Effect == Deny:
	case asked&Forward.bit() != 0 && q.Target == "":
		return "target"
	case asked&Copy.bit() != 0 && slices.ContainsFunc(e.Rules, func(c Considered) bool { return c.Matched && c.Roots != nil }):
		if q.Action == Copy || e.Decision.Roots != nil { // one direction that another rule opens as a whole depends on nothing
			return "path"
		}
	}
	return ""
}

// ForPath is the explanation of a copy in one direction for one path, as ReadPath returns
// it. It goes by the path's name: where links lead only the machine sees, which keeps
// them in the same folders.
func (e Explanation) ForPath(path string) Explanation {
	e.Depends = ""
	if d := e.Decision; d.Effect != Deny && d.Roots != nil && !slices.ContainsFunc(d.Roots, func(folder string) bool { return below(path, folder) }) {
		e.Decision = d.deny(refusal.PolicyDenied, "the path is in none of the folders that the rules open for this")
		e.Decision.Rule, e.OnlyHost = "", nil
	}
	return e
}

// ReadPath is a path of a machine in its shortest form. It has to be absolute: where
// others begin, in the login user's home, only the machine knows. Refusals: BadArgument.
func ReadPath(text string) (string, error) {
	short := text
	if strings.HasPrefix(text, "/") {
		short = path.Clean("/" + text)
	}
	if !absolute(short) || len(short) > maxPath {
		return "", refusal.New(refusal.BadArgument, "%q is no absolute path in its shortest form; where another one begins only the machine knows", text)
	}
	return short, nil
}

// why words the condition of rule that failed, with what it asks for.
func (r *Rules) why(x *rule, got stage, q *Request, s *clock) string {
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
		if q.Target == "" {
			return "it depends on the target; it is for: " + strings.Join(x.targets, ", ")
		}
		return "it is for other targets: " + strings.Join(x.targets, ", ")
	case failsCommand:
		return fmt.Sprintf("it lists %d commands, and this is none of them", len(x.commands))
	case failsWhen:
		return "it holds at other times: " + r.whenText(x.when, s)
	}
	if x.roots != nil {
		return "every condition holds, for files in " + strings.Join(x.roots, ", ")
	}
	if q.Target == "" && !x.block && x.actions&s.action&Forward.bit() != 0 {
		return "every condition holds, " + x.targetText(x.actions&s.action)
	}
	return "every condition holds"
}

// targetText is what an allow rule opens of the forwards in on.
func (r *rule) targetText(on actionSet) string {
	if r.targets != nil {
		return "for the targets " + strings.Join(r.targets, ", ")
	}
	var parts []string
	if on&ForwardLocal.bit() != 0 {
		parts = append(parts, "to reach everything but sockets and cloud metadata, which a rule has to name")
	}
	if on&ForwardRemote.bit() != 0 {
		parts = append(parts, "to listen at localhost alone, since a rule has to name other places")
	}
	return strings.Join(parts, "; ")
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
	b.WriteString(e.Decision.Effect.String())
	if e.Depends != "" {
		b.WriteString(", depending on the " + e.Depends)
	}
	fmt.Fprintf(&b, ": %s\n", e.Decision.Reason)
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
