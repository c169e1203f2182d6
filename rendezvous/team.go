package rendezvous

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
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
	have    atomic.Pointer[snapshot]
	grew    atomic.Bool  // the log has entries that no checkpoint of ours covers
	sealing sync.Mutex   // serialises checkpoints; held across the database on purpose, the next one has to wait for it
	due     atomic.Int64 // when the next waiting request expires, in ms; 0: none waits

	cosigned cosigners
	live     live.Table
}

// snapshot is a roster and the policy it binds. It never changes.
type snapshot struct {
	roster *roster.State
	name   string        // of this server in the roster, the first part of the log's origin
	rules  *policy.Rules // nil: the roster binds no policy, so nothing is allowed
	text   []byte        // of the policy
}

// mayOpen reports why no new session may begin, the policy's grace considered.
func (s snapshot) mayOpen(now time.Time) error {
	err := s.roster.Check(now)
	if refusal.Of(err) == refusal.RosterExpired && s.rules != nil && now.Before(s.roster.ExpiresAt().Add(s.rules.RosterGrace())) {
		return nil
	}
	return err
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
func (s *Server) refresh(ctx context.Context, t *team) (snapshot, error) {
	var record store.Team
	err := s.store.View(ctx, t.id, func(tx *store.Tx) (err error) {
		record, err = tx.Record()
		return err
	})
	if err != nil {
		return snapshot{}, err
	}
	if have := t.have.Load(); have != nil && have.roster.Version() >= record.RosterVersion {
		return *have, nil
	}
	return s.reload(ctx, t, record)
}

func (s *Server) reload(ctx context.Context, t *team, record store.Team) (snapshot, error) {
	t.load.Lock()
	defer t.load.Unlock()
	have := t.have.Load()
	if have != nil && have.roster.Version() >= record.RosterVersion {
		return *have, nil
	}
	var next snapshot
	err := s.store.View(ctx, t.id, func(tx *store.Tx) error {
		var err error
		if next.roster, next.name, err = s.follow(tx, have, record); err != nil {
			return err
		}
		if next.roster.PolicyHash().IsZero() {
			return nil
		}
		next.text, err = tx.Policy(next.roster.PolicyHash())
		return err
	})
	if err != nil {
		return snapshot{}, err
	}
	if next.text != nil {
		if next.rules, err = parsePolicy(next.text, next.roster.PolicyHash()); err != nil {
			return snapshot{}, err
		}
	}
	t.have.Store(&next)
	s.announce(t, next)
	return next, nil
}

// follow applies what is stored after have. A stored chain that does not verify
// is damage, not a decision: nobody is served by it.
func (s *Server) follow(tx *store.Tx, have *snapshot, record store.Team) (state *roster.State, name string, err error) {
	from := uint64(0)
	if have != nil {
		state, name, from = have.roster, have.name, have.roster.Version()
	}
	updates, err := tx.RosterUpdates(from)
	if err != nil {
		return nil, "", err
	}
	for _, u := range updates {
		if state == nil {
			state, err = roster.Found(record.Root, record.Fingerprint, u)
		} else {
			state, err = state.Apply(u, time.Now())
		}
		if err != nil {
			return nil, "", fmt.Errorf("the stored roster of team %s does not verify: %v", record.ID, err)
		}
		name = s.nameIn(state, name)
	}
	if state == nil {
		return nil, "", fmt.Errorf("team %s has no stored roster", record.ID)
	}
	return state, name, nil
}

// nameIn returns our name in a roster, or before if it does not list us any more:
// the log keeps its origin.
func (s *Server) nameIn(state *roster.State, before string) string {
	if server, err := state.Server(s.keys.Access.ID()); err == nil {
		return server.Name
	}
	return before
}

// parsePolicy takes a policy text only if the roster means exactly it.
func parsePolicy(text []byte, want key.Hash) (*policy.Rules, error) {
	rules, err := policy.Parse(text)
	if err != nil {
		return nil, refusal.New(refusal.BadRequest, "the policy cannot be loaded: %v", err)
	}
	if rules.Hash() != want {
		return nil, refusal.New(refusal.PolicyMismatch, "the policy text is not the one that the roster names")
	}
	return rules, nil
}

// maxNews is how many bytes of statements and policy one answer or message
// carries, before base64; more are asked for again, or follow. It fits the largest
// single roster (protocol 4.1) with its policy, and in base64 stays below
// wire.MaxNews and what a client reads.
const maxNews = wire.MaxBody

// news returns what someone who has version from needs next: as many updates as
// fit, and the policy with the last of them. done says that nothing is left.
func (s snapshot) news(from uint64) (n wire.RosterNews, done bool) {
	size := 0
	if from == 0 {
		n.Root = s.roster.Root()
		size = len(n.Root)
	}
	updates := s.roster.After(from)
	for i, u := range updates {
		size += len(u.Statement)
		for _, c := range u.Cosignatures {
			size += len(c.Kid) + len(c.Sig)
		}
		if i == len(updates)-1 {
			size += len(s.text)
		}
		if i > 0 && size > maxNews {
			break
		}
		n.Updates = append(n.Updates, u)
	}
	if len(n.Updates) == len(updates) {
		n.Policy, done = s.text, true
	}
	return n, done
}

// announce cuts the sessions that a new roster takes away, sends it to every
// connected agent of the team, and ends the channels of agents that it revokes.
func (s *Server) announce(t *team, next snapshot) {
	s.cutLost(t, next) // first: a roster may be long, and a cut is one line
	s.bus.Each(t.id, func(_ key.ID, c bus.Conn) {
		if conn, ok := c.(*conn); ok {
			conn.follow(next)
		}
	})
}
