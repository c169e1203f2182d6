//go:build unix

package audit_test

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/tiles"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
)

// inTime reads a folder of tiles, and fails when that does not come to an end.
func inTime(t *testing.T, w *world, dir, what string) (verify.Report, error) {
	t.Helper()
	type result struct {
		r   verify.Report
		err error
	}
	done := make(chan result, 1)
	go func() {
		r, err := readTiles(w, dir)
		done <- result{r, err}
	}()
	select {
	case got := <-done:
		return got.r, got.err
	case <-time.After(time.Minute):
		t.Fatalf("%s: it waits for ever", what)
		panic("unreachable")
	}
}

// N6: whoever hands over a folder can put anything in the place of a file of it. Nothing
// of it holds the verifier up or has it read what is elsewhere, and all of it is told.
func TestN6FolderWithoutFiles(t *testing.T) {
	w, dir := inTiles(t, 0)
	outside := filepath.Join(t.TempDir(), "outside")
	for _, name := range []string{
		"checkpoint", "export.jsonl",
		tree.TilePath(tree.EntriesLevel, 0, len(w.rows.entries)), tree.TilePath(0, 0, len(w.rows.entries)),
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		whole, err := os.ReadFile(path)
		check(t, err)
		check(t, os.WriteFile(outside, whole, 0o600))
		for what, put := range map[string]func() error{
			"a FIFO":                func() error { return syscall.Mkfifo(path, 0o600) },
			"a folder":              func() error { return os.Mkdir(path, 0o700) },
			"a link to a device":    func() error { return os.Symlink("/dev/zero", path) },
			"a link to what it was": func() error { return os.Symlink(outside, path) },
		} {
			check(t, os.Remove(path))
			check(t, put())
			if r, err := inTime(t, w, dir, name+": "+what); err == nil && r.Verdict() != verify.Broken {
				t.Errorf("%s: %s: %s", name, what, r.Verdict())
			} else if err == nil {
				wantFinding(t, r, finding.BadTile, -1)
			}
		}
		check(t, os.Remove(path))
		check(t, os.WriteFile(path, whole, 0o600))
	}
	wantClean(t, verifyTiles(t, w, dir))
}

// N6: a file without content may claim any size. Of the checkpoint no more is read than
// one can have.
func TestN6CheckpointOfGigabytes(t *testing.T) {
	_, dir := inTiles(t, 0)
	path := filepath.Join(dir, "checkpoint")
	for _, size := range []int64{checkpoint.MaxNote + 1, 256 << 20} {
		check(t, os.Truncate(path, size))
		before := allocated()
		if r, err := tiles.Open(dir); err == nil {
			_ = r.Close()
			t.Errorf("%d bytes are taken", size)
		}
		if took := allocated() - before; took > 4<<20 {
			t.Errorf("%d bytes took %d of memory", size, took)
		}
	}
}

// allocated is how many bytes were ever asked for.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
