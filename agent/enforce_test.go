//go:build linux

package agent

import (
	"errors"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/agent/cgroup"
	"github.com/tucdesk/tucdesk/agent/judge"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Killed processes that hang in the kernel keep their group for seconds. Neither the
// session of a revoked key nor what another one left waits for them, and what could not
// be ended is tried again, once at a time.
func TestG6ASessionIsCutWhileWhatWasLeftHangs(t *testing.T) {
	t.Parallel()
	k := newTeam(t, openPolicy)
	a := k.agent()
	begun, answer := make(chan *cgroup.Group, maxLeft), make(chan error)
	a.left.end = func(g *cgroup.Group) error {
		begun <- g
		return <-answer
	}
	t.Cleanup(func() { close(answer) })
	for range 2 {
		a.left.add(&cgroup.Group{}, k.members["eve"].ID())
	}
	session := func(id byte, who string) *live {
		q := &judge.Question{Request: wire.Request{Session: wire.SessionID{id}, Operator: k.members[who].ID()}}
		s := &live{agent: a, question: q, cut: make(chan struct{})}
		if err := a.sessions.reserve(&q.Request); err != nil {
			t.Fatal(err)
		}
		a.sessions.fill(s)
		return s
	}
	eve, ann := session(1, "eve"), session(2, "ann")
	enforced := make(chan struct{})
	go func() {
		defer close(enforced)
		revoke(k, a, "eve")
		a.enforce(time.Now())
	}()
	for what, c := range map[string]<-chan struct{}{"the session to be cut": eve.cut, "enforce to return": enforced} {
		select {
		case <-c:
		case <-time.After(patience):
			t.Fatalf("waited for %s", what)
		}
	}
	select {
	case <-ann.cut:
		t.Error("somebody else's session was cut")
	default:
	}
	if one, other := <-begun, <-begun; one == other {
		t.Error("one group is ended twice at a time")
	}
	answer <- errors.New("killed processes are still there")
	answer <- nil
	until(t, "one of them to have ended", func() bool { return a.left.count() == 1 })
	until(t, "the other to be tried again", func() bool { a.enforce(time.Now()); return len(begun) > 0 })
	answer <- nil
	until(t, "both to have ended", func() bool { return a.left.count() == 0 })
	if eve.why != refusal.KeyRevoked {
		t.Errorf("it was cut by %q", eve.why)
	}
}
