package agents

import (
	"context"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

// When an agent was seen last is known in three ways: while it is connected, its
// channel knows; the database is told when the channel ends, and now and then before,
// for a server that is killed. A write for every heartbeat of every agent would be most
// of what the database does.
const (
	// NoteEvery is by how much the last-seen time of an agent is early at most, if the
	// server was killed while it was connected. Our choice.
	NoteEvery = 5 * time.Minute

	noteWithin = 5 * time.Second // one transaction about departures; our choice
	noteAtOnce = 1000            // departures in one; our choice, a fraction of a second
)

// departure is an agent whose channel has ended.
type departure struct {
	team  principal.TeamID
	agent key.ID
	heard time.Time
}

// info is an agent as the API shows it.
func (d *Desk) info(of principal.TeamID, a store.Agent) wire.AgentInfo {
	c, ok := d.Bus.Held(of, a.Kid).(*Conn)
	if !ok {
		return a.Info(false)
	}
	c.mu.Lock()
	a.LastSeen = max(a.LastSeen, wire.At(c.heard))
	c.mu.Unlock()
	return a.Info(true)
}

// spoke notes that the agent is there.
func (c *Conn) spoke() {
	c.desk.Metrics.Count("frames")
	c.mu.Lock()
	c.heard = time.Now()
	c.mu.Unlock()
}

// note stores that the agent was here, now and then.
func (c *Conn) note(ctx context.Context, now time.Time) error {
	c.mu.Lock()
	due := now.Sub(c.noted) >= NoteEvery
	if due {
		c.noted = now
	}
	c.mu.Unlock()
	if !due {
		return nil
	}
	return c.desk.Store.InTx(ctx, c.team.ID, func(tx *store.Tx) error { return tx.SawAgent(c.agent, now) })
}

// leaves takes the channel off the bus and has it stored when the agent was heard last.
func (c *Conn) leaves() {
	c.bound()
	c.mu.Lock()
	heard, known := c.heard, !c.heard.After(c.noted)
	c.mu.Unlock()
	if !known {
		c.desk.leaves(departure{c.team.ID, c.agent, heard})
	}
}

// leaves stores departures. While one caller does, others leave it theirs, so that a
// network which takes a thousand agents along costs a few transactions, and a server
// that stops does not wait for a thousand.
func (d *Desk) leaves(one departure) {
	d.mu.Lock()
	d.gone = append(d.gone, one)
	busy := d.noting
	d.noting = true
	d.mu.Unlock()
	if busy {
		return
	}
	for list := d.takeGone(); len(list) > 0; list = d.takeGone() {
		if err := d.noteGone(list); err != nil { // at most NoteEvery is lost
			d.Log.Warn("noting agents that have left", "agents", len(list), "err", err)
		}
	}
}

// takeGone takes departures of one team; with none left, the next caller of leaves
// stores its own.
func (d *Desk) takeGone() (list []departure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var rest []departure
	for _, g := range d.gone {
		if g.team == d.gone[0].team && len(list) < noteAtOnce {
			list = append(list, g)
		} else {
			rest = append(rest, g)
		}
	}
	d.gone, d.noting = rest, len(list) > 0
	return list
}

// noteGone stores departures of one team, also when the server stops.
func (d *Desk) noteGone(list []departure) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.Life), noteWithin)
	defer cancel()
	return d.Store.InTx(ctx, list[0].team, func(tx *store.Tx) error {
		for _, g := range list {
			if err := tx.SawAgent(g.agent, g.heard); err != nil && refusal.Of(err) != refusal.KeyRevoked { // deleted, which is why it left
				return err
			}
		}
		return nil
	})
}
