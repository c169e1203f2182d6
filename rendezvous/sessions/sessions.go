// Package sessions opens sessions: it judges an operator's request by the roster and
// the policy of now, records what came of it, mints the grant, and puts the request to
// the agent, who judges it again.
//
// The server's yes is one of the things that an agent demands, never enough; its no
// is final. Decision, state of the request and entry in the log are one transaction.
package sessions

import (
	"log/slog"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/identity"
	"github.com/tucdesk/tucdesk/rendezvous/lease"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

const (
	// MaxPinging is how many pings of one operator may wait for their agents at once;
	// our choice.
	MaxPinging = 8

	// PingLife ends a ping, and with it what it has of a relay; the agent has the
	// same limit (protocol 2.7).
	PingLife = 10 * time.Minute

	// MaxRule bounds the name of a rule that an agent reports, in bytes; policy names
	// are shorter.
	MaxRule = 64

	// maxDetail bounds an agent's words that are passed on to an operator, in bytes;
	// our choice.
	maxDetail = 1024

	maxOpen = 4 << 10 // bytes of M1; the largest suite has 1,304 (protocol 2.4)
)

// Desk opens sessions. Its fields are set before the first call and not changed; all
// are required. All methods are safe for concurrent use.
type Desk struct {
	Store  *store.Store
	Teams  *team.Teams
	Bus    *bus.Bus
	Keys   *identity.Keys
	Leases *lease.Desk
	Log    *slog.Logger

	Denials *rate.Limiter[key.ID] // entries about sessions that the policy denied, per operator
	Pings   *rate.Limiter[key.ID] // pings per operator; sessions are counted by Leases
	Pinging *rate.Places[key.ID]  // pings whose agents have yet to answer, MaxPinging per operator
}

// Subject reads and verifies the request, so that the proof can be held
// against what it asks for.
func (d *Desk) Subject(c *gate.Call) (gate.Subject, error) {
	var body wire.SessionOpen
	if err := strict.Decode(c.Body, &body); err != nil {
		return gate.Subject{}, err
	}
	if len(body.Open) == 0 || len(body.Open) > maxOpen {
		return gate.Subject{}, refusal.New(refusal.BadMessage, "the OPEN message has 1 to %d bytes", maxOpen)
	}
	req, kid, err := statement.Open[wire.Request](body.Request, c.State.Roster.FindOperator(c.Now))
	if err != nil {
		return gate.Subject{}, err
	}
	if kid != c.Who.Operator || req.Operator != kid || req.Team != c.Who.Team.Wire() {
		return gate.Subject{}, refusal.New(refusal.NotYours, "the request was signed by another key or for another team")
	}
	c.Session = &gate.Session{Request: req, Hash: body.Request.Hash(), Signed: body.Request, Open: body.Open}
	return gate.Subject{Session: req.Session, Agent: req.Agent, Request: c.Session.Hash}, nil
}

// outcome is what became of a session request in its transaction.
type outcome struct {
	decision  policy.Decision
	agent     store.Agent
	cert      roster.AgentCert
	approvals []statement.Signed
	uses      []approval.Use
	waits     *store.Request // not nil: it needs (more) approvals
	isNew     bool           // waits was stored just now
}

// Open decides, records, and asks the agent. The agent decides again.
func (d *Desk) Open(c *gate.Call) (any, error) {
	leave, err := d.mayOpenNow(c)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := d.checkRequest(c); err != nil {
		return nil, err
	}
	out, err := d.decide(c)
	if err != nil {
		return nil, err
	}
	if out.waits != nil {
		info := out.waits.Info()
		return gate.Accepted{Reply: wire.SessionReply{Pending: &info}}, nil
	}
	return d.introduce(c, out)
}

// mayOpenNow takes what a session costs its operator. Pings are counted by
// themselves and more narrowly: they need nobody's approval and little right, and
// each costs an agent a process and a relay a place, so a script that pings must
// neither fill those nor keep its operator from sessions.
func (d *Desk) mayOpenNow(c *gate.Call) (leave func(), err error) {
	operator := c.Who.Operator
	if c.Session.Request.Action != wire.Ping {
		if !d.Leases.Sessions.Allow(operator, c.Now) {
			return nil, refusal.New(refusal.RateLimited, "too many sessions opened with this key; wait a moment")
		}
		return func() {}, nil
	}
	leave, ok := d.Pinging.Enter(operator)
	if !ok {
		return nil, refusal.New(refusal.TooMany, "%d pings of this key wait for an answer; let one end first", MaxPinging)
	}
	if !d.Pings.Allow(operator, c.Now) {
		leave()
		return nil, refusal.New(refusal.RateLimited, "too many pings with this key; wait a moment")
	}
	return leave, nil
}
