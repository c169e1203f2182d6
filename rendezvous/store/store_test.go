package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
)

// now is a fixed time: the store never looks at a clock.
var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// both runs a test on SQLite and on PostgreSQL, with the address of a database
// whose tables are empty. It is the one suite for both, and takes its tests side by
// side.
func both(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), awkward)
		if err := os.WriteFile(path, emptyTables(), 0o600); err != nil {
			t.Fatal(err)
		}
		test(t, "sqlite:"+path)
	})
	t.Run("postgres", func(t *testing.T) { test(t, pg.Filled(t, makeTables)) })
}

// bothFresh is both before there are tables.
func bothFresh(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) { test(t, "sqlite:"+filepath.Join(t.TempDir(), awkward)) })
	t.Run("postgres", func(t *testing.T) { test(t, pg.Fresh(t)) })
}

// awkward is a file's name that must not be taken for anything else in an address.
const awkward = "a?b#c %d.db"

// emptyTables is what SQLite's file holds after the migrations, which then need not
// run once for every test.
var emptyTables = sync.OnceValue(func() []byte {
	dir, err := os.MkdirTemp("", "tables")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "db")
	if err := makeTables("sqlite:" + path); err != nil {
		panic(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	return b
})

func makeTables(dsn string) error {
	s, err := Open(context.Background(), dsn)
	if err != nil {
		return err
	}
	return s.Close()
}

func open(t testing.TB, dsn string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// note is a signed statement with any text; the store does not open statements.
type note struct {
	Text string `json:"text"`
}

func (note) Kind() statement.Kind {
	return statement.Kind{Type: "tucdesk/test-note/v1", MaxSize: 1 << 20}
}

func signed(t testing.TB, format string, args ...any) statement.Signed {
	t.Helper()
	k, err := key.FromSeed[key.Owner](make([]byte, key.SeedSize))
	if err != nil {
		t.Fatal(err)
	}
	s, err := statement.Sign(k, note{fmt.Sprintf(format, args...)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func hashOf(format string, args ...any) key.Hash {
	var h key.Hash
	copy(h[:], fmt.Sprintf(format, args...))
	h[31] = 1
	return h
}

// found founds a team and returns it.
func found(t testing.TB, s *Store) principal.TeamID {
	t.Helper()
	id := wire.NewTeamID()
	code := hashOf("code %s", id.String()[:20])
	if err := s.CreateSetupCode(t.Context(), code, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	team, err := s.FoundTeam(t.Context(), founding(t, id, code), now, func(*Tx) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return team
}

func founding(t testing.TB, id wire.TeamID, code key.Hash) Founding {
	t.Helper()
	return Founding{
		Code: code, Team: id, Root: signed(t, "root %s", id), Setup: signed(t, "setup"),
		Updates:    []wire.RosterUpdate{{Statement: signed(t, "roster 1 %s", id)}},
		PolicyHash: hashOf("policy"), Policy: []byte("[[rule]]"),
	}
}

// in runs a change and fails the test unless it ends with code ("" is success).
func in(t testing.TB, s *Store, team principal.TeamID, code refusal.Code, change func(*Tx) error) {
	t.Helper()
	want(t, s.InTx(t.Context(), team, change), code)
}

// look is in for a View that must succeed.
func look(t testing.TB, s *Store, team principal.TeamID, see func(*Tx) error) {
	t.Helper()
	want(t, s.View(t.Context(), team, see), "")
}

func want(t testing.TB, err error, code refusal.Code) {
	t.Helper()
	if code == "" && err != nil || refusal.Of(err) != code {
		t.Fatalf("got %v, want code %q", err, code)
	}
}

// must is for values that a test needs before its Tx ends.
func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestFoundedTeamIsThereAfterReopen(t *testing.T) {
	bothFresh(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatalf("second Close: %v", err)
		}
		s = open(t, dsn)
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		teams := must[[]Team](t)(s.Teams(t.Context()))
		if len(teams) != 1 || teams[0].ID != team || teams[0].RosterVersion != 1 || teams[0].FoundedAt != wire.At(now) {
			t.Fatalf("teams %+v", teams)
		}
		if teams[0].Fingerprint != teams[0].Root.Hash() {
			t.Error("fingerprint is not the hash of the root")
		}
		look(t, s, team, func(tx *Tx) error {
			record := must[Team](t)(tx.Record())
			if record.ID != team || tx.Team() != team {
				t.Errorf("record %+v", record)
			}
			if text := must[[]byte](t)(tx.Policy(hashOf("policy"))); string(text) != "[[rule]]" {
				t.Errorf("policy %q", text)
			}
			if u := must[[]wire.RosterUpdate](t)(tx.RosterUpdates(0)); len(u) != 1 || u[0].Statement.Hash() != signed(t, "roster 1 %s", team).Hash() {
				t.Errorf("updates %v", u)
			}
			return nil
		})
	})
}

func TestG12SetupCodeIsGoodOnce(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		nothing := func(*Tx) error { return nil }
		code := hashOf("code")
		if err := s.CreateSetupCode(t.Context(), code, now.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		try := func(at time.Time, code key.Hash, id wire.TeamID) error {
			_, err := s.FoundTeam(t.Context(), founding(t, id, code), at, nothing)
			return err
		}
		first := wire.NewTeamID()
		want(t, try(now, hashOf("guess"), first), refusal.NotFound)
		want(t, try(now.Add(time.Hour), code, first), refusal.NotFound) // expired
		failing := func(*Tx) error { return refusal.New(refusal.Forbidden, "no") }
		_, err := s.FoundTeam(t.Context(), founding(t, first, code), now, failing)
		want(t, err, refusal.Forbidden) // and the code is not spent
		want(t, try(now, code, first), "")
		want(t, try(now, code, wire.NewTeamID()), refusal.NotFound)
		if err := s.CreateSetupCode(t.Context(), hashOf("second"), now.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		want(t, try(now, hashOf("second"), first), refusal.NotFound) // team exists
		if teams := must[[]Team](t)(s.Teams(t.Context())); len(teams) != 1 {
			t.Errorf("%d teams", len(teams))
		}
	})
}

func TestRosterVersionsAreAppendedOnce(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		second := wire.RosterUpdate{Statement: signed(t, "roster 2"), Cosignatures: []statement.Cosignature{{Sig: "x"}}}
		add := func(expected uint64, u wire.RosterUpdate, policy []byte) func(*Tx) error {
			return func(tx *Tx) error { return tx.AppendRoster(expected, u, hashOf("p2"), policy, now) }
		}
		in(t, s, team, refusal.NotFound, add(1, second, nil)) // its policy is unknown
		in(t, s, team, "", add(1, second, []byte("new")))
		in(t, s, team, "", add(1, second, []byte("new"))) // the same again
		in(t, s, team, refusal.Fork, add(1, wire.RosterUpdate{Statement: signed(t, "other 2")}, []byte("new")))
		in(t, s, team, refusal.Gap, add(3, wire.RosterUpdate{Statement: signed(t, "roster 4")}, []byte("new")))
		in(t, s, team, "", add(2, wire.RosterUpdate{Statement: signed(t, "roster 3")}, nil))
		look(t, s, team, func(tx *Tx) error {
			u := must[[]wire.RosterUpdate](t)(tx.RosterUpdates(1))
			if len(u) != 2 || u[0].Statement.Hash() != second.Statement.Hash() || len(u[0].Cosignatures) != 1 {
				t.Errorf("updates %v", u)
			}
			if r := must[Team](t)(tx.Record()); r.RosterVersion != 3 {
				t.Errorf("version %d", r.RosterVersion)
			}
			return nil
		})
	})
}

func TestFailedChangeLeavesNothing(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		in(t, s, team, refusal.Forbidden, func(tx *Tx) error {
			if err := tx.PublishToken(token(t, 1), now); err != nil {
				return err
			}
			if _, err := tx.AuditExtend(3); err != nil {
				return err
			}
			return refusal.New(refusal.Forbidden, "changed my mind")
		})
		look(t, s, team, func(tx *Tx) error {
			if list := must[[]wire.TokenInfo](t)(tx.Tokens()); len(list) != 0 {
				t.Errorf("tokens %v", list)
			}
			if n := must[int64](t)(tx.AuditSize()); n != 0 {
				t.Errorf("log has %d entries", n)
			}
			return nil
		})
	})
}

func TestViewCannotChange(t *testing.T) {
	s := open(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db"))
	team := found(t, s)
	err := s.View(t.Context(), team, func(tx *Tx) error { return tx.PublishToken(token(t, 1), now) })
	want(t, err, refusal.Unavailable)
}

func TestOpenRefusesOtherAddresses(t *testing.T) {
	for _, dsn := range []string{"", "sqlite:", "mysql://x", "/tmp/x.db", "postgres://u:geheim@127.0.0.1:1/x?connect_timeout=bad", "sqlite:/nonexistent/dir/x.db"} {
		s, err := Open(t.Context(), dsn)
		if err == nil {
			t.Errorf("%q opened", dsn)
			_ = s.Close()
			continue
		}
		if containsAny(err.Error(), "geheim") {
			t.Errorf("error holds the password: %v", err)
		}
	}
}

func TestCancelledContextIsAFault(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := s.InTx(ctx, team, func(tx *Tx) error { return tx.SawAgent(hashOf("a"), now) })
		want(t, err, refusal.Unavailable)
	})
}
