package audit_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/audit/witness"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

func openWitness(t testing.TB, w *world, path string) *witness.Witness {
	t.Helper()
	wit, err := witness.Open(path, w.log.Origin())
	check(t, err)
	return wit
}

func (w *world) gossip(from int64) wire.AuditGossip {
	w.t.Helper()
	w.checkpoint()
	g, err := w.log.Gossip(w.rows, from)
	check(w.t, err)
	return g
}

func TestWitnessFollowsAnHonestLog(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "witness")
	for i := range 20 {
		wit := openWitness(t, w, path) // each time from the disk
		for range i % 4 {
			w.record(entry.Entry{Type: entry.Login})
		}
		check(t, wit.Update(w.gossip(wit.Size()), w.server.Public()))
		if wit.Size() != int64(len(w.rows.entries)) || wit.Err() != nil {
			t.Fatalf("size %d of %d, %v", wit.Size(), len(w.rows.entries), wit.Err())
		}
		check(t, wit.Update(wire.AuditGossip{}))
	}
}

func TestServerForksLog(t *testing.T) {
	w := newWorld(t)
	evil := newWorld(t)
	evil.record(entry.Entry{Type: entry.Login, Actor: entry.Actor{Email: "mallory@example.org"}})
	w.record(entry.Entry{Type: entry.Login})
	for name, show := range map[string]func(wit *witness.Witness) wire.AuditGossip{
		"same size, other root": func(*witness.Witness) wire.AuditGossip { return evil.gossip(0) },
		"longer fork": func(wit *witness.Witness) wire.AuditGossip {
			evil.record(entry.Entry{Type: entry.Login})
			return evil.gossip(wit.Size())
		},
		"no proof": func(*witness.Witness) wire.AuditGossip {
			w.record(entry.Entry{Type: entry.Login})
			return wire.AuditGossip{Checkpoint: w.checkpoint()}
		},
		"wrong proof": func(wit *witness.Witness) wire.AuditGossip {
			w.record(entry.Entry{Type: entry.Login})
			g := w.gossip(wit.Size())
			g.Consistency[0][0] ^= 1
			return g
		},
		"shrinking": func(wit *witness.Witness) wire.AuditGossip {
			old := wire.AuditGossip{Checkpoint: w.rows.notes[len(w.rows.notes)-1]}
			w.record(entry.Entry{Type: entry.Login})
			check(t, wit.Update(w.gossip(wit.Size()), w.server.Public()))
			return old
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "witness")
			wit := openWitness(t, w, path)
			check(t, wit.Update(w.gossip(0), w.server.Public()))
			bad := show(wit)
			good := wit.Checkpoint()
			wantCode(t, wit.Update(bad, w.server.Public()), refusal.AuditFork)
			wit = openWitness(t, w, path) // and after a restart
			wantCode(t, wit.Err(), refusal.AuditFork)
			if e := wit.Evidence(); len(e) != 1 || e[0] != bad.Checkpoint || wit.Checkpoint() != good {
				t.Errorf("evidence %q beside %q", e, wit.Checkpoint())
			}
			w.record(entry.Entry{Type: entry.Login})
			wantCode(t, wit.Update(w.gossip(wit.Size()), w.server.Public()), refusal.AuditFork) // honest again is too late
			wantCode(t, wit.Update(wire.AuditGossip{}), refusal.AuditFork)
			for range witness.MaxEvidence + 2 {
				w.record(entry.Entry{Type: entry.Login})
				wantCode(t, wit.Update(wire.AuditGossip{Checkpoint: w.checkpoint()}, w.server.Public()), refusal.AuditFork)
			}
			if n := len(openWitness(t, w, path).Evidence()); n != witness.MaxEvidence {
				t.Errorf("%d pieces of evidence", n)
			}
		})
	}
}

// Who has no audit key of the roster can neither move nor accuse.
func TestStrangersNoteChangesNothing(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "witness")
	wit := openWitness(t, w, path)
	check(t, wit.Update(w.gossip(0), w.server.Public()))
	forged, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: w.log.Origin(), Head: tree.Head{Size: 99, Root: key.Hash{1}}}, private[key.Audit](t, 99))
	check(t, err)
	for _, note := range []string{forged, "nonsense", wit.Checkpoint()[:40], strings.Repeat("x", checkpoint.MaxNote+1)} {
		wantCode(t, wit.Update(wire.AuditGossip{Checkpoint: note}, w.server.Public()), refusal.BadSignature)
	}
	wantCode(t, wit.Update(w.gossip(0)), refusal.BadSignature) // no keys at all
	if wit.Err() != nil || wit.Size() != 3 {
		t.Errorf("size %d, %v", wit.Size(), wit.Err())
	}
}

