package rendezvous

import (
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
)

func (s *Server) rosterNews(c *gate.Call) (any, error) {
	from, err := c.NumberOf("from")
	if err != nil {
		return nil, err
	}
	news, _ := c.State.News(from)
	return news, nil
}

// publishRoster takes the next version if the owners signed it; who uploads it
// does not matter.
func (s *Server) publishRoster(c *gate.Call) (any, error) {
	var req wire.RosterPublish
	if err := strict.Decode(c.Body, &req); err != nil {
		return nil, err
	}
	state, err := c.State.Roster.Apply(req.Update, c.Now)
	if err != nil {
		return nil, err
	}
	return nil, s.publish(c, req, state)
}

// publish stores a version that was verified, unless it is the one in force, and
// tells everybody.
func (s *Server) publish(c *gate.Call, req wire.RosterPublish, state *roster.State) error {
	if state.Version() == c.State.Roster.Version() {
		return nil // the same once more
	}
	text := []byte(req.Policy)
	if len(text) == 0 && state.PolicyHash() == c.State.Roster.PolicyHash() {
		text = c.State.Text
	}
	next, err := chain.With(s.keys.Access.ID(), state, c.State.Name, text)
	if err != nil {
		return err
	}
	if next.Name != c.State.Name {
		return refusal.New(refusal.BadName, "the roster renames this server, %q: its log is checked against that name", c.State.Name)
	}
	if err := s.storeRoster(c, next, req.Update); err != nil {
		return err
	}
	_, err = s.teams.Refresh(c.HTTP.Context(), c.Team) // verified as any node would, announced to agents
	return err
}

func (s *Server) storeRoster(c *gate.Call, next chain.State, u wire.RosterUpdate) error {
	return s.store.InTx(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		err := tx.AppendRoster(next.Roster.Version()-1, u, next.Roster.PolicyHash(), append([]byte{}, next.Text...), c.Now)
		if err != nil {
			return err
		}
		return s.recordRoster(tx, c, next)
	})
}

func (s *Server) tokens(c *gate.Call) (any, error) {
	list := wire.TokenList{Tokens: []wire.TokenInfo{}}
	err := s.store.View(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) (err error) {
		found, err := tx.Tokens()
		list.Tokens = append(list.Tokens, found...)
		return err
	})
	return list, err
}

func (s *Server) publishToken(c *gate.Call) (any, error) {
	var req wire.TokenPublish
	if err := strict.Decode(c.Body, &req); err != nil {
		return nil, err
	}
	token, err := c.State.Roster.VerifyToken(req.Token, c.Now)
	if err != nil {
		return nil, err
	}
	return nil, s.store.InTx(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		err := tx.PublishToken(store.Token{ID: token.ID, Statement: req.Token, MaxUses: token.MaxUses, ExpiresAt: token.ExpiresAt}, c.Now)
		if err != nil {
			return err
		}
		return s.recordToken(tx, c, token)
	})
}
