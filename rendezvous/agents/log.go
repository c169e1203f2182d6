package agents

import (
	"context"
	"slices"
	"time"

	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/logbook"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

// takeAudit appends an agent's own entries. A gap is answered with where the log
// stands, so that the agent can send what is missing; anything else that does not
// fit is an alarm, and the channel ends.
func (c *Conn) takeAudit(batch wire.AuditEntries) error {
	ctx, cancel := context.WithTimeout(c.Context(), bus.AnswerWithin)
	defer cancel()
	cert, err := c.verified()
	if err != nil {
		return err
	}
	if !c.affords(batch, time.Now()) {
		return nil // as with a fault of ours
	}
	err = c.team.Log.Accept(ctx, c.team.Have().Name, cert.Agent, batch.Entries)
	switch code := refusal.Of(err); {
	case err == nil:
	case code == refusal.Gap:
		c.desk.Metrics.Count("audit_gap")
		seq, err := c.auditSeq(ctx)
		if err != nil {
			return err
		}
		c.Send(wire.FrameAuditAck, 0, wire.AuditAck{Seq: seq})
		return nil
	case code != "" && code != refusal.Unavailable:
		c.desk.Metrics.Count("audit_" + string(code))
		if err := c.desk.alarm(ctx, c.team, c.agent, c.name, code, time.Now()); err != nil {
			c.desk.Log.Warn("recording an alarm", "agent", c.agent.String(), "err", err)
		}
		return err
	default: // our fault: no acknowledgement, the agent keeps them and sends again
		c.desk.Log.Warn("storing an agent's entries", "agent", c.agent.String(), "err", err)
		return nil
	}
	if err := c.prove(ctx, batch.Entries); err != nil {
		c.desk.Log.Warn("proving an agent's entries", "agent", c.agent.String(), "err", err)
	}
	return nil
}

// affords charges the agent for its entries, or leaves them unanswered until it has been
// silent for long enough: it keeps them and sends them again. A machine can write many at
// a time, and so can a hostile one, for as long as nobody looks; the log is kept for years
// on a disk that teams share. Waiting here instead would keep its answers to others' OPENs.
func (c *Conn) affords(batch wire.AuditEntries, now time.Time) bool {
	size := 0
	for _, e := range batch.Entries {
		size += len(e)
	}
	if c.desk.Entries.Spend(c.agent, float64(size), now) {
		return true
	}
	c.desk.Metrics.Count("audit_delayed")
	if !c.slow {
		c.slow = true
		c.desk.Log.Warn("an agent writes more log entries than it has a share for; they wait at the agent", "team", c.team.ID.String(), "agent", c.agent.String(), "name", c.name)
	}
	return false
}

// prove answers entries with the proof that the log holds them, under a checkpoint
// that covers them. All batches that come in while one is signed share the next.
func (c *Conn) prove(ctx context.Context, entries []statement.Signed) error {
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

func (c *Conn) auditSeq(ctx context.Context) (seq uint64, err error) {
	err = c.desk.Store.View(ctx, c.team.ID, func(tx *store.Tx) error {
		seq, _, err = tx.AuditHead(c.agent)
		return err
	})
	return seq, err
}

// firstGossip tells a newcomer what the log holds of it, and the log's state.
func (c *Conn) firstGossip(ctx context.Context, reply *wire.Registered) error {
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
func (c *Conn) gossip(ctx context.Context) wire.AuditGossip {
	g, _, err := c.team.Log.Gossip(ctx, c.team.Have().Name, c.lastShown())
	if err == nil {
		err = c.nowShown(g)
	}
	if err != nil {
		c.desk.Log.Warn("reading a checkpoint", "team", c.team.ID.String(), "err", err)
		return wire.AuditGossip{}
	}
	return g
}

// lastShown is the size of the log that this agent knows of.
func (c *Conn) lastShown() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen
}

// nowShown notes what the agent is about to be shown.
func (c *Conn) nowShown(g wire.AuditGossip) error {
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

// maxShown is of how many checkpoints a channel remembers that its agent was shown
// them: an answer may cross with a newer one. Our choice.
const maxShown = 8

// takeCosignature takes an agent's word on a checkpoint that it was shown here. One
// that does not hold is dropped: it harms nobody, and nobody would believe it.
func (c *Conn) takeCosignature(k wire.Cosignature) {
	if k.Line == "" {
		return
	}
	cert, err := c.verified()
	if err != nil {
		return
	}
	c.mu.Lock()
	i := slices.IndexFunc(c.shown, func(h tree.Head) bool { return h.Size == k.Size })
	var head tree.Head
	if i >= 0 {
		head = c.shown[i]
	}
	c.mu.Unlock()
	origin := checkpoint.Origin(c.team.Have().Name, c.team.ID.Wire())
	if logbook.TakeCosignature(c.team.Log, checkpoint.Checkpoint{Origin: origin, Head: head}, k.Line, cert.Agent) != nil {
		c.desk.Metrics.Count("cosignature_refused")
	}
}
