// Package consent looks whether the decisions that stand beside an entry of the log
// are those that it names, made by people who could make them, and enough.
//
// Source: protocol 5.4; attacks N, G.
package consent

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// Problems is what does not hold at one entry, in our own words, nothing when all
// of it does.
type Problems struct {
	Invalid []string // a decision that does not hold, or is for another command
	Missing []string // decisions that should be here
	Stray   []string // decisions that belong elsewhere
}

// Approved checks that enough people agreed to exactly what agent recorded in e, by
// the statements that were offered with it.
func Approved(history *roster.History, e *entry.Entry, agent key.ID, offered []statement.Signed) (p Problems) {
	people := map[string]bool{}
	for _, hash := range e.Approvals {
		i := slices.IndexFunc(offered, func(s statement.Signed) bool { return s.Hash() == hash })
		if i < 0 {
			continue
		}
		person, problem := approver(history, e, agent, offered[i])
		if problem != "" {
			p.Invalid = append(p.Invalid, problem)
			continue
		}
		people[person] = true
	}
	if need := max(e.Policy.Need, 1); len(people) < need {
		p.Missing = append(p.Missing, fmt.Sprintf("%d of %d people are shown to have approved", len(people), need))
	}
	return p
}

// Decided checks what was offered with a server's entry: exactly the approvals and
// denials that the entry names, as their signers made them. A denial is shown by
// the server's entry alone, so nobody else would miss it.
func Decided(history *roster.History, e *entry.Entry, offered []statement.Signed) (p Problems) {
	for _, hash := range e.Approvals {
		if !slices.ContainsFunc(offered, func(s statement.Signed) bool { return s.Hash() == hash }) {
			p.Missing = append(p.Missing, "a decision that the entry names is not here")
		}
	}
	for _, s := range offered {
		if !slices.Contains(e.Approvals, s.Hash()) {
			p.Stray = append(p.Stray, "a decision that the entry does not name stands before it")
			continue
		}
		if _, _, err := open(history, e, s); err != nil {
			p.Invalid = append(p.Invalid, fmt.Sprintf("a decision does not hold: %v", err))
		}
	}
	return p
}

// open verifies a decision by who was an operator when the entry was made.
func open(history *roster.History, e *entry.Entry, s statement.Signed) (by roster.Operator, a approval.Approval, err error) {
	a, _, err = statement.Open[approval.Approval](s, func(kid key.ID) (_ statement.Verifier, err error) {
		if by, err = history.Operator(kid, e.Time.Time()); err != nil {
			return nil, err
		}
		return by.Key, nil
	})
	return by, a, err
}

func approver(history *roster.History, e *entry.Entry, agent key.ID, s statement.Signed) (person, problem string) {
	by, a, err := open(history, e, s)
	if err != nil {
		return "", "an approval does not hold: " + err.Error()
	}
	requester, err := history.Operator(a.Requester, e.Time.Time())
	switch {
	case err != nil:
		return "", "who asked was no operator: " + err.Error()
	case a.Decision != approval.Approve:
		return "", "what is listed as an approval is a denial"
	case a.Team != e.Team || a.RequestHash != e.RequestHash || a.Session != e.Session || a.Agent != agent || a.Requester != e.Actor.Kid:
		return "", "an approval is for another request, agent or requester"
	case requester.Person == by.Person:
		return "", "who asked approved it as well"
	case e.Time < a.IssuedAt-skew(wire.ClockSkew) || e.Time > a.ExpiresAt+skew(wire.ClockSkew):
		return "", "an approval is from another time"
	case e.Command != nil && !sameCommand(e.Command, a):
		return "", "an approval is for another command"
	}
	return by.Person, ""
}

func skew(d time.Duration) wire.Millis { return wire.Millis(d.Milliseconds()) }

// sameCommand compares what was recorded with what was approved, in the
// recorded form. Where the request left user or directory open, the agent
// records what it took.
func sameCommand(c *entry.Command, a approval.Approval) bool {
	want := entry.Command{Action: a.Action, User: a.Params.User, Argv: a.Params.Argv, Cwd: a.Params.Cwd, Keep: a.Params.Keep}.Recorded()
	return c.Action == want.Action && sameKeep(c.Keep, want.Keep) &&
		(want.User == "" || c.User == want.User) && (len(want.Cwd) == 0 || bytes.Equal(c.Cwd, want.Cwd)) &&
		slices.EqualFunc(c.Argv, want.Argv, func(x, y wire.Bytes) bool { return bytes.Equal(x, y) })
}

// sameKeep compares what was wanted of kept shells.
func sameKeep(a, b *wire.Keep) bool { return a == b || a != nil && b != nil && *a == *b }
