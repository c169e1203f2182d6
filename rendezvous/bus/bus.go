// Package bus finds the connection that holds an agent, and asks over it.
//
// There is no table of who is present that could go stale: an agent is online
// exactly while its connection is attached, and Ask says so at once. One agent
// has one connection; a newer one takes the place of the older, because after a
// network failure the old one is the dead one (attack K6). Whoever attaches is
// told what was displaced, so that two hosts with one identity are noticed.
package bus

import (
	"context"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
)

// AnswerWithin is how long an agent may take to answer a question; our choice, below
// the client's own limit of a call.
const AnswerWithin = 20 * time.Second

// Conn is one agent's control channel, an edge of the process. Its methods are
// safe for concurrent use.
type Conn interface {
	// Ask sends f with an ID of its own and returns the frame that answers it.
	Ask(ctx context.Context, f wire.Frame) (wire.Frame, error)
	// Tell queues f, or closes the connection when it does not drain.
	Tell(f wire.Frame)
	// Offer queues f if there is room, and reports that; the connection goes on without.
	Offer(f wire.Frame) bool
	// Displace ends the connection because a newer one has the agent.
	Displace()
}

type place struct {
	team  principal.TeamID
	agent key.ID
}

// Bus holds the connections of this process. The zero value is not usable; see
// New. All methods are safe for concurrent use, and none holds the lock while it
// calls a Conn.
type Bus struct {
	mu    sync.RWMutex // guards conns
	conns map[principal.TeamID]map[key.ID]Conn
}

// New makes an empty bus.
func New() *Bus { return &Bus{conns: map[principal.TeamID]map[key.ID]Conn{}} }

// Attach makes c the connection of an agent until detach is called, and returns
// whether an older one was displaced. The caller has verified the registration;
// detach may be called more than once and
// leaves a newer connection alone.
func (b *Bus) Attach(team principal.TeamID, agent key.ID, c Conn) (detach func(), displaced bool) {
	p := place{team, agent}
	b.mu.Lock()
	if b.conns[team] == nil {
		b.conns[team] = map[key.ID]Conn{}
	}
	old := b.conns[team][agent]
	b.conns[team][agent] = c
	b.mu.Unlock()
	if old != nil {
		old.Displace()
	}
	return func() { b.detach(p, c) }, old != nil
}

func (b *Bus) detach(p place, c Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conns[p.team][p.agent] != c {
		return
	}
	delete(b.conns[p.team], p.agent)
	if len(b.conns[p.team]) == 0 {
		delete(b.conns, p.team)
	}
}

// Online reports whether a connection holds the agent now.
func (b *Bus) Online(team principal.TeamID, agent key.ID) bool { return b.Held(team, agent) != nil }

// Ask puts f to an agent and returns its answer. Nobody holding the agent is
// refusal.Offline, at once; an agent of another team is not found either.
func (b *Bus) Ask(ctx context.Context, team principal.TeamID, agent key.ID, f wire.Frame) (wire.Frame, error) {
	c := b.Held(team, agent)
	if c == nil {
		return wire.Frame{}, refusal.New(refusal.Offline, "the agent is not connected")
	}
	return c.Ask(ctx, f)
}

// Held returns the connection that holds the agent, nil without one.
func (b *Bus) Held(team principal.TeamID, agent key.ID) Conn {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.conns[team][agent]
}

// Each calls tell for every connected agent of a team. The connections are
// gathered first, so tell may take its time.
func (b *Bus) Each(team principal.TeamID, tell func(key.ID, Conn)) {
	b.mu.RLock()
	all := make(map[key.ID]Conn, len(b.conns[team]))
	for id, c := range b.conns[team] {
		all[id] = c
	}
	b.mu.RUnlock()
	for id, c := range all {
		tell(id, c)
	}
}

// Len returns how many agents are connected, of all teams.
func (b *Bus) Len() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	n := 0
	for _, agents := range b.conns {
		n += len(agents)
	}
	return n
}
