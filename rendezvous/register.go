package rendezvous

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/channel"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// newcomer is a registration on its way to being verified.
type newcomer struct {
	frame wire.Register
	reg   wire.Registration
	team  *team.Team
	state chain.State
	cert  roster.AgentCert
	kid   key.ID
}

// admit reads the first frame and checks the registration in it (protocol 2.11).
// It returns a channel that is on the bus.
func (s *Server) admit(ch *channel.Conn, binding key.Hash) (*conn, error) {
	ctx, cancel := context.WithTimeout(s.base, registerWithin)
	defer cancel()
	n, err := readRegister(ctx, ch)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if err := s.verifyRegistration(ctx, n, binding, now); err != nil {
		return nil, err
	}
	if err := s.storeRegistration(ctx, n, now); err != nil {
		return nil, err
	}
	return s.attach(ctx, ch, n, now)
}

func readRegister(ctx context.Context, ch *channel.Conn) (*newcomer, error) {
	f, err := ch.First(ctx)
	if err != nil {
		return nil, err
	}
	n := new(newcomer)
	if f.Type != wire.FrameRegister {
		return nil, refusal.New(refusal.ProtocolError, "the first frame registers")
	}
	return n, strict.Decode(f.Body, &n.frame)
}

// verifyRegistration lets package principal check it by the roster of the team it
// names, and last that it was never used.
func (s *Server) verifyRegistration(ctx context.Context, n *newcomer, binding key.Hash, now time.Time) error {
	find := func(id wire.TeamID) (_ *roster.State, err error) {
		if n.team, err = s.teams.Find(ctx, id); err != nil {
			return nil, err
		}
		n.state, err = s.teams.Refresh(ctx, n.team)
		return n.state.Roster, err
	}
	agent, err := principal.FromRegistration(n.frame, find, s.keys.Access.ID(), binding, now)
	if err != nil {
		return err
	}
	n.reg, n.cert, n.kid = agent.Registration, agent.Certificate, agent.Key.ID()
	if !s.arrivals.Allow(n.kid, now) {
		return refusal.New(refusal.RateLimited, "this agent connects too often; wait a moment")
	}
	expires := n.reg.IssuedAt.Time().Add(2 * wire.RegistrationSkew)
	return s.store.UseOnce(ctx, "register:"+n.kid.String(), n.reg.ID, expires)
}

// storeRegistration takes the agent into the registry. A new one uses its token
// once more and gets its entry in the log in the same transaction.
func (s *Server) storeRegistration(ctx context.Context, n *newcomer, now time.Time) error {
	a := store.Agent{
		Kid: n.kid, Name: n.cert.Name, TokenID: n.cert.TokenID,
		Token: n.frame.Token, Certificate: n.frame.Certificate, Registration: n.frame.Registration,
		Platform: n.frame.Platform, Hostname: n.frame.Hostname, Version: n.reg.ClientVersion,
	}
	return s.store.InTx(ctx, n.team.ID, func(tx *store.Tx) error {
		isNew, err := tx.RegisterAgent(a, now)
		if err != nil {
			return err
		}
		if isNew { // joining, not only coming back: the token must be good today
			if _, err := n.state.Roster.VerifyToken(n.frame.Token, now); err != nil {
				return err
			}
		}
		notable, err := n.notable(tx, now)
		if err != nil || !notable && !isNew {
			return err
		}
		return s.recordRegistration(tx, n, isNew, now)
	})
}

// notable reports whether this connection belongs in the log: it is the agent's
// first of a day (UTC), or platform, host name or version have changed, or its own
// chain is not where the log has it, for each such place once. An agent that comes
// and goes all day must not make the log grow; that it is there all the same stands
// in the registry. Where it comes from is in no entry, so it is no reason for one.
func (n *newcomer) notable(tx *store.Tx, now time.Time) (bool, error) {
	seq, head, err := tx.AuditHead(n.kid)
	if err != nil {
		return false, err
	}
	facts := []any{now.UTC().Format(time.DateOnly), n.frame.Platform, n.frame.Hostname, n.reg.ClientVersion}
	if n.reg.AuditSeq < seq || n.reg.AuditSeq == seq && n.reg.AuditHead != head {
		facts = append(facts, n.reg.AuditSeq, n.reg.AuditHead)
	}
	text, err := strict.Encode(facts)
	if err != nil {
		return false, err
	}
	return tx.Notable(n.kid, sha256.Sum256(text))
}

