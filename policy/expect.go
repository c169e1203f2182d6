package policy

import (
	"errors"
	"fmt"
	"time"
)

// expectation is one [[expect]] of the file: a question with the answer that its
// author relies on.
type expectation struct {
	name string
	line int
	q    Request
	at   time.Time
	want Effect
	rule string // "" is any
}

// Result is the outcome of one expectation.
type Result struct {
	Name string
	Line int  // in the file
	OK   bool // the policy answers as expected
	Want Effect
	Rule string // the rule that was to settle it, "" when the file names none
	Got  Decision
}

// RunExpectations asks the policy every question of its [[expect]] tables. In
// them argv[0] stands for the real file as well.
func (r *Rules) RunExpectations() []Result {
	results := make([]Result, 0, len(r.expect))
	for i := range r.expect {
		e := &r.expect[i]
		got := r.Decide(&e.q, e.at)
		ok := got.Effect == e.want && (e.rule == "" || e.rule == got.Rule)
		results = append(results, Result{e.name, e.line, ok, e.want, e.rule, got})
	}
	return results
}

// anyTime stands in where the file has no windows, so that no time matters.
var anyTime = time.Unix(0, 0).UTC()

func (p *parser) expectations(list []expectFile) error {
	lines := headerLines(p.data, "[[expect]]", len(list))
	for i := range list {
		e, err := p.expectation(&list[i])
		if err != nil {
			return fmt.Errorf("line %d: [[expect]] %q: %w", lines[i], list[i].Name, err)
		}
		e.line = lines[i]
		p.r.expect = append(p.r.expect, e)
	}
	return nil
}

func (p *parser) expectation(f *expectFile) (e expectation, err error) {
	at, q := optional(&err, "at", f.At).Time, f.request(&err)
	switch {
	case err != nil:
		return e, err
	case f.Name == "":
		return e, errors.New("name: say in a few words what is expected")
	case !f.Want.set:
		return e, errors.New(`want: write "allow", "approval" or "deny"`)
	case !f.Action.set:
		return e, errors.New("action: say what is asked for")
	case !f.Role.set:
		return e, errors.New("role: say who asks")
	case at.IsZero() && len(p.r.zones) > 0:
		return e, errors.New(`at: this policy has hours, so say when, for example at = "2026-03-02T12:00:00+01:00"`)
	case f.Rule != "" && !p.ids[f.Rule]:
		return e, fmt.Errorf("rule: there is no rule %q", f.Rule)
	}
	e = expectation{name: f.Name, want: f.Want.v, rule: f.Rule, at: at, q: q}
	if e.at.IsZero() {
		e.at = anyTime
	}
	return e, nil
}

func (f *expectFile) request(err *error) Request {
	q := Request{
		Action: f.Action.v, Cwd: f.Cwd, Env: f.Env, Target: string(optional(err, "target", f.Target)), User: string(optional(err, "user", f.User)), Agent: f.Agent, Tags: f.Tags,
		Operator: optional(err, "key", f.Key), Email: f.Email, Person: f.Person, Role: f.Role.v,
	}
	if q.User == AgentUser {
		q.User = ""
	}
	for _, a := range f.Argv {
		q.Argv = append(q.Argv, []byte(a))
	}
	if len(f.Argv) > 0 {
		q.File = f.Argv[0]
	}
	return q
}
