package agents

import (
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/live"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

// List lists the agents of the team, a page of them.
func (d *Desk) List(c *gate.Call) (any, error) {
	list := wire.AgentList{Agents: []wire.AgentInfo{}}
	err := d.Store.View(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		found, next, err := tx.Agents(c.Query.Get("after"), pageAgents)
		for _, a := range found {
			list.Agents = append(list.Agents, d.info(c.Team.ID, a))
		}
		list.Next = next
		return err
	})
	return list, err
}

// Subject is the agent that the path names.
func (d *Desk) Subject(c *gate.Call) (gate.Subject, error) {
	id, err := c.HashVar("agent")
	return gate.Subject{Agent: id}, err
}

// Delete takes an agent out of the registry for good, ends its sessions and its channel.
func (d *Desk) Delete(c *gate.Call) (any, error) {
	id, err := c.HashVar("agent")
	if err != nil {
		return nil, err
	}
	err = d.Store.InTx(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		a, err := tx.Agent(id)
		if err != nil {
			return err
		}
		if err := tx.DeleteAgent(id, c.Now); err != nil {
			return err
		}
		return d.recordDelete(tx, c, a)
	})
	if err != nil {
		return nil, err
	}
	d.Teams.Cut(c.Team, c.Now, func(l live.Session) refusal.Code {
		if l.Agent == id {
			return refusal.KeyRevoked
		}
		return ""
	})
	d.End(c.Team.ID, id, refusal.New(refusal.KeyRevoked, "this agent was deleted"))
	return nil, nil
}

func (d *Desk) recordDelete(tx *store.Tx, c *gate.Call, a store.Agent) error {
	e := c.Entry(entry.AgentDelete)
	e.Target = entry.Target{Agent: a.Kid, Name: a.Name}
	return c.Team.Log.Record(tx, c.State, e)
}

// End ends an agent's channel on this node with a last word to it. A
// channel that is on its way to the bus finds out by itself, see registered.
func (d *Desk) End(of principal.TeamID, agent key.ID, why error) {
	d.Bus.Each(of, func(id key.ID, held bus.Conn) {
		if conn, ok := held.(*Conn); ok && id == agent {
			conn.End(why)
		}
	})
}
