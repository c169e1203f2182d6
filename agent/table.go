package agent

import (
	"sync"

	"github.com/tucdesk/tucdesk/agent/places"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// How many sessions an agent has open (attack H8); our choices.
const (
	// DefaultMaxSessions bounds those in which something runs.
	DefaultMaxSessions = 64
	// maxPerOperator keeps one operator from taking them all.
	maxPerOperator = 32
	// maxPings bounds the others: they need nobody's approval.
	maxPings = 16
	// maxPingsPerOperator is enough for the ways of one person's machines.
	maxPingsPerOperator = 4
)

// sessionTable holds the live sessions.
type sessionTable struct {
	mu     sync.Mutex
	m      map[wire.SessionID]*live // guarded by mu; nil while a place is only reserved
	places *places.Places           // guarded by mu
	pings  *places.Places           // guarded by mu; they cost nobody a session
	closed bool                     // guarded by mu
}

func newTable(sessions int) sessionTable {
	return sessionTable{
		m:      make(map[wire.SessionID]*live),
		places: places.New("sessions", sessions, maxPerOperator),
		pings:  places.New("pings", maxPings, maxPingsPerOperator),
	}
}

// kindLocked returns the places that an action is served in.
func (t *sessionTable) kindLocked(action wire.Action) *places.Places {
	if action == wire.Ping {
		return t.pings
	}
	return t.places
}

// reserve takes a place for what r asks for, or refuses with TooMany.
func (t *sessionTable) reserve(r *wire.Request) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch _, twice := t.m[r.Session]; {
	case t.closed:
		return refusal.New(refusal.AgentStopped, "the agent is stopping")
	case twice:
		return refusal.New(refusal.Replay, "a session of this id is open")
	}
	if err := t.kindLocked(r.Action).Take(r.Operator); err != nil {
		return err
	}
	t.m[r.Session] = nil
	return nil
}

// fill puts the session into its reserved place.
func (t *sessionTable) fill(s *live) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.m[s.question.Request.Session] = s
	if t.closed {
		s.end(refusal.AgentStopped)
	}
}

func (t *sessionTable) release(r *wire.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.m, r.Session)
	t.kindLocked(r.Action).Give(r.Operator)
}

func (t *sessionTable) has(id wire.SessionID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.m[id]
	return ok
}

func (t *sessionTable) all() (list []*live) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.m {
		if s != nil {
			list = append(list, s)
		}
	}
	return list
}

func (t *sessionTable) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.m)
}

// forged counts the sessions that somebody sends forged datagrams to.
func (t *sessionTable) forged() (n int) {
	for _, s := range t.all() {
		if s.forged.Load() > 0 {
			n++
		}
	}
	return n
}

// close refuses new sessions and ends the live ones; it does not wait.
func (t *sessionTable) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	for _, s := range t.all() {
		s.end(refusal.AgentStopped)
	}
}
