package rendezvous

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/live"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

// team is one team as this process knows it. The database is the truth; the
// verified chain is kept because verifying it again for every call would cost
// more than the call.
type team struct {
	id      principal.TeamID
	load    sync.Mutex // serialises loading; held across the database on purpose, one loader is enough
	have    atomic.Pointer[chain.State]
	grew    atomic.Bool  // the log has entries that no checkpoint of ours covers
	sealing sync.Mutex   // serialises checkpoints; held across the database on purpose, the next one has to wait for it
	due     atomic.Int64 // when the next waiting request expires, in ms; 0: none waits

	cosigned cosigners
	live     live.Table
}

// teamOf finds a team that was named by a verified token, or by a statement that
// is about to be verified with that team's keys. A team that this process does not
// know is looked up for every caller: another node may have founded it a moment ago,
// and an agent that joins believes "not found" and gives its key up. So nothing here
// may be an answer to an earlier question. A made-up id costs one look by primary
// key, which is less than what any known team's caller costs.
func (s *Server) teamOf(ctx context.Context, id wire.TeamID) (*team, error) {
	if t := s.known(id); t != nil {
		return t, nil
	}
	found, err := s.store.FindTeam(ctx, id)
	if refusal.Of(err) == refusal.NotFound {
		return nil, errNotFound()
	}
	if err != nil {
		return nil, err
	}
	return s.adopt(found.ID), nil
}

func (s *Server) known(id wire.TeamID) *team {
	s.teamsMu.RLock()
	defer s.teamsMu.RUnlock()
	return s.teams[id]
}

// listTeams takes up all teams, when the server starts.
func (s *Server) listTeams(ctx context.Context) error {
	all, err := s.store.Teams(ctx)
	for _, t := range all {
		s.adopt(t.ID)
	}
	return err
}

func (s *Server) adopt(id principal.TeamID) *team {
	s.teamsMu.Lock()
	defer s.teamsMu.Unlock()
	if t := s.teams[id.Wire()]; t != nil {
		return t
	}
	t := &team{id: id}
	t.due.Store(1) // unknown: the first sweep looks
	t.grew.Store(true)
	s.teams[id.Wire()] = t
	return t
}

func (s *Server) allTeams() []*team {
	s.teamsMu.RLock()
	defer s.teamsMu.RUnlock()
	list := make([]*team, 0, len(s.teams))
	for _, t := range s.teams {
		list = append(list, t)
	}
	return list
}

// refresh returns the newest roster of t. Usually that is one query for a number;
// when another node stored more, the new versions are verified like any.
func (s *Server) refresh(ctx context.Context, t *team) (chain.State, error) {
	var record store.Team
	err := s.store.View(ctx, t.id, func(tx *store.Tx) (err error) {
		record, err = tx.Record()
		return err
	})
	if err != nil {
		return chain.State{}, err
	}
	if have := t.have.Load(); have != nil && have.Roster.Version() >= record.RosterVersion {
		return *have, nil
	}
	return s.reload(ctx, t, record)
}

func (s *Server) reload(ctx context.Context, t *team, record store.Team) (chain.State, error) {
	t.load.Lock()
	defer t.load.Unlock()
	have := t.have.Load()
	if have != nil && have.Roster.Version() >= record.RosterVersion {
		return *have, nil
	}
	var next chain.State
	err := s.store.View(ctx, t.id, func(tx *store.Tx) (err error) {
		next, err = chain.Load(tx, s.keys.Access.ID(), record, have)
		return err
	})
	if err != nil {
		return chain.State{}, err
	}
	t.have.Store(&next)
	s.announce(t, next)
	return next, nil
}

// announce cuts the sessions that a new roster takes away, sends it to every
// connected agent of the team, and ends the channels of agents that it revokes.
func (s *Server) announce(t *team, next chain.State) {
	s.cutLost(t, next) // first: a roster may be long, and a cut is one line
	s.bus.Each(t.id, func(_ key.ID, c bus.Conn) {
		if conn, ok := c.(*conn); ok {
			conn.follow(next)
		}
	})
}
