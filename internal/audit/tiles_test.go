package audit_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/tiles"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
)

// inTiles exports a log of n more logins, with an approval and a cosignature in it.
func inTiles(t testing.TB, n int) (*world, string) {
	t.Helper()
	w := newWorld(t)
	w.exec(w.agents[0], []string{"reboot"}, w.bob)
	for range n {
		w.record(entry.Entry{Type: entry.Login})
	}
	w.cosign(w.agents[0].key)
	dir := filepath.Join(t.TempDir(), "log")
	check(t, tiles.Write(dir, strings.NewReader(joined(w.export()))))
	return w, dir
}

func verifyTiles(t testing.TB, w *world, dir string) verify.Report {
	t.Helper()
	r, err := readTiles(w, dir)
	check(t, err)
	return r
}

// readTiles verifies a folder as the client does.
func readTiles(w *world, dir string) (verify.Report, error) {
	folder, err := tiles.Open(dir)
	if err != nil {
		return verify.Report{}, err
	}
	defer folder.Close()
	r, err := verify.Export(folder, w.state.Fingerprint(), w.now)
	r.BadTiles(folder.Bad())
	return r, err
}

// A reader that knows the standard and nothing of us finds every entry in its bundle,
// its hash in the tile of the same number, and the root in the checkpoint.
func TestTilesOfALogAreTheStandards(t *testing.T) {
	w, dir := inTiles(t, 260)
	size := len(w.rows.entries)
	var f tree.Frontier
	for from := 0; from < size; from += 256 {
		width := min(256, size-from)
		bundle, err := os.ReadFile(filepath.Join(dir, tree.TilePath(tree.EntriesLevel, int64(from/256), width)))
		check(t, err)
		tile, err := os.ReadFile(filepath.Join(dir, tree.TilePath(0, int64(from/256), width)))
		check(t, err)
		for i := range width {
			n := int(binary.BigEndian.Uint16(bundle))
			leaf := tree.Leaf(bundle[2 : 2+n])
			if !bytes.Equal(bundle[2:2+n], w.rows.entries[from+i]) || !bytes.Equal(tile[32*i:32*i+32], leaf[:]) {
				t.Fatalf("entry %d", from+i)
			}
			f.Add(leaf)
			bundle = bundle[2+n:]
		}
		if len(bundle) != 0 || len(tile) != 32*width {
			t.Errorf("%d bytes behind the bundle, a tile of %d", len(bundle), len(tile))
		}
	}
	note, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	check(t, err)
	c, _, err := checkpoint.Open(string(note), w.log.Origin(), w.server.Public())
	check(t, err)
	if c.Root != f.Root() || c.Size != int64(size) || len(checkpoint.Cosignatures(string(note), w.log.Origin(), w.server.Public())) != 1 {
		t.Errorf("checkpoint %+v", c)
	}
	r := verifyTiles(t, w, dir)
	wantClean(t, r)
	if r.Size != int64(size) || r.Cosigners != 1 {
		t.Errorf("report %+v", r)
	}
}

func TestTilesOfAnEmptyLog(t *testing.T) {
	w := newWorld(t)
	rows := newMemory()
	rows.root, rows.rosters = w.rows.root, w.rows.rosters
	var b bytes.Buffer
	check(t, w.write(&b, rows))
	dir := filepath.Join(t.TempDir(), "log")
	check(t, tiles.Write(dir, &b))
	wantClean(t, verifyTiles(t, w, dir))
}

// damages does each harm to each file of a folder in turn, and undoes it after test.
func damages(t *testing.T, dir string, test func(what string)) (files int) {
	t.Helper()
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		whole, err := os.ReadFile(path)
		check(t, err)
		for name, damage := range map[string]func() error{
			"bit":       func() error { b := bytes.Clone(whole); b[len(b)/2] ^= 1; return os.WriteFile(path, b, 0o600) },
			"cut":       func() error { return os.WriteFile(path, whole[:len(whole)-2], 0o600) }, // a line end less is no harm
			"more":      func() error { return os.WriteFile(path, append(bytes.Clone(whole), 0), 0o600) },
			"not there": func() error { return os.Remove(path) },
		} {
			check(t, damage())
			test(strings.TrimPrefix(path, dir) + ": " + name)
			check(t, os.WriteFile(path, whole, 0o600))
		}
		return nil
	}))
	return files
}

