package agents

import (
	"context"
	"time"

	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// renew answers an agent that asks for one of its sessions. A refusal is an
// answer, not the end of the channel: the roster may just have changed.
func (c *Conn) renew(f wire.Frame) error {
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
		c.desk.Metrics.Count("refused_" + string(code))
		c.desk.Log.Info("a relay credential was not renewed", "agent", c.agent.String(), "err", err)
		c.Send(wire.FrameRefuse, f.ID, wire.Refuse{Code: code, Detail: "the relay credential is not renewed"})
		return nil
	}
	c.Send(wire.FrameRelayed, f.ID, renewed)
	return nil
}

func (c *Conn) renewal(signed statement.Signed) (wire.RelayRenewed, error) {
	t, err := c.desk.Leases.OpenTicket(signed)
	if err != nil {
		return wire.RelayRenewed{}, err
	}
	if t.Team != c.team.ID.Wire() || t.Agent != c.agent {
		return wire.RelayRenewed{}, team.NotFound()
	}
	ctx, cancel := context.WithTimeout(c.Context(), bus.AnswerWithin)
	defer cancel()
	state, err := c.desk.Teams.Refresh(ctx, c.team)
	if err != nil {
		return wire.RelayRenewed{}, err
	}
	return c.desk.Leases.Renewal(ctx, t, signed, credential.Agent, state, time.Now())
}
