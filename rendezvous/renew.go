package rendezvous

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
	t, err := c.s.leases.OpenTicket(signed)
	if err != nil {
		return wire.RelayRenewed{}, err
	}
	if t.Team != c.team.ID.Wire() || t.Agent != c.agent {
		return wire.RelayRenewed{}, team.NotFound()
	}
	ctx, cancel := context.WithTimeout(c.Context(), bus.AnswerWithin)
	defer cancel()
	state, err := c.s.teams.Refresh(ctx, c.team)
	if err != nil {
		return wire.RelayRenewed{}, err
	}
	return c.s.leases.Renewal(ctx, t, signed, credential.Agent, state, time.Now())
}