// A checkpoint that could not be written was not seen.
func TestWitnessThatCannotWrite(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "gone")
	wit := openWitness(t, w, filepath.Join(dir, "witness"))
	if err := wit.Update(w.gossip(0), w.server.Public()); err == nil || wit.Size() != 0 {
		t.Errorf("size %d, %v", wit.Size(), err)
	}
	check(t, os.Mkdir(dir, 0o700))
	check(t, wit.Update(w.gossip(0), w.server.Public()))
	check(t, os.RemoveAll(dir))
	evil := newWorld(t)
	evil.record(entry.Entry{Type: entry.Login})
	wantCode(t, wit.Update(evil.gossip(0), w.server.Public()), refusal.AuditFork) // refused all the same
	wantCode(t, wit.Err(), refusal.AuditFork)
}

func TestWitnessFileOfAnotherKind(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "witness")
	wit := openWitness(t, w, path)
	check(t, wit.Update(w.gossip(0), w.server.Public()))
	raw, err := os.ReadFile(path)
	check(t, err)
	if _, err := witness.Open(path, checkpoint.Origin("other.example", wire.TeamID{7})); refusal.Of(err) != refusal.WrongTeam {
		t.Errorf("opened for another log: %v", err)
	}
	for _, content := range []string{"", "{}", " " + string(raw), string(raw) + "\n", strings.Replace(string(raw), "v1", "v2", 1), strings.Replace(string(raw), `\n3\n`, `\n-3\n`, 1)} {
		check(t, os.WriteFile(path, []byte(content), 0o600))
		if _, err := witness.Open(path, w.log.Origin()); err == nil {
			t.Errorf("opened %q", content)
		}
	}
	check(t, os.WriteFile(path, raw, 0o600))
	check(t, os.Chmod(path, 0o644))
	if _, err := witness.Open(path, w.log.Origin()); refusal.Of(err) != refusal.BadFileMode {
		t.Errorf("opened a file that others can read: %v", err)
	}
	if _, err := witness.Open(path, "a b"); err == nil {
		t.Error("opened for a name that is none")
	}
}

// A witness speaks for what it has verified, with its own key, and falls silent when
// it holds evidence.
func TestWitnessCosignsOnlyWhatItVerified(t *testing.T) {
	w := newWorld(t)
	m := w.agents[0]
	path := filepath.Join(t.TempDir(), "witness")
	wit := openWitness(t, w, path)
	if k, err := witness.Cosign(wit, m.key, w.now); err != nil || k.Line != "" {
		t.Errorf("before the first checkpoint: %+v, %v", k, err)
	}
	check(t, wit.Update(w.gossip(0), w.server.Public()))
	k, err := witness.Cosign(wit, m.key, w.now)
	check(t, err)
	c, err := checkpoint.Peek(wit.Checkpoint())
	check(t, err)
	if at, err := checkpoint.CheckCosignature(c, k.Line, m.key.Public()); err != nil || k.Size != 3 || !at.Equal(w.now) {
		t.Errorf("%+v at %v, %v", k, at, err)
	}
	evil := newWorld(t)
	evil.record(entry.Entry{Type: entry.Login})
	wantCode(t, wit.Update(evil.gossip(0), w.server.Public()), refusal.AuditFork)
	k, err = witness.Cosign(wit, m.key, w.now)
	wantCode(t, err, refusal.AuditFork)
	if k.Line != "" {
		t.Error("cosigned with evidence in hand")
	}
}

// A proof that does not hold is evidence like a second log, and stays.
func TestAccusationStaysOverARestart(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "witness")
	wit := openWitness(t, w, path)
	check(t, wit.Update(w.gossip(0), w.server.Public()))
	note := wit.Checkpoint()
	wantCode(t, wit.Accuse("the proof of entry 1 does not hold: \xff"+strings.Repeat("x", 1<<20)), refusal.AuditFork)
	wit = openWitness(t, w, path)
	wantCode(t, wit.Err(), refusal.AuditFork)
	if e := wit.Evidence(); len(e) != 1 || !strings.HasPrefix(e[0], note+"\nthe proof of entry 1") || len(e[0]) > 3*checkpoint.MaxNote {
		t.Errorf("evidence %.300q", e)
	}
	for range witness.MaxEvidence + 1 {
		w.record(entry.Entry{Type: entry.Login})
		wantCode(t, wit.Accuse(strings.Repeat("\n", 1<<20)+w.now.String()), refusal.AuditFork)
	}
	wantCode(t, openWitness(t, w, path).Err(), refusal.AuditFork)
}
