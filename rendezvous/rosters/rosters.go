// Package rosters takes the next version of a team's roster, and the enrolment tokens
// made under it, and shows both to the team.
//
// The owners' signatures are all that counts; who uploads a version does not matter.
// Agents hear of it, and sessions that it takes away end, when the team's new state is
// loaded, which is the same way for a version that another process stored.
package rosters

import (
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/identity"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// Desk publishes and shows rosters and tokens. Its fields are set before the first
// call and not changed; all are required. All methods are safe for concurrent use.
type Desk struct {
	Store  *store.Store
	Teams  *team.Teams
	Keys   *identity.Keys
	Offers *rate.Limiter[Visit] // rosters without a login
}

// News are the versions after the one that the query names.
func (d *Desk) News(c *gate.Call) (any, error) {
	from, err := c.NumberOf("from")
	if err != nil {
		return nil, err
	}
	news, _ := c.State.News(from)
	return news, nil
}

// Publish takes the next version if the owners signed it; who uploads it
// does not matter.
func (d *Desk) Publish(c *gate.Call) (any, error) {
	var req wire.RosterPublish
	if err := strict.Decode(c.Body, &req); err != nil {
		return nil, err
	}
	state, err := c.State.Roster.Apply(req.Update, c.Now)
	if err != nil {
		return nil, err
	}
	return nil, d.publish(c, req, state)
}

// publish stores a version that was verified, unless it is the one in force, and
// tells everybody.
func (d *Desk) publish(c *gate.Call, req wire.RosterPublish, state *roster.State) error {
	if state.Version() == c.State.Roster.Version() {
		return nil // the same once more
	}
	text := []byte(req.Policy)
	if len(text) == 0 && state.PolicyHash() == c.State.Roster.PolicyHash() {
		text = c.State.Text
	}
	next, err := chain.With(d.Keys.Access.ID(), state, c.State.Name, text)
	if err != nil {
		return err
	}
	if next.Name != c.State.Name {
		return refusal.New(refusal.BadName, "the roster renames this server, %q: its log is checked against that name", c.State.Name)
	}
	if err := d.storeRoster(c, next, req.Update); err != nil {
		return err
	}
	_, err = d.Teams.Refresh(c.HTTP.Context(), c.Team) // verified as any node would, announced to agents
	return err
}

func (d *Desk) storeRoster(c *gate.Call, next chain.State, u wire.RosterUpdate) error {
	return d.Store.InTx(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		err := tx.AppendRoster(next.Roster.Version()-1, u, next.Roster.PolicyHash(), append([]byte{}, next.Text...), c.Now)
		if err != nil {
			return err
		}
		e := c.Entry(entry.RosterPublish)
		e.Policy.Hash = next.Roster.PolicyHash()
		return c.Team.Log.Record(tx, next, e)
	})
}

// Tokens lists the tokens of the team.
func (d *Desk) Tokens(c *gate.Call) (any, error) {
	list := wire.TokenList{Tokens: []wire.TokenInfo{}}
	err := d.Store.View(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) (err error) {
		found, err := tx.Tokens()
		list.Tokens = append(list.Tokens, found...)
		return err
	})
	return list, err
}

// PublishToken makes a token known that an owner or enroller has signed.
func (d *Desk) PublishToken(c *gate.Call) (any, error) {
	var req wire.TokenPublish
	if err := strict.Decode(c.Body, &req); err != nil {
		return nil, err
	}
	token, err := c.State.Roster.VerifyToken(req.Token, c.Now)
	if err != nil {
		return nil, err
	}
	return nil, d.Store.InTx(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		err := tx.PublishToken(store.Token{ID: token.ID, Statement: req.Token, MaxUses: token.MaxUses, ExpiresAt: token.ExpiresAt}, c.Now)
		if err != nil {
			return err
		}
		return c.Team.Log.Record(tx, c.State, c.Entry(entry.TokenPublish))
	})
}
