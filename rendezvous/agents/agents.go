// Package agents is the server's side of the agents: their registration, their
// control channels, and what they are told and say there (protocol 2.11).
//
// Nothing in a frame names the agent or its team: both are the registration's (attack
// K5). What an agent says of itself is data, never a reason to allow anything.
package agents

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/channel"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/identity"
	"github.com/tucdesk/tucdesk/rendezvous/lease"
	"github.com/tucdesk/tucdesk/rendezvous/metrics"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

const (
	// RegisterWithin is how long a channel has from the upgrade to a complete
	// registration frame; our choice.
	RegisterWithin = 5 * time.Second

	// admitWithin is how long it may take from there until the agent is on the bus: a
	// thousand that come back at once wait for one database, and who gives up and comes
	// again makes them more. Our choice, below an agent's own limit of 30 s in all.
	admitWithin = 20 * time.Second

	maxConns   = 20_000 // control channels of this process; our choice
	pageAgents = 200    // agents in one answer; our choice
)

// Desk serves agents. Its fields are set before the first call and not changed; all
// are required. All methods are safe for concurrent use. The owner calls Close.
type Desk struct {
	Store   *store.Store
	Teams   *team.Teams
	Bus     *bus.Bus
	Keys    *identity.Keys
	Leases  *lease.Desk
	Metrics *metrics.Counters
	Log     *slog.Logger
	Life    context.Context // of channels

	Arrivals *rate.Limiter[key.ID] // registrations, by agent
	Alarms   *rate.Limiter[key.ID] // entries in the log about displaced channels, by agent
	Entries  *rate.Limiter[key.ID] // bytes of agents' own entries, by agent

	notes sync.WaitGroup // what tells the database of departures; Close waits for it

	mu      sync.Mutex         // guards the rest
	conns   int                // channels there are, also those that have not registered
	gone    []departure        // what the database is to be told, see leaves
	noting  bool               // it is being told
	abandon context.CancelFunc // ends that; nil before the first time
}

// Control upgrades a call to an agent's channel and serves it to its end.
func (d *Desk) Control(c *gate.Call) (any, error) {
	if err := channel.Check(c.HTTP); err != nil {
		return nil, err
	}
	binding, err := c.Channel()
	if err != nil {
		return nil, err
	}
	leave, err := d.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	ch, err := channel.Accept(d.Life, c.W, c.HTTP)
	if err != nil {
		return nil, gate.ErrAnswered // by Accept
	}
	defer ch.Close()
	d.serveControl(ch, c, binding)
	return nil, gate.ErrAnswered
}

// enter counts a channel, also before it has registered, and refuses when there
// are too many.
func (d *Desk) enter() (leave func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns >= maxConns {
		return nil, refusal.New(refusal.TooMany, "this server holds all the agents it can")
	}
	d.conns++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.conns--
	}, nil
}

func (d *Desk) serveControl(ch *channel.Conn, c *gate.Call, binding key.Hash) {
	conn, err := d.admit(ch, binding)
	if err != nil {
		d.Metrics.Count("refused_" + string(problem.Code(err)))
		d.Log.Info("an agent's registration was refused", "request", c.ID, "err", err)
		ch.Refuse(err)
		return
	}
	log := d.Log.With("team", conn.team.ID.String(), "agent", conn.agent.String(), "name", conn.name)
	if conn.joins { // on a channel that lasts for its registration alone; the team's log has the join
		log = slog.New(slog.DiscardHandler)
	}
	log.Info("an agent has connected")
	why := ch.Serve(channel.Handler{
		Begin: conn.catchUp, Seen: conn.spoke, Frame: conn.handle, Beat: conn.Beat, Gone: conn.leaves,
	})
	log.Info("an agent has left", "why", why)
}

// Announce sends a new roster to every connected agent of the team, and ends the
// channels of agents that it revokes.
func (d *Desk) Announce(t *team.Team, next chain.State) {
	d.Bus.Each(t.ID, func(_ key.ID, c bus.Conn) {
		if conn, ok := c.(*Conn); ok {
			conn.follow(next)
		}
	})
}
