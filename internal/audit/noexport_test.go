package audit_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
)

func TestWhatIsNoExport(t *testing.T) {
	w := brief(t)
	lines := w.export()
	other := newWorld(t)
	for name, l := range map[string][]string{
		"empty": {}, "text": {"hello\n"}, "json": {"{}\n"}, "only a head": lines[:1], "no roster": lines[:2],
		"no root": append([]string{lines[0]}, lines[2:]...), "entries first": lines[5:],
		"other format": append([]string{strings.Replace(lines[0], "v1", "v2", 1)}, lines[1:]...),
		"other origin": append([]string{strings.Replace(lines[0], "/audit/07", "/audit/08", 1)}, lines[1:]...),
	} {
		if r, err := verify.Export(strings.NewReader(joined(l)), w.state.Fingerprint(), w.now); err == nil {
			t.Errorf("%s: no error, report %+v", name, r)
		}
	}
	if _, err := verify.Export(strings.NewReader(joined(lines)), key.Hash{1}, w.now); !errors.Is(err, verify.ErrOtherRoot) {
		t.Errorf("other fingerprint: %v", err)
	}
	if _, err := verify.Export(strings.NewReader(joined(lines)), w.state.Fingerprint(), w.now, "nonsense"); err == nil {
		t.Error("a remembered checkpoint that is none: no error")
	}
	if _, err := verify.Export(io.MultiReader(strings.NewReader(joined(lines)), broken{}), w.state.Fingerprint(), w.now); err == nil {
		t.Error("a read error is swallowed")
	}
	wantClean(t, other.verify(other.export()))
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("disk") }

func TestLinesThatDoNotBelong(t *testing.T) {
	w := brief(t)
	lines := w.export()
	at := entryLines(lines)[3]
	for name, extra := range map[string]string{
		"garbage": "garbage\n", "root": lines[1], "host": lines[3], "unknown": "{\"x\":1}\n", "two values": "{\"end\":1}{\"end\":1}\n", "blank": "\n",
		"null": "{\"entry\":null}\n", "number": "7\n",
	} {
		r := w.verify(slices.Insert(slices.Clone(lines), at, extra))
		if len(r.Findings) != 1 || r.Findings[0].Code != finding.BadLine || r.Findings[0].Entry != 3 {
			t.Errorf("%s: %v", name, r.Findings)
		}
	}
	r := w.verify(append(slices.Clone(lines), lines[at]))
	wantFinding(t, r, finding.BadLine, r.Size)
	wantFinding(t, w.verify(lines[:len(lines)-1]), finding.Truncated, r.Size)
	end := slices.Clone(lines)
	end[len(end)-1] = "{\"end\":3}\n"
	wantFinding(t, w.verify(end), finding.Truncated, r.Size)
	many := slices.Repeat([]string{"garbage\n"}, verify.MaxFindings+5)
	if r := w.verify(append(slices.Clone(lines), many...)); len(r.Findings) != verify.MaxFindings || r.More != 5 || r.Verdict() != verify.Broken {
		t.Errorf("%d findings and %d more", len(r.Findings), r.More)
	}
}
