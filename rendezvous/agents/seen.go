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

	noteWithin = 5 * time.Second // one transaction about departures, and all of them once the server stops; our choice
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
	c.mu.Unlock()
	if !due {
		return nil
	}
	err := c.desk.Store.InTx(ctx, c.team.ID, func(tx *store.Tx) error { return tx.SawAgent(c.agent, now) })
	if err == nil { // or the departure would not be stored either
		c.mu.Lock()
		c.noted = now
		c.mu.Unlock()
	}
	return err
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

// leaves has a departure stored, and does not wait for that: a channel's socket and
// place are not held up by a slow database. All departures are stored by one goroutine,
// so that a network which takes a thousand agents along costs a few transactions.
func (d *Desk) leaves(one departure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone = append(d.gone, one)
	if d.noting {
		return
	}
	ctx, abandon := context.WithCancel(context.WithoutCancel(d.Life))
	d.noting, d.abandon = true, abandon
	d.notes.Go(func() {
		defer abandon()
		d.storeGone(ctx)
	})
}

// storeGone stores departures until there are none, or ctx ends.
func (d *Desk) storeGone(ctx context.Context) {
	for list := d.takeGone(); len(list) > 0; list = d.takeGone() {
		if err := d.noteGone(ctx, list); err != nil { // at most NoteEvery is lost
			d.Log.Warn("noting agents that have left", "agents", len(list), "err", err)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// Close waits until the departures are stored, for a few seconds in all: a database
// that hangs does not keep the server, however many teams there are. It is called when
// every call of Control has returned, before the database is closed, and may be called
// more than once.
func (d *Desk) Close() {
	late := time.AfterFunc(noteWithin, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.abandon != nil {
			d.abandon()
		}
	})
	defer late.Stop()
	d.notes.Wait()
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

// noteGone stores departures of one team.
func (d *Desk) noteGone(ctx context.Context, list []departure) error {
	ctx, cancel := context.WithTimeout(ctx, noteWithin)
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
