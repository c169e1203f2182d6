package rendezvous

import (
	"context"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/logbook"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

func (s *Server) recordLogin(c *gate.Call) error {
	return s.store.InTx(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		return c.Team.Log.Record(tx, c.State, c.Entry(entry.Login))
	})
}

func (s *Server) recordFounding(tx *store.Tx, next chain.State, now time.Time) error {
	return logbook.Record(tx, s.keys.Audit, next, entry.Entry{Type: entry.TeamFound, Time: wire.At(now)})
}

func (s *Server) recordRoster(tx *store.Tx, c *gate.Call, next chain.State) error {
	e := c.Entry(entry.RosterPublish)
	e.Policy.Hash = next.Roster.PolicyHash()
	return c.Team.Log.Record(tx, next, e)
}

// recordLearnt names the agent that brought a roster as who did it.
func (s *Server) recordLearnt(tx *store.Tx, c *conn, next chain.State) error {
	return c.team.Log.Record(tx, next, entry.Entry{Type: entry.RosterPublish, Time: wire.At(time.Now()),
		Actor: entry.Actor{Kid: c.agent}, Target: entry.Target{Agent: c.agent, Name: c.name}})
}

func (s *Server) recordToken(tx *store.Tx, c *gate.Call, _ roster.Token) error {
	return c.Team.Log.Record(tx, c.State, c.Entry(entry.TokenPublish))
}

func (s *Server) recordDelete(tx *store.Tx, c *gate.Call, a store.Agent) error {
	e := c.Entry(entry.AgentDelete)
	e.Target = entry.Target{Agent: a.Kid, Name: a.Name}
	return c.Team.Log.Record(tx, c.State, e)
}

// recordRegistration writes a join or a connection, and raises the alarm when the
// agent's own chain is not where the log has it: a host that was set back, or a
// second host with its identity (protocol 5.4).
func (s *Server) recordRegistration(tx *store.Tx, n *newcomer, isNew bool, now time.Time) error {
	e := entry.Entry{Type: entry.AgentConnect, Time: wire.At(now), Actor: entry.Actor{Kid: n.kid},
		Target: entry.Target{Agent: n.kid, Name: n.cert.Name}}
	if isNew {
		e.Type = entry.AgentJoin
	}
	if err := n.team.Log.Record(tx, n.state, e); err != nil {
		return err
	}
	seq, head, err := tx.AuditHead(n.kid)
	if err != nil || n.reg.AuditSeq > seq || n.reg.AuditSeq == seq && n.reg.AuditHead == head {
		return err
	}
	e.Type, e.Refusal = entry.Alarm, refusal.AuditFork
	return n.team.Log.Record(tx, n.state, e)
}

func (s *Server) recordDisplaced(ctx context.Context, n *newcomer, now time.Time) error {
	return s.alarm(ctx, n.team, n.kid, n.cert.Name, refusal.KeyInUse, now)
}

// alarm writes that something about an agent needs a person's eyes.
func (s *Server) alarm(ctx context.Context, t *team.Team, agent key.ID, name string, code refusal.Code, now time.Time) error {
	state := t.Have()
	return s.store.InTx(ctx, t.ID, func(tx *store.Tx) error {
		return t.Log.Record(tx, *state, entry.Entry{Type: entry.Alarm, Time: wire.At(now), Actor: entry.Actor{Kid: agent},
			Target: entry.Target{Agent: agent, Name: name}, Refusal: code})
	})
}

