package rendezvous

import (
	"context"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/live"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// signTicket makes what both ends of a new session show when they ask for their
// next credential (protocol 6.2).
func (s *Server) signTicket(t wire.RelayTicket) (statement.Signed, error) {
	return statement.Sign(s.keys.Grant, t)
}

// openTicket reads a ticket of ours. One that is not does not exist: whoever
// guesses at sessions learns nothing about them (attack K10).
func (s *Server) openTicket(signed statement.Signed) (wire.RelayTicket, error) {
	t, _, err := statement.Open[wire.RelayTicket](signed, func(kid key.ID) (statement.Verifier, error) {
		if kid != s.keys.Grant.ID() {
			return nil, team.NotFound()
		}
		return s.keys.Grant.Public(), nil
	})
	if err != nil {
		return wire.RelayTicket{}, team.NotFound()
	}
	return t, nil
}

// credentialOf mints one side's credential of a ticket's pair. It never lives
// beyond the session; the one that lives as long comes without the ticket.
func (s *Server) credentialOf(t wire.RelayTicket, signed statement.Signed, role credential.Role, now time.Time) (wire.Relay, wire.Lease) {
	lifetime := s.cfg.Relay.lifetime()
	if t.EndsAt != 0 {
		if left := t.EndsAt.Time().Sub(now); left <= lifetime {
			lifetime, signed = left, nil
		}
	}
	c := credential.Mint(s.relay, credential.Pair(t.Pair), role, now, lifetime)
	return s.relayOf(c), wire.Lease{Lifetime: wire.Millis(c.ExpiresAt.Sub(now).Milliseconds()), Ticket: signed}
}

// renewal judges a ticket again by the roster and the registry of now, both its
// ends, and mints. The caller has made sure that the ticket is the asker's.
func (s *Server) renewal(ctx context.Context, t wire.RelayTicket, signed statement.Signed, role credential.Role, state chain.State, now time.Time) (wire.RelayRenewed, error) {
	if err := state.MayOpen(now); err != nil {
		return wire.RelayRenewed{}, err
	}
	of, err := s.teams.Find(ctx, t.Team)
	if err != nil {
		return wire.RelayRenewed{}, err
	}
	session := live.Session{ID: t.Session, Operator: t.Operator, Agent: t.Agent}
	if err := state.MaySession(t.Operator, now); err != nil {
		of.Live.Put(session, now.Add(s.cfg.Relay.lifetime()), now) // also one from before a restart
		s.teams.Cut(of, now, team.One(t.Session, problem.Code(err)))
		return wire.RelayRenewed{}, err
	}
	if err := s.agentGood(ctx, of, t.Agent, state, now); err != nil {
		return wire.RelayRenewed{}, err
	}
	if code := of.Live.Ended(t.Session); code != "" {
		return wire.RelayRenewed{}, refusal.New(code, "this session was ended")
	}
	if t.EndsAt != 0 && !now.Before(t.EndsAt.Time()) {
		return wire.RelayRenewed{}, refusal.New(refusal.Expired, "the session reached the longest duration that the policy allows")
	}
	r, lease := s.credentialOf(t, signed, role, now)
	of.Live.Put(session, r.ExpiresAt.Time(), now)
	s.metrics.Count("renewed")
	return wire.RelayRenewed{Relay: r, Lease: lease}, nil
}

// agentGood reports why an agent has no more sessions: it was deleted, or its
// certificate does not hold by this roster. Whoever asks is an end of the session,
// so there is nothing to hide.
func (s *Server) agentGood(ctx context.Context, t *team.Team, agent key.ID, state chain.State, now time.Time) error {
	var a store.Agent
	err := s.store.View(ctx, t.ID, func(tx *store.Tx) (err error) {
		a, err = tx.Agent(agent)
		return err
	})
	if err != nil {
		return err
	}
	if a.DeletedAt != 0 {
		return refusal.New(refusal.KeyRevoked, "this agent was deleted")
	}
	_, err = state.Roster.VerifyAgent(a.Token, a.Certificate, now)
	return err
}

// relaySubject finds the caller's own session by its ticket.
func (s *Server) relaySubject(c *gate.Call) (gate.Subject, error) {
	var body wire.RelayWant
	if err := strict.Decode(c.Body, &body); err != nil {
		return gate.Subject{}, err
	}
	t, err := s.openTicket(body.Ticket)
	if err != nil {
		return gate.Subject{}, err
	}
	if t.Team != c.Who.Team.Wire() || t.Operator != c.Who.Operator || t.Session.String() != c.Vars["session"] {
		return gate.Subject{}, team.NotFound()
	}
	c.Ticket = &gate.Ticket{RelayTicket: t, Signed: body.Ticket}
	return gate.Subject{Session: t.Session, Agent: t.Agent, Request: t.RequestHash}, nil
}

// renewRelay is an operator's call for the next credential of a session.
func (s *Server) renewRelay(c *gate.Call) (any, error) {
	return s.renewal(c.HTTP.Context(), c.Ticket.RelayTicket, c.Ticket.Signed, credential.Operator, c.State, c.Now)
}

// renew answers an agent that asks for one of its sessions. A refusal is an
// answer, not the end of the channel: the roster may just have changed.
func (c *conn) renew(f wire.Frame) error {
	var want wire.RelayWant
	if f.ID == 0 {
		return refusal.New(refusal.ProtocolError, "a question without an id")
	}
	if err := strict.Decode(f.Body, &want); err != nil {
		return err
	}
	renewed, err := c.renewal(want.Ticket)
	if err != nil {
		code := problem.Code(err)
		c.s.metrics.Count("refused_" + string(code))
		c.s.log.Info("a relay credential was not renewed", "agent", c.agent.String(), "err", err)
		c.Send(wire.FrameRefuse, f.ID, wire.Refuse{Code: code, Detail: "the relay credential is not renewed"})
		return nil
	}
	c.Send(wire.FrameRelayed, f.ID, renewed)
	return nil
}

func (c *conn) renewal(signed statement.Signed) (wire.RelayRenewed, error) {
	t, err := c.s.openTicket(signed)
	if err != nil {
		return wire.RelayRenewed{}, err
	}
	if t.Team != c.team.ID.Wire() || t.Agent != c.agent {
		return wire.RelayRenewed{}, team.NotFound()
	}
	ctx, cancel := context.WithTimeout(c.Context(), answerWithin)
	defer cancel()
	state, err := c.s.teams.Refresh(ctx, c.team)
	if err != nil {
		return wire.RelayRenewed{}, err
	}
	return c.s.renewal(ctx, t, signed, credential.Agent, state, time.Now())
}