// attach puts the channel on the bus. An older one of the same agent is ended and
// that is recorded: two hosts may have one identity (attack K6). The answer to the
// registration is queued before anybody can find the channel, because the agent
// takes nothing else for the first frame.
func (s *Server) attach(ctx context.Context, ch *channel.Conn, n *newcomer, now time.Time) (*conn, error) {
	news, _ := n.state.News(n.frame.Roster)
	reply := wire.Registered{ServerTime: wire.At(now), Roster: news, Heartbeat: wire.Millis(wire.HeartbeatEvery.Milliseconds())}
	c := &conn{Conn: ch, s: s, team: n.team, agent: n.kid,
		name: n.cert.Name, token: n.frame.Token, cert: n.frame.Certificate, noted: now, seen: n.frame.Seen, checked: n.state.Roster.Version()}
	c.has = max(n.frame.Roster, lastOf(news, n.frame.Roster))
	if err := c.firstGossip(ctx, &reply); err != nil {
		return nil, err
	}
	c.Send(wire.FrameRegistered, 0, reply)
	detach, displaced := s.bus.Attach(n.team.ID, n.kid, c)
	c.bound = detach
	if err := c.registered(ctx); err != nil {
		detach()
		return nil, err
	}
	s.metrics.Count("registered")
	if displaced {
		s.metrics.Count("displaced")
	}
	if displaced && s.alarms.Allow(n.kid, now) {
		if err := s.recordDisplaced(ctx, n, now); err != nil {
			s.log.Warn("recording a displaced channel", "agent", n.kid.String(), "err", err)
		}
	}
	return c, nil
}

// registered reports whether the agent still is. It is asked once the channel is
// on the bus: a deletion commits before it looks for channels there, so one of the
// two sees the other, whichever comes first (attack K16).
func (c *conn) registered(ctx context.Context) error {
	return c.s.store.View(ctx, c.team.ID, func(tx *store.Tx) error {
		a, err := tx.Agent(c.agent)
		if err == nil && a.DeletedAt != 0 {
			err = refusal.New(refusal.KeyRevoked, "this agent was deleted")
		}
		return err
	})
}

// lastOf returns the version that someone at from has after news.
func lastOf(news wire.RosterNews, from uint64) uint64 { return from + uint64(len(news.Updates)) }

// follow brings the agent up to next, or ends its channel when next revokes it.
func (c *conn) follow(next chain.State) {
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
func (c *conn) certified(st *roster.State) error {
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
func (c *conn) verified() (roster.AgentCert, error) {
	return c.team.Have().Roster.VerifyAgent(c.token, c.cert, time.Now())
}

// catchUp sends what was published between the verification of a registration
// and its place on the bus.
func (c *conn) catchUp() {
	if have := c.team.Have(); have != nil {
		c.follow(*have)
	}
}

// wants answers an agent that is behind, and learns from one that is ahead: an
// honest party carries news past a server that withholds it (protocol 3.3).
func (c *conn) wants(w wire.RosterWant) error {
	ctx, cancel := context.WithTimeout(c.Context(), bus.AnswerWithin)
	defer cancel()
	state, err := c.s.teams.Refresh(ctx, c.team)
	if err != nil {
		return err
	}
	for _, u := range w.Ahead {
		next, err := state.Roster.Apply(u, time.Now())
		if err != nil {
			c.s.metrics.Count("ahead_" + string(problem.Code(err)))
			c.s.log.Warn("an agent's roster does not follow ours", "agent", c.agent.String(), "err", err)
			break
		}
		if next.Version() == state.Roster.Version() {
			continue
		}
		if state, err = c.s.learn(ctx, c, state, next, u); err != nil {
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
func (s *Server) learn(ctx context.Context, c *conn, have chain.State, next *roster.State, u wire.RosterUpdate) (chain.State, error) {
	after := chain.Of(s.keys.Access.ID(), next, have.Name)
	err := s.store.InTx(ctx, c.team.ID, func(tx *store.Tx) (err error) {
		if next.PolicyHash() != have.Roster.PolicyHash() {
			if _, err = tx.Policy(next.PolicyHash()); err != nil {
				return err
			}
		}
		if err := tx.AppendRoster(next.Version()-1, u, next.PolicyHash(), nil, time.Now()); err != nil {
			return err
		}
		return s.recordLearnt(tx, c, after)
	})
	if err != nil {
		s.metrics.Count("ahead_" + string(problem.Code(err)))
		return have, nil // an owner has to publish it here, with its policy
	}
	return s.teams.Refresh(ctx, c.team)
}

// alive notes an agent's answer to a heartbeat.
func (c *conn) alive() error {
	ctx, cancel := context.WithTimeout(c.Context(), bus.AnswerWithin)
	defer cancel()
	switch err := c.note(ctx, time.Now()); {
	case refusal.Of(err) == refusal.KeyRevoked: // deleted by way of another node
		return err
	case err != nil: // the channel outlives a database that is away for a while
		c.s.log.Warn("noting an agent", "agent", c.agent.String(), "err", err)
		return nil
	}
	state, err := c.s.teams.Refresh(ctx, c.team)
	if err != nil {
		return nil
	}
	c.follow(state)
	return nil
}

// noteEvery is how exact the last-seen time of a connected agent is: a write for
// every heartbeat of every agent would be most of what the database does. Our
// choice.
const noteEvery = 5 * time.Minute

// note stores that the agent was here, now and then.
func (c *conn) note(ctx context.Context, now time.Time) error {
	c.mu.Lock()
	due := now.Sub(c.noted) >= noteEvery
	if due {
		c.noted = now
	}
	c.mu.Unlock()
	if !due {
		return nil
	}
	return c.s.store.InTx(ctx, c.team.ID, func(tx *store.Tx) error { return tx.SawAgent(c.agent, now) })
}

// beat sends a heartbeat with the version in force and the newest checkpoint.
func (c *conn) beat() {
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
