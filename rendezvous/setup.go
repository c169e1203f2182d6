package rendezvous

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/identity"
	"github.com/tucdesk/tucdesk/rendezvous/logbook"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
)

const (
	// CodeLifetime is how long a setup string may wait for its owner; our choice.
	CodeLifetime = 24 * time.Hour

	codeSize    = 32 // bytes
	maxFounding = 64 // versions that a team may bring along; our choice
)

// SetupString opens one more set-up and returns what the team's owner needs for
// it: name, address, keys and a one-time code. Only the code's hash is kept.
func (s *Server) SetupString(ctx context.Context) (string, error) {
	return openSetup(ctx, s.store, s.cfg, s.keys)
}

// SetupString is Server.SetupString for a server that runs in another process, or
// not at all: it uses the state on the disk.
func SetupString(ctx context.Context, cfg Config) (text string, err error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Check(); err != nil {
		return "", err
	}
	k, err := identity.Load(cfg.State)
	if err != nil {
		return "", err
	}
	db, err := store.Open(ctx, cfg.Database)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return openSetup(ctx, db, cfg, k)
}

func openSetup(ctx context.Context, db *store.Store, cfg Config, k *identity.Keys) (string, error) {
	code := make(wire.Bytes, codeSize)
	rand.Read(code) // never fails: crypto/rand ends the process instead
	defer clear(code)
	if err := db.CreateSetupCode(ctx, roster.SetupCodeHash(code), time.Now().Add(CodeLifetime)); err != nil {
		return "", err
	}
	return roster.SetupString(roster.SetupInfo{Name: cfg.Name, URL: cfg.URL, Keys: k.Public(), Code: code})
}

// Founded reports whether this server has a team yet.
func (s *Server) Founded(ctx context.Context) (bool, error) {
	teams, err := s.store.Teams(ctx)
	return len(teams) > 0, err
}

// setup founds a team for the owner who signed the setup statement and knows the
// code. Once the code is used the answer is that of a path that does not exist
// (attack G12).
func (s *Server) setup(c *gate.Call) (any, error) {
	var req wire.SetupRequest
	if err := strict.Decode(c.Body, &req); err != nil {
		return nil, err
	}
	next, err := s.verifyFounding(req, c.Now)
	if err != nil {
		return nil, problem.With(http.StatusForbidden, err)
	}
	founding := store.Founding{
		Code: roster.SetupCodeHash(req.Code), Team: next.Roster.Team(), Root: req.Root, Setup: req.Setup,
		Updates: req.Roster, PolicyHash: next.Roster.PolicyHash(), Policy: append([]byte{}, req.Policy...),
	}
	id, err := s.store.FoundTeam(c.HTTP.Context(), founding, c.Now, func(tx *store.Tx) error {
		return logbook.Record(tx, s.keys.Audit, next, entry.Entry{Type: entry.TeamFound, Time: wire.At(c.Now)})
	})
	if err != nil {
		return nil, err
	}
	s.teams.Found(id, next)
	s.log.Info("a team was founded", "team", id.String(), "request", c.ID)
	return nil, nil
}

// verifyFounding checks everything about a new team except the code's use.
func (s *Server) verifyFounding(req wire.SetupRequest, now time.Time) (chain.State, error) {
	if len(req.Roster) == 0 || len(req.Roster) > maxFounding {
		return chain.State{}, refusal.New(refusal.BadRequest, "a set-up brings 1 to %d versions of the roster", maxFounding)
	}
	state, err := roster.Found(req.Root, req.Root.Hash(), req.Roster[0])
	for _, u := range req.Roster[1:] {
		if err == nil {
			state, err = state.Apply(u, now)
		}
	}
	if err != nil {
		return chain.State{}, err
	}
	if _, err := state.VerifySetup(req.Setup, s.keys.Access.ID(), req.Code, now); err != nil {
		return chain.State{}, err
	}
	if err := s.listedIn(state); err != nil {
		return chain.State{}, err
	}
	return chain.With(s.keys.Access.ID(), state, "", req.Policy)
}

// listedIn makes sure that the roster lists this server with the keys that it has,
// since agents would refuse every grant of another, and under its name, which is a part
// of the log's origin and cannot be changed once there is a log.
func (s *Server) listedIn(state *roster.State) error {
	have, err := state.Server(s.keys.Access.ID())
	if err != nil {
		return refusal.New(refusal.UnknownKey, "the roster does not name this server")
	}
	if have.Keys != s.keys.Public() {
		return refusal.New(refusal.UnknownKey, "the roster names this server with other keys than it has")
	}
	if have.Name != s.cfg.Name {
		return refusal.New(refusal.BadName, "the roster names this server %q, its name is %q", have.Name, s.cfg.Name)
	}
	return nil
}
