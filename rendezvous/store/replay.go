package store

import (
	"context"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// MaxPrincipal caps the name under which ids are kept, in bytes; our choice.
const MaxPrincipal = 128

// UseOnce spends an id: the first caller on any node gets nil, every other one
// replay, also after a restart (attacks D2, D8). expires is when the statement
// that carries the id ends, plus the clock difference its checker allows; the id
// is kept at least until then. It is no part of a Tx on purpose: an id stays
// spent when what it was spent on is refused.
func (s *Store) UseOnce(ctx context.Context, principal string, id wire.Nonce, expires time.Time) error {
	if principal == "" || len(principal) > MaxPrincipal {
		return refusal.New(refusal.BadRequest, "id without an owner")
	}
	var floor int64
	err := s.write.QueryRowContext(ctx, insertReplay, principal, id[:], millis(expires)).Scan(&floor)
	switch {
	case errNoRows(err):
		return refusal.New(refusal.Replay, "this statement was used before")
	case err != nil:
		return fault("spending an id", err)
	case millis(expires) <= floor:
		return refusal.New(refusal.Replay, "this statement may have been used before")
	}
	return nil
}

// pruneMargin keeps ids for longer than they are valid, so that a clock that is
// set back a little reopens nothing; our choice.
const pruneMargin = time.Hour

// Prune forgets ids and setup codes that ended long before now. Before an id is
// forgotten the floor is raised to its expiry, and UseOnce refuses whatever ends
// at or below the floor: a clock that runs ahead and is set back refuses for a
// while, it never accepts twice (attack K18).
func (s *Store) Prune(ctx context.Context, now time.Time) error {
	before := millis(now.Add(-pruneMargin))
	if _, err := s.write.ExecContext(ctx, raiseFloor, before); err != nil {
		return fault("raising the replay floor", err)
	}
	if _, err := s.write.ExecContext(ctx, pruneReplay); err != nil {
		return fault("forgetting old ids", err)
	}
	_, err := s.write.ExecContext(ctx, pruneSetupCodes, before)
	return fault("forgetting old setup codes", err)
}

// CreateSetupCode opens setup for whoever knows the code; only its hash is
// stored. FoundTeam spends it.
func (s *Store) CreateSetupCode(ctx context.Context, hash key.Hash, expires time.Time) error {
	_, err := s.write.ExecContext(ctx, insertSetupCode, hash[:], millis(expires))
	return fault("storing a setup code", err)
}
