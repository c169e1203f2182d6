package sessions

import (
	"context"
	"net/http"
	"time"

	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/channel"
	"github.com/tucdesk/tucdesk/rendezvous/client"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/live"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
)

// introduce mints the grant and relay credentials, puts the request to the agent
// and passes on what it says.
func (d *Desk) introduce(c *gate.Call, out outcome) (any, error) {
	g, err := d.grant(c, out)
	if err != nil {
		return nil, err
	}
	body, err := channel.Body(wire.OpenSession{Request: c.Session.Signed, Open: c.Session.Open, Grant: g.grant, Approvals: out.approvals, Lease: g.lease})
	if err != nil {
		return nil, err
	}
	isNew := d.begin(c, g)
	ctx, cancel := context.WithTimeout(c.HTTP.Context(), bus.AnswerWithin)
	defer cancel()
	answer, err := d.Bus.Ask(ctx, c.Team.ID, c.Session.Request.Agent, wire.Frame{Type: wire.FrameOpen, Body: body})
	var accept wire.Bytes
	var need *wire.ApprovalNeed
	if err == nil {
		accept, need, err = ReadAnswer(answer)
	}
	if err == nil {
		err = d.begun(c)
	}
	if err != nil {
		if isNew { // else it is the entry of a session that stands
			c.Team.Live.Drop(c.Session.Request.Session)
		}
		d.recordAgentRefusal(c, out, err)
		if need != nil {
			return d.waitAfterAll(c, out, *need, err)
		}
		return nil, err
	}
	return wire.SessionReply{Accept: accept, Grant: g.grant.Hash(), Relay: g.operator, Lease: g.lease}, nil
}

// granted is what the two ends of a session get: the agent its credential in the
// grant, the operator its own.
type granted struct {
	grant    statement.Signed
	operator wire.Relay
	lease    wire.Lease // of both credentials
}

func (d *Desk) grant(c *gate.Call, out outcome) (g granted, err error) {
	if len(d.Leases.Endpoints) == 0 {
		return g, refusal.New(refusal.RelayFailed, "this server has no relay configured")
	}
	now := time.Now()
	req := c.Session.Request
	t := wire.RelayTicket{
		IssuedAt: wire.At(now), Team: c.Who.Team.Wire(), Session: req.Session, RequestHash: c.Session.Hash,
		Operator: req.Operator, Agent: req.Agent, Pair: wire.NewNonce(),
	}
	limit := out.decision.Limits.Session
	if req.Action == wire.Ping && (limit == 0 || limit > PingLife) {
		limit = PingLife
	}
	if limit > 0 {
		t.EndsAt = wire.At(now.Add(limit))
	}
	ticket, err := d.Leases.SignTicket(t)
	if err != nil {
		return g, err
	}
	agent, _ := d.Leases.Credential(t, ticket, credential.Agent, now)
	g.operator, g.lease = d.Leases.Credential(t, ticket, credential.Operator, now)
	g.grant, err = statement.Sign(d.Keys.Grant, wire.Grant{
		ID: wire.NewNonce(), IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(wire.GrantLifetime)),
		Team: t.Team, RequestHash: t.RequestHash, Agent: t.Agent,
		Rule: out.decision.Rule, PolicyHash: out.decision.PolicyHash, Relay: agent,
	})
	return g, err
}

// ReadAnswer takes an agent's accept, or its refusal as the error: code and
// detail are the agent's, made harmless. need is not nil where nothing but
// approvals is missing.
func ReadAnswer(f wire.Frame) (accept wire.Bytes, need *wire.ApprovalNeed, err error) {
	switch f.Type {
	case wire.FrameAccept:
		var a wire.AcceptSession
		if err := strict.Decode(f.Body, &a); err != nil || len(a.Accept) == 0 {
			return nil, nil, refusal.New(refusal.ProtocolError, "the agent's answer cannot be read")
		}
		return a.Accept, nil, nil
	case wire.FrameRefuse:
		var r wire.Refuse
		if err := strict.Decode(f.Body, &r); err != nil || !r.Code.Valid() {
			return nil, nil, refusal.New(refusal.ProtocolError, "the agent's refusal cannot be read")
		}
		if r.Code != refusal.ApprovalRequired && r.Code != refusal.NotEnoughApprovers {
			r.Need = nil
		}
		return nil, r.Need, &gate.ByAgent{Err: problem.With(http.StatusForbidden, &refusal.Error{Code: r.Code, Detail: client.Harmless("the agent refused: "+r.Detail, maxDetail)})}
	}
	return nil, nil, refusal.New(refusal.ProtocolError, "the agent answered with a frame of another kind")
}

// begin remembers a session before its agent is asked, so that whatever takes the
// right away meanwhile finds it. It reports whether the session is new.
func (d *Desk) begin(c *gate.Call, g granted) (isNew bool) {
	req := c.Session.Request
	return c.Team.Live.Put(live.Session{ID: req.Session, Operator: req.Operator, Agent: req.Agent}, g.operator.ExpiresAt.Time(), time.Now())
}

// begun looks at a session that its agent has accepted. A cut that overtook the
// acceptance found nothing to end there, so it is sent again.
func (d *Desk) begun(c *gate.Call) error {
	req := c.Session.Request
	code := c.Team.Live.Ended(req.Session)
	if code == "" {
		return nil
	}
	d.Teams.Recut(c.Team, req.Agent, req.Session, code)
	return problem.With(http.StatusForbidden, refusal.New(code, "the right to this session was taken away while it began"))
}
