package agents

import (
	"context"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/channel"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// Conn is one agent's registered control channel: whose it is, and what the agent has
// been told.
type Conn struct {
	*channel.Conn
	desk  *Desk
	team  *team.Team
	agent key.ID
	name  string
	joins bool // its first registration ever
	token statement.Signed
	cert  statement.Signed
	bound func() // takes the channel off the bus
	slow  bool   // the server's log says that entries of this channel wait; of the reader

	// showing keeps checkpoints in the order of their proofs, each of which begins
	// where the last one ended: held across the database until the frame is queued.
	showing sync.Mutex

	mu      sync.Mutex  // guards the rest
	has     uint64      // roster version that the agent has or was sent
	seen    uint64      // size of the log it was shown last
	shown   []tree.Head // the newest checkpoints that it was shown, at most maxShown
	heard   time.Time   // when the agent said something last
	noted   time.Time   // when the database was last told that the agent is here
	checked uint64      // roster version by which cert was verified last
}

// handle is what an agent may say. Nothing in a frame names the agent or its
// team: both are the registration's (attack K5).
func (c *Conn) handle(f wire.Frame) error {
	switch f.Type {
	case wire.FrameHeartbeat:
		var h wire.HeartbeatReply
		if err := strict.Decode(f.Body, &h); err != nil {
			return err
		}
		c.takeCosignature(h.Cosigned)
		return c.alive()
	case wire.FrameRoster:
		var want wire.RosterWant
		if err := strict.Decode(f.Body, &want); err != nil {
			return err
		}
		return c.wants(want)
	case wire.FrameAudit:
		var batch wire.AuditEntries
		if err := strict.Decode(f.Body, &batch); err != nil {
			return err
		}
		return c.takeAudit(batch)
	case wire.FrameRelay:
		return c.renew(f)
	}
	return refusal.New(refusal.ProtocolError, "a frame that an agent does not send")
}

// lastOf returns the version that someone at from has after news.
func lastOf(news wire.RosterNews, from uint64) uint64 { return from + uint64(len(news.Updates)) }

// follow brings the agent up to next, or ends its channel when next revokes it.
func (c *Conn) follow(next chain.State) {
	if err := c.certified(next.Roster); err != nil {
		c.End(err)
		return
	}
	for done := false; !done && c.Context().Err() == nil; {
		var news wire.RosterNews
		c.mu.Lock()
		from := c.has
		if from < next.Roster.Version() {
			news, done = next.News(from)
			c.has = lastOf(news, from)
		} else {
			done = true
		}
		if len(news.Updates) > 0 {
			c.Send(wire.FrameRoster, 0, news) // under mu, which it does not wait with: two callers must not queue version 3 before 2
		}
		c.mu.Unlock()
	}
}

// certified checks the agent's certificate once for every new roster: its key, its
// token or whoever signed that may have been revoked.
func (c *Conn) certified(st *roster.State) error {
	c.mu.Lock()
	same := c.checked == st.Version()
	c.checked = st.Version()
	c.mu.Unlock()
	if same {
		return nil
	}
	_, err := st.VerifyAgent(c.token, c.cert, time.Now())
	return err
}

// verified opens the certificate by the roster in force.
func (c *Conn) verified() (roster.AgentCert, error) {
	return c.team.Have().Roster.VerifyAgent(c.token, c.cert, time.Now())
}

// catchUp sends what was published between the verification of a registration
// and its place on the bus.
func (c *Conn) catchUp() {
	if have := c.team.Have(); have != nil {
		c.follow(*have)
	}
}

// wants answers an agent that is behind, and learns from one that is ahead: an
// honest party carries news past a server that withholds it (protocol 3.3).
func (c *Conn) wants(w wire.RosterWant) error {
	ctx, cancel := context.WithTimeout(c.Context(), bus.AnswerWithin)
	defer cancel()
	state, err := c.desk.Teams.Refresh(ctx, c.team)
	if err != nil {
		return err
	}
	for _, u := range w.Ahead {
		next, err := state.Roster.Apply(u, time.Now())
		if err != nil {
			c.desk.Metrics.Count("ahead_" + string(problem.Code(err)))
			c.desk.Log.Warn("an agent's roster does not follow ours", "agent", c.agent.String(), "err", err)
			break
		}
		if next.Version() == state.Roster.Version() {
			continue
		}
		if state, err = c.desk.learn(ctx, c, state, next, u); err != nil {
			return err
		}
	}
	news, _ := state.News(w.Version)
	c.mu.Lock()
	c.has = lastOf(news, w.Version)
	c.mu.Unlock()
	c.Send(wire.FrameRoster, 0, news)
	c.follow(state)
	return nil
}

// learn stores a version that an agent brought. Its policy must be here already:
// an agent carries none.
func (d *Desk) learn(ctx context.Context, c *Conn, have chain.State, next *roster.State, u wire.RosterUpdate) (chain.State, error) {
	after := chain.Of(d.Keys.Access.ID(), next, have.Name)
	err := d.Store.InTx(ctx, c.team.ID, func(tx *store.Tx) (err error) {
		if next.PolicyHash() != have.Roster.PolicyHash() {
			if _, err = tx.Policy(next.PolicyHash()); err != nil {
				return err
			}
		}
		if err := tx.AppendRoster(next.Version()-1, u, next.PolicyHash(), nil, time.Now()); err != nil {
			return err
		}
		return d.recordLearnt(tx, c, after)
	})
	if err != nil {
		d.Metrics.Count("ahead_" + string(problem.Code(err)))
		return have, nil // an owner has to publish it here, with its policy
	}
	return d.Teams.Refresh(ctx, c.team)
}

// alive notes an agent's answer to a heartbeat.
func (c *Conn) alive() error {
	ctx, cancel := context.WithTimeout(c.Context(), bus.AnswerWithin)
	defer cancel()
	switch err := c.note(ctx, time.Now()); {
	case refusal.Of(err) == refusal.KeyRevoked: // deleted by way of another node
		return err
	case err != nil: // the channel outlives a database that is away for a while
		c.desk.Log.Warn("noting an agent", "agent", c.agent.String(), "err", err)
		return nil
	}
	state, err := c.desk.Teams.Refresh(ctx, c.team)
	if err != nil {
		return nil
	}
	c.follow(state)
	return nil
}

// Beat sends a heartbeat with the version in force and the newest checkpoint.
func (c *Conn) Beat() {
	c.showing.Lock()
	defer c.showing.Unlock()
	ctx, cancel := context.WithTimeout(c.Context(), bus.AnswerWithin)
	defer cancel()
	h := wire.Heartbeat{ServerTime: wire.At(time.Now())}
	if have := c.team.Have(); have != nil {
		h.RosterVersion = have.Roster.Version()
	}
	h.Checkpoint = c.gossip(ctx)
	body, err := channel.Body(h)
	if err != nil {
		c.End(err)
		return
	}
	c.Tell(wire.Frame{Type: wire.FrameHeartbeat, Body: body})
}

// recordLearnt names the agent that brought a roster as who did it.
func (d *Desk) recordLearnt(tx *store.Tx, c *Conn, next chain.State) error {
	return c.team.Log.Record(tx, next, entry.Entry{Type: entry.RosterPublish, Time: wire.At(time.Now()),
		Actor: entry.Actor{Kid: c.agent}, Target: entry.Target{Agent: c.agent, Name: c.name}})
}
