package agent

import (
	"maps"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/agent/cgroup"
	"github.com/tucdesk/tucdesk/agent/places"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// Of how many sessions programs may go on at once; our choices. Each is a control group.
const (
	maxLeft = 256
	// maxLeftPerOperator keeps one operator from taking all places: four would have to
	// do it together. It is twice as many as one may have sessions.
	maxLeftPerOperator = 64
)

// leftovers are the programs that sessions left running because the policy lets them
// (action "background"), where control groups show what they are. Elsewhere they are
// the user's, and nobody counts them.
type leftovers struct {
	end func(*cgroup.Group) error // (*cgroup.Group).End but in tests

	mu     sync.Mutex
	groups map[*cgroup.Group]key.ID // guarded by mu; whose session it was
	ending map[*cgroup.Group]bool   // guarded by mu; those of groups that end is at
	places *places.Places           // guarded by mu
}

func newLeftovers() leftovers {
	return leftovers{
		end:    (*cgroup.Group).End,
		groups: make(map[*cgroup.Group]key.ID),
		ending: make(map[*cgroup.Group]bool),
		places: places.New("sessions that leave programs running", maxLeft, maxLeftPerOperator),
	}
}

// add remembers a group that an agent before this one left.
func (l *leftovers) add(g *cgroup.Group, operator key.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.places.Count(operator)
	l.groups[g] = operator
}

// take remembers a group that was left, or refuses with TooMany.
func (l *leftovers) take(g *cgroup.Group, operator key.ID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.places.Take(operator); err != nil {
		return err
	}
	l.groups[g] = operator
	return nil
}

// room forgets what has ended and refuses with TooMany when nothing more of an operator
// may stay.
func (l *leftovers) room(operator key.ID) error {
	for g := range l.all() {
		if g.Ended() {
			l.forget(g)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.places.Room(operator)
}

// all are those remembered now.
func (l *leftovers) all() map[*cgroup.Group]key.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.groups)
}

func (l *leftovers) forget(g *cgroup.Group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if operator, ok := l.groups[g]; ok {
		l.places.Give(operator)
		delete(l.groups, g)
	}
}

// count is how many groups are remembered.
func (l *leftovers) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.groups)
}

// readopt takes over what an agent before this one left running on purpose. What nobody
// can be named for is ended.
func (l *leftovers) readopt(left []cgroup.Left) (errs []error) {
	for _, x := range left {
		operator, err := key.ParseID(x.Mark)
		if err != nil {
			errs = append(errs, x.Group.End())
			continue
		}
		l.add(x.Group, operator)
	}
	return errs
}

// endGroup ends what a session left, or leaves it: when the policy said yes, and the
// session was not cut nor its process killed. Both are looked at again here: a session
// process can ask long before its end, and many at once.
func (s *live) endGroup(orderly bool) error {
	if !s.background || !orderly {
		return s.group.End()
	}
	if _, err := s.agent.judge.May(s.question, s.answer, wire.Action(policy.Background), "", time.Now()); err != nil {
		return s.group.End()
	}
	operator := s.question.Request.Operator
	left, err := s.group.Leave(operator.String())
	if left {
		if full := s.agent.left.take(s.group, operator); full != nil {
			s.agent.log.Warn("programs end with their session", "session", s.question.Request.Session.String(), "operator", operator.ShortCode(), "why", full)
			return s.group.End()
		}
		s.agent.log.Info("programs go on after their session", "session", s.question.Request.Session.String())
	}
	return err
}

// begin notes that a group is about to be ended. False: it is already, or has been.
func (l *leftovers) begin(g *cgroup.Group) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.groups[g]; !ok || l.ending[g] {
		return false
	}
	l.ending[g] = true
	return true
}

// finish ends a group that begin was called for.
func (l *leftovers) finish(g *cgroup.Group) error {
	err := l.end(g)
	if err == nil {
		l.forget(g)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.ending, g)
	return err
}

// endLeft has ended what those left running who may not have it any more (attack G6).
// What cannot be ended is tried again. It waits for none: killed processes may take
// seconds to go, and one operator has places for so many that the next session which
// has to be cut would be minutes late.
func (a *Agent) endLeft(entitled func(key.ID) error) {
	for g, operator := range a.left.all() {
		why := entitled(operator)
		if why == nil || !a.left.begin(g) {
			continue
		}
		a.log.Warn("ending programs that a session had left", "operator", operator.ShortCode(), "why", why)
		a.running.Go(func() {
			if err := a.left.finish(g); err != nil {
				a.log.Error("ending programs that a session had left", "err", err)
			}
		})
	}
}