// N1: a bit in any file of the folder, or a file less, is found.
func TestN1EveryTileCounts(t *testing.T) {
	w, dir := inTiles(t, 0)
	if n := damages(t, dir, func(what string) {
		if r, err := readTiles(w, dir); err == nil && r.Verdict() == verify.HoldsTo {
			t.Errorf("%s is not found", what)
		}
	}); n != 4 { // checkpoint, rest, bundle, hashes
		t.Errorf("%d files", n)
	}
	wantClean(t, verifyTiles(t, w, dir))
}

// With more than one bundle, and without looking at signatures: what comes out is the
// export that went in, or the reader names the file that is not right.
func TestTilesGiveBackTheExport(t *testing.T) {
	w, dir := inTiles(t, 260)
	want := joined(w.export())
	read := func() (string, []string) {
		r, err := tiles.Open(dir)
		if err != nil {
			return "", nil
		}
		defer r.Close()
		raw, err := io.ReadAll(r)
		if err != nil {
			return "", nil
		}
		return string(raw), r.Bad()
	}
	if got, bad := read(); got != want || bad != nil {
		t.Errorf("%d bytes of %d, bad %v", len(got), len(want), bad)
	}
	if n := damages(t, dir, func(what string) {
		if got, bad := read(); got == want && bad == nil {
			t.Errorf("%s is not found", what)
		}
	}); n != 7 { // checkpoint, rest, two bundles, two tiles of hashes, one above
		t.Errorf("%d files", n)
	}
}

// An export that broke off makes no folder that looks whole.
func TestTilesOfACutExport(t *testing.T) {
	w := brief(t)
	lines := w.export()
	for name, l := range map[string][]string{
		"empty": nil, "no end": lines[:len(lines)-1], "in a line": {joined(lines[:5]), lines[6][:40]}, "no checkpoint": append(lines[:len(lines)-2:len(lines)-2], lines[len(lines)-1]),
		"entry missing": append(lines[:6:6], lines[7:]...), "no json": {"hello\n"},
	} {
		dir := filepath.Join(t.TempDir(), "log")
		if err := tiles.Write(dir, strings.NewReader(joined(l))); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	dir := t.TempDir()
	if err := tiles.Write(dir, strings.NewReader(joined(lines))); err == nil {
		t.Error("written over a folder")
	}
	if _, err := readTiles(w, dir); err == nil {
		t.Error("an empty folder is an export")
	}
}

// Entries of the largest size fit the two bytes of a bundle's lengths.
func TestLargestEntryFitsABundle(t *testing.T) {
	if n := entry.MaxSize*4/3 + 1024; n > 1<<16-1 { // in base64, with what stands around it
		t.Errorf("an entry may have %d bytes", n)
	}
}

// FuzzBundle puts anything in the place of a bundle: the reader ends, and gives the
// export back only for the bundle that was written.
func FuzzBundle(f *testing.F) {
	w, dir := inTiles(f, 0)
	path := filepath.Join(dir, tree.TilePath(tree.EntriesLevel, 0, len(w.rows.entries)))
	whole, err := os.ReadFile(path)
	check(f, err)
	want := joined(w.export())
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, bundle []byte) {
		check(t, os.WriteFile(path, bundle, 0o600))
		r, err := tiles.Open(dir)
		check(t, err)
		defer r.Close()
		raw, err := io.ReadAll(r)
		check(t, err)
		if string(raw) == want && r.Bad() == nil != bytes.Equal(bundle, whole) {
			t.Errorf("a bundle of %d bytes passes for another", len(bundle))
		}
	})
}
