package sessions

import (
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// Ended answers an operator to whose session no way leads any more: a session
// process that was killed, or a machine that lost its power, could not say goodbye.
// The word is the agent's, signed for its log, so this server can withhold it and
// not make it up. To others than its operator it is as if there were no such session.
func (d *Desk) Ended(c *gate.Call) (any, error) {
	var session wire.SessionID
	if session.UnmarshalText([]byte(c.Vars["session"])) != nil {
		return nil, team.NotFound()
	}
	agent, err := key.ParseID(c.Query.Get("agent"))
	if err != nil {
		return nil, refusal.New(refusal.BadRequest, "agent: want a key id")
	}
	var ended wire.SessionEnded
	err = d.Store.View(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) (err error) {
		if _, err := tx.Agent(agent); err != nil {
			return err
		}
		ended.Entry, err = tx.Ended(agent, session, c.Who.Operator)
		return err
	})
	return ended, err
}
