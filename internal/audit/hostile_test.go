package audit_test

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/export"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/policy/approval"
)

// cutBehindCheckpoint is an export that ends, with a true last line, behind its nth
// checkpoint; what its agents signed of their later entries is taken out.
func cutBehindCheckpoint(lines []string, n int) (cut []string, size int) {
	for _, l := range lines {
		if strings.HasPrefix(l, `{"agent":`) {
			at := strings.Index(l, `,"registration":`)
			l = l[:at] + "}}\n"
		}
		if cut = append(cut, l); strings.HasPrefix(l, `{"index":`) {
			size++
		}
		if strings.HasPrefix(l, `{"checkpoint":`) {
			if n--; n == 0 {
				break
			}
		}
	}
	return append(cut, fmt.Sprintf("{\"end\":%d}\n", size)), size
}

// N1: a third of the log is cut off behind a true checkpoint. What machines signed of
// their later entries would tell, so it is taken out as well: that tells, too.
func TestN1CutBehindACheckpointWithoutRegistrations(t *testing.T) {
	w := busy(t)
	cut, size := cutBehindCheckpoint(w.export(), 2)
	if size >= len(w.rows.entries) {
		t.Fatalf("%d of %d entries", size, len(w.rows.entries))
	}
	r := w.verify(cut)
	wantFinding(t, r, finding.BadHost, -1)
	if r.Verdict() != verify.Broken {
		t.Errorf("an agent without registration: %s", r.Verdict())
	}
}

// N1: where nobody signed anything later, the export up to an older checkpoint is one
// that the server made then. Only a remembered checkpoint of as many entries says that
// nothing was cut off.
func TestN1CutBehindACheckpointIsNotCalledWhole(t *testing.T) {
	w := newWorld(t)
	old := w.export()
	size := int64(len(w.rows.entries))
	w.record(entry.Entry{Type: entry.Login})
	whole := w.export()
	note := w.checkpoint()
	end := slices.IndexFunc(whole, func(l string) bool { return strings.HasPrefix(l, `{"checkpoint":`) })
	cut := append(slices.Clone(whole[:end+1]), fmt.Sprintf("{\"end\":%d}\n", size))
	before := w.rows.notes[0]
	for _, c := range []struct {
		what  string
		lines []string
		known []string
		want  verify.Verdict
	}{
		{"cut, nothing remembered", cut, nil, verify.HoldsTo},
		{"whole, nothing remembered", whole, nil, verify.HoldsTo},
		{"whole, less remembered", whole, []string{before}, verify.HoldsTo},
		{"whole, as many remembered", whole, []string{before, note}, verify.Holds},
		{"whole then", old, []string{before}, verify.Holds},
		{"cut, more remembered", cut, []string{note}, verify.Older},
	} {
		r := w.verify(c.lines, c.known...)
		if r.Verdict() != c.want {
			t.Errorf("%s: %s, %v", c.what, r.Verdict(), r.Findings)
		}
	}
}

// flood is a head and then one long line many times. It watches the most that the heap
// has while it is read, garbage included: that is what the machine has to have.
type flood struct {
	io.Reader
	before, most uint64 // bytes of the heap
}

func newFlood(head, line string, times int) *flood {
	parts := []io.Reader{strings.NewReader(head)}
	for range times {
		parts = append(parts, strings.NewReader(line))
	}
	f := &flood{Reader: io.MultiReader(parts...)}
	runtime.GC()
	f.before = heap()
	return f
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (f *flood) Read(p []byte) (int, error) {
	f.most = max(f.most, heap())
	return f.Reader.Read(p)
}

// N6: a few hundred kilobytes, packed, are lines of megabytes: neither one in the place
// of an entry, nor many that are as long as a line may be, take memory for more than a
// batch.
func TestN6LongLinesTakeNoMemory(t *testing.T) {
	w := newWorld(t)
	all := w.export()
	head := joined(all[:entryLines(all)[0]])
	junk := strings.Repeat("x", export.MaxBodyLine-100) + "\n" // as large in a batch, and no work to decode
	long := func(n int) string { return `{"checkpoint":"` + strings.Repeat("x", n) + "\"}\n" }
	for _, c := range []struct {
		what    string
		head    string
		line    string
		times   int
		refused bool
	}{
		{"as long as a roster", head, long(export.MaxLine - 100), 12, true},
		{"as long as a roster, behind an entry", head + all[entryLines(all)[0]], long(export.MaxLine - 100), 12, true},
		{"an agent as long as a roster", head, `{"agent":{"token":"` + strings.Repeat("x", export.MaxBodyLine) + "\"}}\n", 1, true},
		{"as long as a line may be", head, long(export.MaxBodyLine-100) + strings.Repeat(junk, 4), 56, false},
	} {
		in := newFlood(c.head, c.line, c.times)
		_, err := verify.Export(in, w.state.Fingerprint(), w.now)
		if (err != nil) != c.refused {
			t.Errorf("%s: %v", c.what, err)
		}
		if took := int64(in.most) - int64(in.before); took > 48<<20 {
			t.Errorf("%s: %d MiB", c.what, took>>20)
		}
	}
}

// The longest approval and the longest entry fit a line that is no roster.
func TestLongestStatementsFitALine(t *testing.T) {
	for _, n := range []int{approval.Approval{}.Kind().MaxSize, entry.Entry{}.Kind().MaxSize} {
		if n*4/3+4<<10 > export.MaxBodyLine {
			t.Errorf("a statement of %d bytes", n)
		}
	}
}
