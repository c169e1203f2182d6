package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/export"
	"github.com/tucdesk/tucdesk/internal/audit/ledger"
	"github.com/tucdesk/tucdesk/internal/audit/spool"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
)

var (
	_ ledger.Tx     = (*Tx)(nil)
	_ export.Source = (*AuditSource)(nil)
)

// private makes the n-th key of a role, always the same.
func private[R key.Role](t testing.TB, n byte) key.Private[R] {
	t.Helper()
	k, err := key.FromSeed[R](bytes.Repeat([]byte{n}, key.SeedSize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// books is a team with a real root and roster, and its log.
type books struct {
	team        principal.TeamID
	fingerprint key.Hash
	log         *ledger.Log
	state       *roster.State
}

func newLedger(t testing.TB, s *Store) *books {
	t.Helper()
	owner, server := private[key.Owner](t, 1), private[key.Audit](t, 4)
	id := wire.NewTeamID()
	root, err := roster.SignRoot(owner, roster.Root{Team: id, Owners: []key.Public[key.Owner]{owner.Public()}, Threshold: 1, Name: "example"})
	if err != nil {
		t.Fatal(err)
	}
	opened := must[roster.Root](t)(roster.OpenRoot(root, root.Hash()))
	first := must[wire.RosterUpdate](t)(roster.Sign(owner, roster.First(opened, root.Hash(), func(r *roster.Roster) {
		r.Renew(now, roster.DefaultLifetime)
		r.Servers = []roster.Server{{Name: "r.example", URL: "https://r.example", Keys: wire.ServerKeys{
			Access: private[key.Access](t, 2).Public(), Grant: private[key.Grant](t, 3).Public(), Audit: server.Public(), TLS: sha256.Sum256(nil),
		}}}
		r.Enrollers = []roster.Enroller{{Key: private[key.Enroller](t, 5).Public(), Tags: []string{}, MaxLifetime: 3600}}
	})))
	l := &books{fingerprint: root.Hash()}
	l.state = must[*roster.State](t)(roster.Found(root, root.Hash(), first))
	l.log = must[*ledger.Log](t)(ledger.New("r.example", id, server))
	code := hashOf("ledger %s", id.String()[:16])
	if err := s.CreateSetupCode(t.Context(), code, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	f := Founding{Code: code, Team: id, Root: root, Updates: []wire.RosterUpdate{first}, PolicyHash: hashOf("p"), Policy: []byte("p")}
	l.team, err = s.FoundTeam(t.Context(), f, now, func(tx *Tx) error {
		_, err := l.log.Record(tx, entry.Entry{Type: entry.TeamFound, Time: wire.At(now)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *books) record(t testing.TB, s *Store) error {
	return s.InTx(t.Context(), l.team, func(tx *Tx) error {
		_, err := l.log.Record(tx, entry.Entry{Type: entry.Login, Time: wire.At(now)})
		return err
	})
}

func (l *books) checkpoint(t testing.TB, s *Store) (note string, err error) {
	err = s.InTx(t.Context(), l.team, func(tx *Tx) (err error) {
		note, err = l.log.Checkpoint(tx)
		return err
	})
	return note, err
}

func (l *books) verify(t testing.TB, s *Store) verify.Report {
	t.Helper()
	var out bytes.Buffer
	if err := export.Write(&out, s.AuditSource(t.Context(), l.team), l.log.Origin(), l.log.Keys()...); err != nil {
		t.Fatal(err)
	}
	r := must[verify.Report](t)(verify.Export(&out, l.fingerprint, now))
	for _, f := range r.Findings {
		t.Error(f)
	}
	return r
}

// Two nodes write and sign at the same time; what comes out is one log.
func TestTwoNodesKeepOneLog(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		nodes := []*Store{open(t, dsn), open(t, dsn)}
		l := newLedger(t, nodes[0])
		count(t, race(40, func(i int) error {
			if i%4 == 3 {
				_, err := l.checkpoint(t, nodes[i%2])
				return err
			}
			return l.record(t, nodes[i%2])
		}), "")
		if _, err := l.checkpoint(t, nodes[0]); err != nil {
			t.Fatal(err)
		}
		if r := l.verify(t, nodes[1]); r.Size != 31 || r.Checkpoints == 0 {
			t.Errorf("report %+v", r)
		}
	})
}

// The agent's half on a real database: a host that joined, its entries, twice
// delivered, its deletion, and an export that proves all of it.
func TestAgentsEntriesOnTheDatabase(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		l := newLedger(t, s)
		host := private[key.Agent](t, 30)
		a, spool := joinLedger(t, s, l, host)
		for range 5 {
			if _, err := spool.Append(entry.Entry{Type: entry.AgentStart, Time: wire.At(now)}); err != nil {
				t.Fatal(err)
			}
		}
		batch := must[[]statement.Signed](t)(spool.Pending(0, wire.MaxAuditBatch))
		errs := race(4, func(int) error {
			return s.InTx(t.Context(), l.team, func(tx *Tx) error {
				seq, err := l.log.Accept(tx, host.Public(), batch)
				if err == nil && seq != 5 {
					err = errors.New("log does not hold all entries")
				}
				return err
			})
		})
		count(t, errs, "")
		in(t, s, l.team, "", func(tx *Tx) error { return tx.DeleteAgent(a.Kid, now) })
		if _, err := l.checkpoint(t, s); err != nil {
			t.Fatal(err)
		}
		if r := l.verify(t, s); r.Size != 6 || r.Hosts != 1 {
			t.Errorf("report %+v", r)
		}
	})
}

func joinLedger(t testing.TB, s *Store, l *books, host key.Private[key.Agent]) (Agent, *spool.Spool) {
	t.Helper()
	tokenKey := private[key.Token](t, 60)
	tok := roster.Token{
		ID: wire.NewNonce(), Team: l.team.Wire(), Fingerprint: l.fingerprint, Server: l.state.Roster().Servers[0].Address(), Tags: []string{},
		IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(time.Hour)), MaxUses: 1, Key: tokenKey.Public(),
	}
	signedToken := must[statement.Signed](t)(roster.SignToken(private[key.Enroller](t, 5), tok))
	cert := must[statement.Signed](t)(roster.SignAgent(tokenKey, tok, roster.AgentCert{
		Team: l.team.Wire(), Agent: host.Public(), Name: "db", Tags: []string{}, TokenID: tok.ID, IssuedAt: wire.At(now),
	}))
	registration := must[statement.Signed](t)(statement.Sign(host, wire.Registration{
		ID: wire.NewNonce(), IssuedAt: wire.At(now), Team: l.team.Wire(), Agent: host.Public(),
	}))
	a := Agent{Kid: host.ID(), Name: "db", TokenID: tok.ID, Token: signedToken, Certificate: cert, Registration: registration}
	publish(t, s, l.team, Token{ID: tok.ID, Statement: signedToken, MaxUses: 1, ExpiresAt: tok.ExpiresAt})
	join(t, s, l.team, a, "")
	dir := t.TempDir()
	if err := spool.Create(dir, host, l.team.Wire()); err != nil {
		t.Fatal(err)
	}
	spool := must[*spool.Spool](t)(spool.Open(dir, host, l.team.Wire()))
	t.Cleanup(func() { _ = spool.Close() })
	return a, spool
}

// A change that fails takes its entry with it, and the log goes on without a hole.
func TestEntryAndChangeAreOneTransaction(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		l := newLedger(t, s)
		in(t, s, l.team, refusal.Forbidden, func(tx *Tx) error {
			if _, err := l.log.Record(tx, entry.Entry{Type: entry.Login, Time: wire.At(now)}); err != nil {
				return err
			}
			return refusal.New(refusal.Forbidden, "no")
		})
		if err := l.record(t, s); err != nil {
			t.Fatal(err)
		}
		if _, err := l.checkpoint(t, s); err != nil {
			t.Fatal(err)
		}
		if r := l.verify(t, s); r.Size != 2 {
			t.Errorf("%d entries", r.Size)
		}
	})
}

// One size has one checkpoint, whatever a caller tries.
func TestSecondCheckpointOfASizeIsRefused(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		in(t, s, team, "", func(tx *Tx) error { return tx.PutCheckpoint(3, "one") })
		in(t, s, team, refusal.Unavailable, func(tx *Tx) error { return tx.PutCheckpoint(3, "other") })
		in(t, s, team, "", func(tx *Tx) error { return tx.PutCheckpoint(10, "two") })
		look(t, s, team, func(tx *Tx) error {
			if n := must[string](t)(tx.LastCheckpoint()); n != "two" {
				t.Errorf("last is %q", n)
			}
			if n := must[[]string](t)(tx.Checkpoints(3, 5)); len(n) != 1 {
				t.Errorf("after 3: %q", n)
			}
			if _, err := tx.AuditHashes([]int64{0}); err == nil {
				t.Error("a hash that is not there was read")
			}
			return nil
		})
	})
}