// takeAudit appends an agent's own entries. A gap is answered with where the log
// stands, so that the agent can send what is missing; anything else that does not
// fit is an alarm, and the channel ends.
func (c *conn) takeAudit(batch wire.AuditEntries) error {
	ctx, cancel := context.WithTimeout(c.Context(), bus.AnswerWithin)
	defer cancel()
	cert, err := c.verified()
	if err != nil {
		return err
	}
	err = c.team.Log.Accept(ctx, c.team.Have().Name, cert.Agent, batch.Entries)
	switch code := refusal.Of(err); {
	case err == nil:
	case code == refusal.Gap:
		c.s.metrics.Count("audit_gap")
		seq, err := c.auditSeq(ctx)
		if err != nil {
			return err
		}
		c.Send(wire.FrameAuditAck, 0, wire.AuditAck{Seq: seq})
		return nil
	case code != "" && code != refusal.Unavailable:
		c.s.metrics.Count("audit_" + string(code))
		if err := c.s.alarm(ctx, c.team, c.agent, c.name, code, time.Now()); err != nil {
			c.s.log.Warn("recording an alarm", "agent", c.agent.String(), "err", err)
		}
		return err
	default: // our fault: no acknowledgement, the agent keeps them and sends again
		c.s.log.Warn("storing an agent's entries", "agent", c.agent.String(), "err", err)
		return nil
	}
	if err := c.prove(ctx, batch.Entries); err != nil {
		c.s.log.Warn("proving an agent's entries", "agent", c.agent.String(), "err", err)
	}
	return nil
}

// prove answers entries with the proof that the log holds them, under a checkpoint
// that covers them. All batches that come in while one is signed share the next.
func (c *conn) prove(ctx context.Context, entries []statement.Signed) error {
	name := c.team.Have().Name
	if err := c.team.Log.Seal(ctx, name); err != nil {
		return err
	}
	c.showing.Lock()
	defer c.showing.Unlock()
	ack, err := c.team.Log.Acknowledge(ctx, name, c.agent, entries, c.lastShown())
	if err != nil {
		return err
	}
	if err := c.nowShown(ack.Checkpoint); err != nil {
		return err
	}
	c.Send(wire.FrameAuditAck, 0, ack)
	return nil
}

func (c *conn) auditSeq(ctx context.Context) (seq uint64, err error) {
	err = c.s.store.View(ctx, c.team.ID, func(tx *store.Tx) error {
		seq, _, err = tx.AuditHead(c.agent)
		return err
	})
	return seq, err
}

// firstGossip tells a newcomer what the log holds of it, and the log's state.
func (c *conn) firstGossip(ctx context.Context, reply *wire.Registered) error {
	seq, err := c.auditSeq(ctx)
	if err != nil {
		return err
	}
	reply.AuditSeq = seq
	reply.Checkpoint = c.gossip(ctx)
	return nil
}

// gossip returns the newest checkpoint with the proof that it extends the one
// that this agent was shown before. The caller holds showing until the frame is
// queued. A fault only delays it.
func (c *conn) gossip(ctx context.Context) wire.AuditGossip {
	g, _, err := c.team.Log.Gossip(ctx, c.team.Have().Name, c.lastShown())
	if err == nil {
		err = c.nowShown(g)
	}
	if err != nil {
		c.s.log.Warn("reading a checkpoint", "team", c.team.ID.String(), "err", err)
		return wire.AuditGossip{}
	}
	return g
}

// lastShown is the size of the log that this agent knows of.
func (c *conn) lastShown() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen
}

// nowShown notes what the agent is about to be shown.
func (c *conn) nowShown(g wire.AuditGossip) error {
	if g.Checkpoint == "" {
		return nil
	}
	shown, err := checkpoint.Peek(g.Checkpoint)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = max(c.seen, uint64(shown.Size))
	if n := len(c.shown); n > 0 && c.shown[n-1] == shown.Head {
		return nil
	}
	c.shown = append(c.shown[max(0, len(c.shown)-maxShown+1):], shown.Head)
	return nil
}

// checkpoint signs the log's present state first, so that whoever asks after an
// act finds it covered.
func (s *Server) checkpoint(c *gate.Call) (any, error) {
	from, err := c.NumberOf("from")
	if err != nil {
		return nil, err
	}
	name := c.Team.Have().Name
	if err := c.Team.Log.Seal(c.HTTP.Context(), name); err != nil {
		return nil, err
	}
	g, _, err := c.Team.Log.Gossip(c.HTTP.Context(), name, from)
	return g, err
}
