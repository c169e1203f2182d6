package remote

import (
	"errors"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
)

// A server that lies about the end of a session can say nothing that ends it: not
// with a signature of its own, nor with true words of the machine about something else.
func TestOnlyTheMachineSaysThatASessionIsOver(t *testing.T) {
	machine, err1 := key.Generate[key.Agent]()
	other, err2 := key.Generate[key.Agent]()
	operator, err3 := key.Generate[key.Operator]()
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	a := &account.Account{Key: operator}
	a.Member.Team = wire.NewTeamID()
	r := &renewal{account: a, ending: ending{session: wire.NewSessionID(), machine: machine.Public()}}
	const ready = 7
	for name, c := range map[string]struct {
		by   key.Private[key.Agent]
		edit func(*entry.Entry)
		want refusal.Code
	}{
		"its end":                 {machine, func(*entry.Entry) {}, refusal.Gone},
		"its end, for a reason":   {machine, func(e *entry.Entry) { e.Refusal = refusal.KeyRevoked }, refusal.KeyRevoked},
		"a reason with an escape": {machine, func(e *entry.Entry) { e.Refusal = "\x1b[2J" }, refusal.Plain("\x1b[2J")},
		"the agent began anew":    {machine, func(e *entry.Entry) { *e = entry.Entry{Type: entry.AgentStart, Seq: 8, Team: e.Team} }, refusal.Gone},
		"an earlier start":        {machine, func(e *entry.Entry) { *e = entry.Entry{Type: entry.AgentStart, Seq: ready, Team: e.Team} }, ""},
		"before READY":            {machine, func(e *entry.Entry) { e.Seq = ready }, ""},
		"another session":         {machine, func(e *entry.Entry) { e.Session = wire.NewSessionID() }, ""},
		"another operator's":      {machine, func(e *entry.Entry) { e.Actor.Kid = key.ID{1} }, ""},
		"another team's":          {machine, func(e *entry.Entry) { e.Team = wire.NewTeamID() }, ""},
		"a program's end":         {machine, func(e *entry.Entry) { e.Type = entry.ExecEnd }, ""},
		"another machine":         {other, func(*entry.Entry) {}, ""},
	} {
		e := entry.Entry{Type: entry.SessionEnd, Seq: ready + 1, Team: a.Member.Team, Session: r.session, Actor: entry.Actor{Kid: operator.ID()}}
		c.edit(&e)
		e.Time = wire.At(time.Now())
		_, signed, err := entry.Sign(c.by, e, e.Team, e.Seq, key.Hash{})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.over(signed, ready); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if name != "its end" {
			continue
		}
		for i := range signed {
			forged := append(signed[:0:0], signed...)
			forged[i] ^= 1
			if got := r.over(forged, ready); got != "" {
				t.Fatalf("%s with byte %d changed: %q", name, i, got)
			}
		}
	}
	if got := r.over(nil, ready); got != "" {
		t.Errorf("nothing: %q", got)
	}
}
