package store

import (
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// K18: a database that is gone is a fault with code unavailable, never a
// decision, and never a panic.
func TestK18DatabaseGone(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_, errTeams := s.Teams(t.Context())
		for what, err := range map[string]error{
			"ping": s.Ping(t.Context()), "teams": errTeams,
			"use once": s.UseOnce(t.Context(), "operator", wire.NewNonce(), now),
			"prune":    s.Prune(t.Context(), now), "setup code": s.CreateSetupCode(t.Context(), hashOf("x"), now),
			"change": s.InTx(t.Context(), team, func(tx *Tx) error { return tx.SawAgent(hashOf("a"), now) }),
			"view":   s.View(t.Context(), team, func(tx *Tx) error { _, err := tx.Record(); return err }),
		} {
			if refusal.Of(err) != refusal.Unavailable {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}
