package lease

import (
	"crypto/rand"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// Subject finds the caller's own session by its ticket.
func (d *Desk) Subject(c *gate.Call) (gate.Subject, error) {
	var body wire.RelayWant
	if err := strict.Decode(c.Body, &body); err != nil {
		return gate.Subject{}, err
	}
	t, err := d.OpenTicket(body.Ticket)
	if err != nil {
		return gate.Subject{}, err
	}
	if t.Team != c.Who.Team.Wire() || t.Operator != c.Who.Operator || t.Session.String() != c.Vars["session"] {
		return gate.Subject{}, team.NotFound()
	}
	c.Ticket = &gate.Ticket{RelayTicket: t, Signed: body.Ticket}
	return gate.Subject{Session: t.Session, Agent: t.Agent, Request: t.RequestHash}, nil
}

// Renew is an operator's call for the next credential of a session.
func (d *Desk) Renew(c *gate.Call) (any, error) {
	return d.Renewal(c.HTTP.Context(), c.Ticket.RelayTicket, c.Ticket.Signed, credential.Operator, c.State, c.Now)
}

// Check gives a credential with which one end can find out which relays and
// transports it reaches (protocol 6.2). It is of a fresh pair whose other side
// nobody ever gets, so nothing can be sent to anybody with it. A check costs the
// relays what a session does, and counts as one.
func (d *Desk) Check(c *gate.Call) (any, error) {
	if !d.Sessions.Allow(c.Who.Operator, c.Now) {
		return nil, refusal.New(refusal.RateLimited, "too many checks and sessions with this key; wait a moment")
	}
	var pair credential.Pair
	rand.Read(pair[:])
	d.Metrics.Count("relay_check")
	d.Log.Info("a credential to check relays", "operator", c.Who.Operator.String(), "request", c.ID)
	return wire.RelayChecked{Relay: d.relayOf(credential.Mint(d.Secret, pair, credential.Operator, c.Now, CheckLifetime))}, nil
}
