package rendezvous

import (
	"strconv"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/live"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

const (
	pageAgents   = 200 // agents in one answer; our choice
	pageRequests = 200 // requests in one answer; our choice

	// maxRequestList bounds the statements of one such answer, in bytes: well below
	// what a client reads. maxOpenRequests are those of one operator that wait at
	// once, so that nobody fills the list. Our choice.
	maxRequestList  = 8 << 20
	maxOpenRequests = 20
)

// numberOf reads a parameter that is "" or a number in its one spelling.
func (c *call) numberOf(name string) (uint64, error) {
	text := c.query.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || strconv.FormatUint(n, 10) != text {
		return 0, refusal.New(refusal.BadCursor, "%s: want a number", name)
	}
	return n, nil
}

func (s *Server) rosterNews(c *call) (any, error) {
	from, err := c.numberOf("from")
	if err != nil {
		return nil, err
	}
	news, _ := c.state.News(from)
	return news, nil
}

// publishRoster takes the next version if the owners signed it; who uploads it
// does not matter.
func (s *Server) publishRoster(c *call) (any, error) {
	var req wire.RosterPublish
	if err := strict.Decode(c.body, &req); err != nil {
		return nil, err
	}
	state, err := c.state.Roster.Apply(req.Update, c.now)
	if err != nil {
		return nil, err
	}
	return nil, s.publish(c, req, state)
}

// publish stores a version that was verified, unless it is the one in force, and
// tells everybody.
func (s *Server) publish(c *call, req wire.RosterPublish, state *roster.State) error {
	if state.Version() == c.state.Roster.Version() {
		return nil // the same once more
	}
	text := []byte(req.Policy)
	if len(text) == 0 && state.PolicyHash() == c.state.Roster.PolicyHash() {
		text = c.state.Text
	}
	next, err := chain.With(s.keys.Access.ID(), state, c.state.Name, text)
	if err != nil {
		return err
	}
	if next.Name != c.state.Name {
		return refusal.New(refusal.BadName, "the roster renames this server, %q: its log is checked against that name", c.state.Name)
	}
	if err := s.storeRoster(c, next, req.Update); err != nil {
		return err
	}
	_, err = s.teams.Refresh(c.http.Context(), c.team) // verified as any node would, announced to agents
	return err
}

func (s *Server) storeRoster(c *call, next chain.State, u wire.RosterUpdate) error {
	return s.store.InTx(c.http.Context(), c.team.ID, func(tx *store.Tx) error {
		err := tx.AppendRoster(next.Roster.Version()-1, u, next.Roster.PolicyHash(), append([]byte{}, next.Text...), c.now)
		if err != nil {
			return err
		}
		return s.recordRoster(tx, c, next)
	})
}

func (s *Server) tokens(c *call) (any, error) {
	list := wire.TokenList{Tokens: []wire.TokenInfo{}}
	err := s.store.View(c.http.Context(), c.team.ID, func(tx *store.Tx) (err error) {
		found, err := tx.Tokens()
		list.Tokens = append(list.Tokens, found...)
		return err
	})
	return list, err
}

func (s *Server) publishToken(c *call) (any, error) {
	var req wire.TokenPublish
	if err := strict.Decode(c.body, &req); err != nil {
		return nil, err
	}
	token, err := c.state.Roster.VerifyToken(req.Token, c.now)
	if err != nil {
		return nil, err
	}
	return nil, s.store.InTx(c.http.Context(), c.team.ID, func(tx *store.Tx) error {
		err := tx.PublishToken(store.Token{ID: token.ID, Statement: req.Token, MaxUses: token.MaxUses, ExpiresAt: token.ExpiresAt}, c.now)
		if err != nil {
			return err
		}
		return s.recordToken(tx, c, token)
	})
}

func (s *Server) agents(c *call) (any, error) {
	list := wire.AgentList{Agents: []wire.AgentInfo{}}
	err := s.store.View(c.http.Context(), c.team.ID, func(tx *store.Tx) error {
		found, next, err := tx.Agents(c.query.Get("after"), pageAgents)
		for _, a := range found {
			list.Agents = append(list.Agents, a.Info(s.bus.Online(c.team.ID, a.Kid)))
		}
		list.Next = next
		return err
	})
	return list, err
}

func (s *Server) agentSubject(c *call) (subject, error) {
	id, err := c.hashVar("agent")
	return subject{agent: id}, err
}

func (s *Server) deleteAgent(c *call) (any, error) {
	id, err := c.hashVar("agent")
	if err != nil {
		return nil, err
	}
	err = s.store.InTx(c.http.Context(), c.team.ID, func(tx *store.Tx) error {
		a, err := tx.Agent(id)
		if err != nil {
			return err
		}
		if err := tx.DeleteAgent(id, c.now); err != nil {
			return err
		}
		return s.recordDelete(tx, c, a)
	})
	if err != nil {
		return nil, err
	}
	s.teams.Cut(c.team, c.now, func(l live.Session) refusal.Code {
		if l.Agent == id {
			return refusal.KeyRevoked
		}
		return ""
	})
	s.endChannel(c.team.ID, id, refusal.New(refusal.KeyRevoked, "this agent was deleted"))
	return nil, nil
}

// endChannel ends an agent's channel on this node with a last word to it. A
// channel that is on its way to the bus finds out by itself, see registered.
func (s *Server) endChannel(of principal.TeamID, agent key.ID, why error) {
	s.bus.Each(of, func(id key.ID, held bus.Conn) {
		if conn, ok := held.(*conn); ok && id == agent {
			conn.End(why)
		}
	})
}

// certOf verifies what is stored about an agent by the roster of now.
func certOf(state *roster.State, a store.Agent, c *call) (roster.AgentCert, error) {
	if a.DeletedAt != 0 {
		return roster.AgentCert{}, team.NotFound()
	}
	return state.VerifyAgent(a.Token, a.Certificate, c.now)
}
