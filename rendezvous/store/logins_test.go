package store

import (
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
)

// login is a token of team's operator number who that ends so long after now.
func login(team principal.TeamID, who byte, left time.Duration) principal.Principal {
	return principal.Principal{Team: team, Operator: key.ID{who}, ID: wire.NewNonce(), ExpiresAt: wire.At(now.Add(left))}
}

// wantLogin fails unless s answers a call with that token so; "" lets it in.
func wantLogin(t *testing.T, s *Store, who principal.Principal, at time.Time, code refusal.Code) {
	t.Helper()
	want(t, s.View(t.Context(), who.Team, func(tx *Tx) error {
		_, err := tx.RecordFor(who, at)
		return err
	}), code)
}

func TestC12EndedLoginIsEndedOnEveryNodeForGood(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s, other := open(t, dsn), open(t, dsn)
		mine, theirs := found(t, s), found(t, s)
		ended, older, twin := login(mine, 1, 10*time.Minute), login(mine, 1, 9*time.Minute), login(mine, 1, 10*time.Minute)
		for range 2 { // the second time it is nothing
			in(t, s, mine, "", func(tx *Tx) error { return tx.EndLogin(ended) })
		}
		for _, node := range []*Store{s, other} {
			wantLogin(t, node, ended, now, refusal.NotLoggedIn)
			wantLogin(t, node, older, now, refusal.NotLoggedIn)
			wantLogin(t, node, twin, now, "") // made in the same second: it may be the login after the logout
			wantLogin(t, node, login(mine, 1, 11*time.Minute), now, "")
			wantLogin(t, node, login(mine, 2, 9*time.Minute), now, "")
			wantLogin(t, node, login(theirs, 1, 9*time.Minute), now, "")
		}
		late := now.Add(3 * time.Hour)
		if err := s.Prune(t.Context(), late); err != nil {
			t.Fatal(err)
		}
		if n := s.replayRows(t); n != 0 {
			t.Fatalf("%d ids kept", n)
		}
		wantLogin(t, other, ended, now, refusal.NotLoggedIn) // for a clock that was set back since
	})
}

// A logout while the clock runs a year ahead keeps nobody out for that year.
func TestK18LogoutFromTheFutureEndsItselfAlone(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		ahead, fresh := login(team, 1, 365*24*time.Hour), login(team, 1, principal.Lifetime)
		in(t, s, team, "", func(tx *Tx) error { return tx.EndLogin(ahead) })
		wantLogin(t, s, fresh, now, "")
		wantLogin(t, s, ahead, now.AddDate(1, 0, 0), refusal.NotLoggedIn)
	})
}

// Who logs in and out all day, as fast as a server lets him, makes his own calls no
// slower for the database, which is everybody's.
func TestB18ManyLogoutsCostLaterCallsNothing(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		who := login(team, 1, principal.Lifetime)
		took := func() time.Duration {
			least := time.Hour
			for range 30 {
				start := time.Now()
				wantLogin(t, s, who, now, "")
				least = min(least, time.Since(start))
			}
			return least
		}
		before := took()
		in(t, s, team, "", func(tx *Tx) error {
			for range 5000 {
				if err := tx.EndLogin(login(team, 1, time.Minute)); err != nil {
					return err
				}
			}
			return nil
		})
		if after := took(); after > 4*before {
			t.Errorf("%v, and %v after 5,000 logouts", before, after)
		}
	})
}
