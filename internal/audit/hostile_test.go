package audit_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
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