func TestN10OtherTeamsLogIsNotThere(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		l := newLedger(t, s)
		if _, err := l.checkpoint(t, s); err != nil {
			t.Fatal(err)
		}
		other := s.AuditSource(t.Context(), found(t, s))
		if note, err := other.LastCheckpoint(); note != "" || err != nil {
			t.Errorf("%q, %v", note, err)
		}
		if list, err := other.Entries(0, 10); len(list) != 0 || err != nil {
			t.Errorf("%v, %v", list, err)
		}
		if list, _, err := other.Hosts(key.ID{}, 10); len(list) != 0 || err != nil {
			t.Errorf("%v, %v", list, err)
		}
		stranger := s.AuditSource(t.Context(), principal.TeamID{})
		if _, err := stranger.Root(); refusal.Of(err) != refusal.NotFound {
			t.Errorf("a team that does not exist: %v", err)
		}
	})
}

func benchmarkAppend(b *testing.B, dsn string) {
	s := open(b, dsn)
	l := newLedger(b, s)
	for b.Loop() {
		if err := l.record(b, s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAuditAppendSQLite(b *testing.B) {
	benchmarkAppend(b, "sqlite:"+filepath.Join(b.TempDir(), "x.db"))
}

func BenchmarkAuditAppendPostgres(b *testing.B) { benchmarkAppend(b, pg.Fresh(b)) }

func BenchmarkUseOnceSQLite(b *testing.B) {
	s := open(b, "sqlite:"+filepath.Join(b.TempDir(), "x.db"))
	for b.Loop() {
		if err := s.UseOnce(b.Context(), "operator", wire.NewNonce(), now); err != nil {
			b.Fatal(err)
		}
	}
}

// A fault stays a fault when the log puts it into its own words.
func TestK18WrappedFaultsAreUnavailable(t *testing.T) {
	s := open(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db"))
	l := newLedger(t, s)
	if _, err := l.checkpoint(t, s); err != nil {
		t.Fatal(err)
	}
	if _, err := s.write.Exec(`DROP TABLE audit_hashes`); err != nil {
		t.Fatal(err)
	}
	_, err := l.checkpoint(t, s)
	want(t, err, refusal.Unavailable)
	want(t, l.record(t, s), refusal.Unavailable)
}

// fillCheckpoints and fillCosignatures make rows for the sizes 1 to $2; cosignatures
// are by a signer $3 at a time $4.
const (
	sizesToFill      = `WITH RECURSIVE n (size) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT size + 1 FROM n WHERE size < $2) `
	fillCheckpoints  = sizesToFill + `INSERT INTO audit_checkpoints (team_id, size, note) SELECT $1, size, 'note' FROM n`
	fillCosignatures = sizesToFill + `INSERT INTO audit_cosignatures (team_id, size, signer, line, received_at) SELECT $1, size, $3, 'first', $4 FROM n`
)

// Cosignatures are bounded in two ways, and another team's are not there (N10).
func TestCosignaturesAreBounded(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team, other := found(t, s), found(t, s)
		signer := func(n int) key.ID { return hashOf("signer %d", n) }
		const sizes, keep = keptCosigned + 5, 3
		in(t, s, team, "", func(tx *Tx) error {
			const filled = keptCosigned - 5 // one after the other they would take a minute
			first := signer(0)
			if _, err := tx.exec("filling a table", fillCheckpoints, tx.id, filled); err != nil {
				return err
			}
			if _, err := tx.exec("filling a table", fillCosignatures, tx.id, filled, first[:], wire.At(now)); err != nil {
				return err
			}
			for size := int64(filled + 1); size <= sizes; size++ {
				if err := tx.PutCheckpoint(size, "note"); err != nil {
					return err
				}
				if err := tx.PutCosignatures(size, []Cosigned{{signer(0), "first"}}, now, keep); err != nil {
					return err
				}
			}
			for n := range 5 {
				if err := tx.PutCosignatures(sizes, []Cosigned{{signer(n), "newer"}}, now.Add(time.Duration(n+1)*time.Second), keep); err != nil {
					return err
				}
			}
			return nil
		})
		look(t, s, team, func(tx *Tx) error {
			all := must[map[int64][]string](t)(tx.Cosignatures(0, sizes))
			if len(all) != keptCosigned || all[5] != nil || len(all[6]) != 1 {
				t.Errorf("of %d checkpoints", len(all))
			}
			if got := all[sizes]; len(got) != keep || got[0] != "newer" || got[keep-1] != "newer" {
				t.Errorf("of the newest: %q", got)
			}
			if some := must[map[int64][]string](t)(tx.Cosignatures(sizes-2, sizes-1)); len(some) != 1 {
				t.Errorf("in a range of one: %v", some)
			}
			return nil
		})
		look(t, s, other, func(tx *Tx) error {
			if all := must[map[int64][]string](t)(tx.Cosignatures(0, sizes)); len(all) != 0 {
				t.Errorf("another team sees %d", len(all))
			}
			return nil
		})
		in(t, s, other, refusal.Unavailable, func(tx *Tx) error { // of a checkpoint that is not there
			return tx.PutCosignatures(3, []Cosigned{{signer(0), "x"}}, now, keep)
		})
	})
}

func TestAuditIndexFindsAnEntryOfItsTeam(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team, other := found(t, s), found(t, s)
		id := wire.NewNonce()
		in(t, s, team, "", func(tx *Tx) error {
			if _, err := tx.AuditExtend(1); err != nil {
				return err
			}
			return tx.PutAuditEntry(0, id, statement.Signed("{}"))
		})
		for _, team := range []principal.TeamID{team, other} {
			look(t, s, team, func(tx *Tx) error {
				index, there, err := tx.AuditIndex(id)
				if err != nil || index != 0 || there != (team != other) {
					t.Errorf("%d, %v, %v", index, there, err)
				}
				return nil
			})
		}
	})
}
