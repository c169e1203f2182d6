package witness

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/wire"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever stands in the file: it opens as exactly what it says, or not at all.
func FuzzWitnessFile(f *testing.F) {
	k, err := key.FromSeed[key.Audit](bytes.Repeat([]byte{4}, key.SeedSize))
	check(f, err)
	origin := checkpoint.Origin("rendezvous.example", wire.TeamID{7})
	note, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: origin, Head: tree.Head{Size: 1}}, k)
	check(f, err)
	path := filepath.Join(f.TempDir(), "witness")
	w, err := Open(path, origin)
	check(f, err)
	check(f, w.Update(wire.AuditGossip{Checkpoint: note}, k.Public()))
	raw, err := os.ReadFile(path)
	check(f, err)
	f.Add(raw)
	f.Add([]byte(`{"format":"tucdesk-witness-v1","origin":"` + origin + `","checkpoint":"","evidence":[]}` + "\n"))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		w := &Witness{origin: origin}
		if w.decode(content) != nil {
			return
		}
		w.path = filepath.Join(t.TempDir(), "witness")
		w.mu.Lock()
		err := w.save(w.state)
		w.mu.Unlock()
		check(t, err)
		again, err := os.ReadFile(w.path)
		check(t, err)
		if string(again) != string(content) {
			t.Errorf("%q is written as %q", content, again)
		}
	})
}

// A session is judged by what a witness says; it must not wait for a disk that hangs
// in the middle of a write.
func TestWitnessAnswersWhileItWrites(t *testing.T) {
	w, err := Open(filepath.Join(t.TempDir(), "witness"), "rv.example/audit/x")
	if err != nil {
		t.Fatal(err)
	}
	w.writing.Lock() // as Update does while the disk works
	defer w.writing.Unlock()
	if w.Err() != nil || w.Size() != 0 || w.Checkpoint() != "" || len(w.Evidence()) != 0 {
		t.Error("not what it was")
	}
}
