package agents

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/channel"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
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
	joins bool // it was not in the registry
}

// admit reads the first frame and checks the registration in it (protocol 2.11).
// It returns a channel that is on the bus.
func (d *Desk) admit(ch *channel.Conn, binding key.Hash) (*Conn, error) {
	n, err := d.readRegister(ch)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(d.Life, admitWithin)
	defer cancel()
	now := time.Now()
	if err := d.verifyRegistration(ctx, n, binding, now); err != nil {
		return nil, err
	}
	if err := d.storeRegistration(ctx, n, now); err != nil {
		return nil, err
	}
	return d.attach(ctx, ch, n, now)
}

func (d *Desk) readRegister(ch *channel.Conn) (*newcomer, error) {
	ctx, cancel := context.WithTimeout(d.Life, RegisterWithin)
	defer cancel()
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
func (d *Desk) verifyRegistration(ctx context.Context, n *newcomer, binding key.Hash, now time.Time) error {
	find := func(id wire.TeamID) (_ *roster.State, err error) {
		if n.team, err = d.Teams.Find(ctx, id); err != nil {
			return nil, err
		}
		n.state, err = d.Teams.Refresh(ctx, n.team)
		return n.state.Roster, err
	}
	agent, err := principal.FromRegistration(n.frame, find, d.Keys.Access.ID(), binding, now)
	if err != nil {
		return err
	}
	n.reg, n.cert, n.kid = agent.Registration, agent.Certificate, agent.Key.ID()
	if !d.Arrivals.Allow(n.kid, now) {
		return refusal.New(refusal.RateLimited, "this agent connects too often; wait a moment")
	}
	expires := n.reg.IssuedAt.Time().Add(2 * wire.RegistrationSkew)
	return d.Store.UseOnce(ctx, "register:"+n.kid.String(), n.reg.ID, expires)
}

// storeRegistration takes the agent into the registry. A new one uses its token
// once more and gets its entry in the log in the same transaction.
func (d *Desk) storeRegistration(ctx context.Context, n *newcomer, now time.Time) error {
	a := store.Agent{
		Kid: n.kid, Name: n.cert.Name, TokenID: n.cert.TokenID,
		Token: n.frame.Token, Certificate: n.frame.Certificate, Registration: n.frame.Registration,
		Platform: n.frame.Platform, Hostname: n.frame.Hostname, Version: n.reg.ClientVersion,
	}
	return d.Store.InTx(ctx, n.team.ID, func(tx *store.Tx) error {
		isNew, err := tx.RegisterAgent(a, now)
		if err != nil {
			return err
		}
		n.joins = isNew
		if isNew { // joining, not only coming back: the token must be good today
			if _, err := n.state.Roster.VerifyToken(n.frame.Token, now); err != nil {
				return err
			}
		}
		notable, err := n.notable(tx, now)
		if err != nil || !notable && !isNew {
			return err
		}
		return d.recordRegistration(tx, n, isNew, now)
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
func (d *Desk) attach(ctx context.Context, ch *channel.Conn, n *newcomer, now time.Time) (*Conn, error) {
	news, _ := n.state.News(n.frame.Roster)
	reply := wire.Registered{ServerTime: wire.At(now), Roster: news, Heartbeat: wire.Millis(wire.HeartbeatEvery.Milliseconds())}
	c := &Conn{Conn: ch, desk: d, team: n.team, agent: n.kid,
		name: n.cert.Name, joins: n.joins, token: n.frame.Token, cert: n.frame.Certificate, heard: now, noted: now, seen: n.frame.Seen, checked: n.state.Roster.Version()}
	c.has = max(n.frame.Roster, lastOf(news, n.frame.Roster))
	if err := c.firstGossip(ctx, &reply); err != nil {
		return nil, err
	}
	c.Send(wire.FrameRegistered, 0, reply)
	detach, displaced := d.Bus.Attach(n.team.ID, n.kid, c)
	c.bound = detach
	if err := c.registered(ctx); err != nil {
		detach()
		return nil, err
	}
	d.Metrics.Count("registered")
	if displaced {
		d.Metrics.Count("displaced")
	}
	if displaced && d.Alarms.Allow(n.kid, now) {
		if err := d.recordDisplaced(ctx, n, now); err != nil {
			d.Log.Warn("recording a displaced channel", "agent", n.kid.String(), "err", err)
		}
	}
	return c, nil
}

// registered reports whether the agent still is. It is asked once the channel is
// on the bus: a deletion commits before it looks for channels there, so one of the
// two sees the other, whichever comes first (attack K16).
func (c *Conn) registered(ctx context.Context) error {
	return c.desk.Store.View(ctx, c.team.ID, func(tx *store.Tx) error {
		a, err := tx.Agent(c.agent)
		if err == nil && a.DeletedAt != 0 {
			err = refusal.New(refusal.KeyRevoked, "this agent was deleted")
		}
		return err
	})
}

// recordRegistration writes a join or a connection, and raises the alarm when the
// agent's own chain is not where the log has it: a host that was set back, or a
// second host with its identity (protocol 5.4).
func (d *Desk) recordRegistration(tx *store.Tx, n *newcomer, isNew bool, now time.Time) error {
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

func (d *Desk) recordDisplaced(ctx context.Context, n *newcomer, now time.Time) error {
	return d.alarm(ctx, n.team, n.kid, n.cert.Name, refusal.KeyInUse, now)
}

// alarm writes that something about an agent needs a person's eyes.
func (d *Desk) alarm(ctx context.Context, t *team.Team, agent key.ID, name string, code refusal.Code, now time.Time) error {
	state := t.Have()
	return d.Store.InTx(ctx, t.ID, func(tx *store.Tx) error {
		return t.Log.Record(tx, *state, entry.Entry{Type: entry.Alarm, Time: wire.At(now), Actor: entry.Actor{Kid: agent},
			Target: entry.Target{Agent: agent, Name: name}, Refusal: code})
	})
}
