//go:build linux

package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/agent/judge"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// carelessPolicy names people and not roles, so that nothing but the floor of roles
// tells a viewer from an operator.
var carelessPolicy = strings.ReplaceAll(openPolicy, `who.roles = ["operator", "approver", "admin"]`, `who.people = ["ann", "eve"]`) +
	"[[allow]]\nid = \"net\"\nwho.people = [\"ann\", \"eve\"]\nactions = [\"forward\"]\n"

// demote is the news that somebody is a viewer from now on.
func (k *team) demote(name string) wire.RosterNews {
	id := k.members[name].ID()
	return wire.RosterNews{Updates: []wire.RosterUpdate{k.next(func(r *roster.Roster) {
		for i := range r.Operators {
			if r.Operators[i].Key.ID() == id {
				r.Operators[i].Role = policy.Viewer
			}
		}
	})}}
}

func TestE13WhoWasMadeAViewerGetsNoKeys(t *testing.T) {
	k := newTeam(t, carelessPolicy)
	k.startRelay() // or the session is over as soon as its process finds none
	a := k.agent()
	k.askFor(a, "eve", nil).wantAccept()
	s := a.sessions.all()[0]
	if _, err := a.keeper.Apply(k.demote("eve"), time.Now()); err != nil { // what stands is cut a moment later
		t.Fatal(err)
	}
	if _, err := a.release(s.question, time.Now()); refusal.Of(err) != refusal.WrongRole {
		t.Errorf("between ACCEPT and CONFIRM: %v", err)
	}
	if err := a.ledger.Use([]wire.Nonce{s.question.Request.ID}, time.Now().Add(time.Minute), time.Now()); err != nil {
		t.Errorf("a refused release used the request up: %v", err)
	}
}

func TestE13WhoWasMadeAViewerReachesNothingNew(t *testing.T) {
	k := newTeam(t, carelessPolicy)
	k.startRelay() // or the session is over as soon as its process finds none
	a := k.agent()
	forward := func(r *wire.Request) { r.Action, r.Params.Argv = wire.Forward, nil }
	k.askFor(a, "eve", forward).wantAccept()
	q := a.sessions.all()[0].question
	ask := func() error {
		_, err := a.judge.May(q, judge.Answer{}, wire.Action(policy.ForwardLocal), "127.0.0.1:80", time.Now())
		return err
	}
	if err := ask(); err != nil {
		t.Fatalf("before: %v", err)
	}
	if _, err := a.keeper.Apply(k.demote("eve"), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := ask(); refusal.Of(err) != refusal.WrongRole {
		t.Errorf("a new connection of a session that stands: %v", err)
	}
}

// The agent cuts by itself: the server that should do so as well may lie.
func TestG6WhoWasMadeAViewerIsCut(t *testing.T) {
	t.Parallel()
	k := newTeam(t, carelessPolicy)
	k.startRelay()
	a := k.agent()
	_, annPid := sleeper(k.askFor(a, "ann", sleep))
	ch, evePid := sleeper(k.askFor(a, "eve", sleep))
	a.applyNews(k.demote("eve"))
	until(t, "the program to die", func() bool { return !alive(evePid) })
	if _, err := ch.Wait(); refusal.Of(err) != refusal.WrongRole {
		t.Errorf("the operator learns %v", err)
	}
	until(t, "the session to go", func() bool { return a.sessions.count() == 1 })
	if !alive(annPid) {
		t.Error("somebody else's session was cut too")
	}
}
