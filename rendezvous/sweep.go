package rendezvous

import (
	"context"
	"time"

	"github.com/tucdesk/tucdesk/rendezvous/store"
)

const (
	sweepEvery = time.Second      // between two looks for what is due
	pruneEvery = 10 * time.Minute // between two times that what expired, was settled or has ended is forgotten; our choice
)

// sweepUntilClosed runs the sweep as part of what Close waits for, because it uses
// the database that Close takes away.
func (s *Server) sweepUntilClosed() error {
	end, err := s.hold()
	if err != nil {
		return nil // closed before it ran
	}
	defer end()
	return s.sweep(s.base)
}

// sweep does what is due without anybody asking for it, until ctx ends.
func (s *Server) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	pruned := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			s.requests.Sweep(ctx, now)
			s.sealTeams(ctx)
			if now.Sub(pruned) > pruneEvery {
				pruned = now
				s.prune(ctx, now)
			}
		}
	}
}

func (s *Server) prune(ctx context.Context, now time.Time) {
	if err := s.store.Prune(ctx, now); err != nil && ctx.Err() == nil {
		s.log.Warn("forgetting old ids", "err", err)
	}
	for _, t := range s.teams.All() {
		err := s.store.InTx(ctx, t.ID, func(tx *store.Tx) error {
			if _, err := tx.PruneRequests(now); err != nil {
				return err
			}
			return tx.PruneEnds(now)
		})
		if err != nil && ctx.Err() == nil {
			s.log.Warn("forgetting settled requests and ended sessions", "team", t.ID.String(), "err", err)
		}
	}
}

// sealTeams signs checkpoints for logs that grew, at most one a second for each.
func (s *Server) sealTeams(ctx context.Context) {
	for _, t := range s.teams.All() {
		have := t.Have()
		if have == nil {
			continue
		}
		if err := t.Log.Seal(ctx, have.Name); err != nil && ctx.Err() == nil {
			s.log.Error("signing a checkpoint", "team", t.ID.String(), "err", err)
		}
	}
}
