package store

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
)

// settled stores a request that was decided about at the given time.
func settled(t testing.TB, s *Store, team principal.TeamID, at time.Time) (Request, Approval) {
	t.Helper()
	r := request(t, team, "rule")
	r.CreatedAt, r.ExpiresAt = wire.At(at), wire.At(at.Add(10*time.Minute))
	a := decision(t, r, "boss", "approve")
	in(t, s, team, "", func(tx *Tx) error {
		if err := tx.PutRequest(r); err != nil {
			return err
		}
		if _, err := tx.AddApproval(a, at); err != nil {
			return err
		}
		return tx.SetRequestState(r.Hash, wire.RequestPending, wire.RequestUsed, at)
	})
	return r, a
}

func prune(t testing.TB, s *Store, team principal.TeamID, at time.Time) (n int64) {
	t.Helper()
	in(t, s, team, "", func(tx *Tx) (err error) {
		n, err = tx.PruneRequests(at)
		return err
	})
	return n
}

func TestSettledRequestsGoAndTheirEvidenceStays(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team, other := found(t, s), found(t, s)
		old, signedOff := settled(t, s, team, now)
		fresh, _ := settled(t, s, team, now.Add(KeepSettled/2))
		theirs, _ := settled(t, s, other, now)
		waiting := request(t, team, "rule") // expired, but nobody has said so yet
		in(t, s, team, "", func(tx *Tx) error { return tx.PutRequest(waiting) })
		if n := prune(t, s, team, now.Add(KeepSettled-time.Second)); n != 0 {
			t.Fatalf("%d went early", n)
		}
		if n := prune(t, s, team, now.Add(KeepSettled)); n != 1 {
			t.Fatalf("%d went", n)
		}
		in(t, s, team, refusal.NotFound, func(tx *Tx) error { _, err := tx.Request(old.Hash); return err })
		for team, r := range map[principal.TeamID]Request{team: fresh, other: theirs} {
			in(t, s, team, "", func(tx *Tx) error { _, err := tx.Request(r.Hash); return err })
		}
		in(t, s, team, "", func(tx *Tx) error { _, err := tx.Request(waiting.Hash); return err })
		src := s.AuditSource(t.Context(), team)
		if got := must[statement.Signed](t)(src.Approval(signedOff.Statement.Hash())); string(got) != string(signedOff.Statement) {
			t.Fatalf("the evidence is %q", got)
		}
		if got := must[statement.Signed](t)(s.AuditSource(t.Context(), other).Approval(signedOff.Statement.Hash())); got != nil {
			t.Fatal("another team sees it")
		}
	})
}

func TestSettledRequestsAreBounded(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		in(t, s, team, "", func(tx *Tx) error {
			for i := range MaxSettled + 5 {
				r := Request{Hash: hashOf("request %d", i), Session: wire.NewSessionID(), Operator: hashOf("operator"), Agent: hashOf("agent"),
					Statement: statement.Signed("{}"), Open: wire.Bytes{1}, State: wire.RequestDenied, Need: 1, Roles: []string{},
					CreatedAt: wire.At(now) + wire.Millis(i), ExpiresAt: wire.At(now.Add(time.Minute))}
				if err := tx.PutRequest(r); err != nil {
					return err
				}
			}
			return nil
		})
		if n := prune(t, s, team, now.Add(2*time.Minute)); n != 0 {
			t.Fatalf("%d went while their ids were still good", n)
		}
		if n := prune(t, s, team, now.Add(pruneMargin+2*time.Minute)); n != 5 {
			t.Fatalf("%d went, want the 5 oldest beyond the limit", n)
		}
		in(t, s, team, refusal.NotFound, func(tx *Tx) error { _, err := tx.Request(hashOf("request 4")); return err })
		in(t, s, team, "", func(tx *Tx) error { _, err := tx.Request(hashOf("request 5")); return err })
	})
}

func TestConnectionIsNotableOnce(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		nodes := []*Store{open(t, dsn), open(t, dsn)}
		team, other := found(t, nodes[0]), found(t, nodes[0])
		k := token(t, 1)
		publish(t, nodes[0], team, k)
		a := agent(t, k, "web")
		join(t, nodes[0], team, a, "")
		said := make(chan bool, 8)
		notable := func(s *Store, team principal.TeamID, what key.Hash) error {
			var is bool
			err := s.InTx(context.Background(), team, func(tx *Tx) (err error) { // which may run twice and count once
				is, err = tx.Notable(a.Kid, what)
				return err
			})
			if err == nil && is {
				said <- true
			}
			return err
		}
		for _, day := range []string{"monday", "tuesday", "monday"} {
			errs := race(6, func(i int) error { return notable(nodes[i%2], team, hashOf("%s", day)) })
			count(t, errs, "")
			if n := len(said); n != 1 {
				t.Fatalf("%s was said %d times", day, n)
			}
			<-said
		}
		want(t, notable(nodes[0], other, hashOf("wednesday")), "")
		if len(said) != 0 {
			t.Fatal("of another team's agent")
		}
	})
}

// A database from before the evidence had a table of its own.
func TestEvidenceSurvivesTheMigration(t *testing.T) {
	bothFresh(t, func(t *testing.T, dsn string) {
		var s *Store
		var err error
		if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
			s, err = openSQLite(path)
		} else {
			s, err = openPostgres(t.Context(), dsn)
		}
		if err != nil {
			t.Fatal(err)
		}
		steps := must[*goose.Provider](t)(s.steps())
		if _, err := steps.UpTo(t.Context(), 4); err != nil {
			t.Fatal(err)
		}
		team, other := found(t, s), found(t, s)
		r, theirs := put(t, s, team), put(t, s, other)
		before := func(team principal.TeamID, r Request) statement.Signed {
			a := decision(t, r, "boss", "approve")
			hash := a.Statement.Hash()
			in(t, s, team, "", func(tx *Tx) error {
				_, err := tx.exec("storing an approval", `INSERT INTO approvals (team_id, request_hash, approver, decision, nonce, hash, statement, created_at)
					VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`, tx.id, r.Hash[:], a.Approver[:], a.Decision, a.ID[:], hash[:], bytesOf(a.Statement), millis(now))
				return err
			})
			return a.Statement
		}
		mine, yours := before(team, r), before(other, theirs)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dsn)
		for _, tc := range []struct {
			team principal.TeamID
			hash key.Hash
			want statement.Signed
		}{{team, r.Hash, mine}, {other, theirs.Hash, yours}} {
			look(t, s, tc.team, func(tx *Tx) error {
				got := must[Request](t)(tx.Request(tc.hash))
				if len(got.Approvals) != 1 || string(got.Approvals[0]) != string(tc.want) {
					t.Errorf("approvals %q", got.Approvals)
				}
				return nil
			})
			src := s.AuditSource(t.Context(), tc.team)
			if got := must[statement.Signed](t)(src.Approval(tc.want.Hash())); string(got) != string(tc.want) {
				t.Errorf("evidence %q", got)
			}
		}
	})
}
