package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

func TestD2ProofOnTwoNodes(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		nodes := []*Store{open(t, dsn), open(t, dsn)}
		for range 10 {
			id := wire.NewNonce()
			errs := race(8, func(i int) error { return nodes[i%2].UseOnce(t.Context(), "operator", id, now.Add(time.Minute)) })
			if n := count(t, errs, refusal.Replay); n != 1 {
				t.Errorf("accepted %d times", n)
			}
			want(t, nodes[0].UseOnce(t.Context(), "another", id, now.Add(time.Minute)), "")
		}
	})
}

func TestD8ReplayAfterRestart(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		id := wire.NewNonce()
		want(t, s.UseOnce(t.Context(), "operator", id, now.Add(time.Minute)), "")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		want(t, open(t, dsn).UseOnce(t.Context(), "operator", id, now.Add(time.Minute)), refusal.Replay)
	})
}

// Pruning forgets ids, never the time up to which it forgot.
func TestReplayAfterPruneStaysClosed(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		old, young := wire.NewNonce(), wire.NewNonce()
		use := func(id wire.Nonce, expires time.Time, code refusal.Code) {
			t.Helper()
			want(t, s.UseOnce(t.Context(), "operator", id, expires), code)
		}
		use(old, now.Add(-3*time.Hour), "")
		use(young, now, "")
		for range 2 {
			if err := s.Prune(t.Context(), now); err != nil {
				t.Fatal(err)
			}
		}
		if n := s.replayRows(t); n != 1 {
			t.Errorf("%d ids kept", n)
		}
		use(young, now, refusal.Replay)
		use(old, now.Add(-3*time.Hour), refusal.Replay)
		use(wire.NewNonce(), now.Add(-4*time.Hour), refusal.Replay) // at or below the floor
		use(wire.NewNonce(), now.Add(-2*time.Hour), "")
	})
}

// A clock that jumps a year ahead and back neither reopens a replay nor shuts
// the door for a year.
func TestK18ClockJumpRecovers(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		id := wire.NewNonce()
		want(t, s.UseOnce(t.Context(), "operator", id, now.Add(time.Minute)), "")
		if err := s.Prune(t.Context(), now.AddDate(1, 0, 0)); err != nil {
			t.Fatal(err)
		}
		want(t, s.UseOnce(t.Context(), "operator", id, now.Add(time.Minute)), refusal.Replay)
		want(t, s.UseOnce(t.Context(), "operator", wire.NewNonce(), now.Add(2*time.Minute)), "")
	})
}

func TestUseOnceNeedsAnOwner(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		want(t, s.UseOnce(t.Context(), "", wire.NewNonce(), now), refusal.BadRequest)
		want(t, s.UseOnce(t.Context(), fmt.Sprintf("%0129d", 0), wire.NewNonce(), now), refusal.BadRequest)
	})
}

func TestOldSetupCodesAreForgotten(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		if err := s.CreateSetupCode(t.Context(), hashOf("old"), now.Add(-2*time.Hour)); err != nil {
			t.Fatal(err)
		}
		if err := s.Prune(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		// The same code can be stored again, so its row is gone.
		want(t, s.CreateSetupCode(t.Context(), hashOf("old"), now), "")
		want(t, s.CreateSetupCode(t.Context(), hashOf("old"), now), refusal.Unavailable)
	})
}

// replayRows counts the ids that are kept.
func (s *Store) replayRows(t *testing.T) (n int) {
	t.Helper()
	if err := s.read.QueryRowContext(t.Context(), `SELECT count(*) FROM replay`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
