package audit_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/diagnosis"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/export"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// wantCauses fails unless every finding has one cause and the first cause is that, with
// the entry in its range.
func wantCauses(t *testing.T, name string, r verify.Report, kind diagnosis.Kind, at int64) {
	t.Helper()
	causes := r.Causes()
	seen := make([]int, len(r.Findings))
	for _, c := range causes {
		for _, i := range c.Findings {
			seen[i]++
		}
		if len(c.Findings) == 0 {
			t.Errorf("%s: a cause of nothing: %v", name, c)
		}
	}
	if slices.ContainsFunc(seen, func(n int) bool { return n != 1 }) {
		t.Errorf("%s: causes of the findings: %v", name, seen)
	}
	if len(causes) == 0 || causes[0].Kind != kind || at < causes[0].Entry || at > causes[0].Last {
		t.Errorf("%s: want %s at %d, got %v\nof %v", name, kind, at, causes, r.Findings)
	}
}

// exactly fails unless the first cause is all there is and names one entry.
func exactly(t *testing.T, name string, r verify.Report) {
	t.Helper()
	if causes := r.Causes(); len(causes) != 1 || causes[0].Entry != causes[0].Last {
		t.Errorf("%s: %v\nof %v", name, causes, r.Findings)
	}
}

// N1: each manipulation of each entry in turn is found where it was done, and what was
// done is named first, also when the lines were numbered anew; with their old numbers
// exactly and as the one thing that was done.
func TestN1EachEntryInTurn(t *testing.T) {
	w := brief(t)
	lines := w.export()
	at := entryLines(lines)
	foreign := string(w.forged(t))
	note := w.checkpointOf(lines)
	for n := range at {
		// looked verifies what became of the lines: it is not clean, and a finding is at
		// the n-th entry or the next.
		looked := func(what string, l []string, known ...string) verify.Report {
			r := w.verify(l, known...)
			if r.Verdict() == verify.HoldsTo || r.Verdict() == verify.Holds {
				t.Errorf("%s %d is not found", what, n)
			} else if !slices.ContainsFunc(r.Findings, func(f finding.Finding) bool { return f.Entry <= int64(n)+1 && int64(n) <= f.Last }) {
				t.Errorf("%s %d is found elsewhere: %v", what, n, r.Findings)
			}
			return r
		}
		done := func(what string, l []string, kind diagnosis.Kind, entry int, known ...string) verify.Report {
			r := looked(what, l, known...)
			wantCauses(t, fmt.Sprint(what, " ", n), r, kind, int64(entry))
			return r
		}
		edit := slices.Clone(lines)
		edit[at[n]] = edited(edit[at[n]])
		exactly(t, fmt.Sprint("edit ", n), done("edit", edit, diagnosis.WasEdited, n, note))

		gone := slices.Delete(slices.Clone(lines), at[n], at[n]+1)
		if n+1 < len(at) { // the last one has no number behind it
			exactly(t, fmt.Sprint("delete ", n), done("delete", gone, diagnosis.WasDeleted, n, note))
		}
		done("delete and renumber", renumber(gone), diagnosis.WasDeleted, n, note)

		inserted := slices.Insert(slices.Clone(lines), at[n], fmt.Sprintf("{\"index\":%d,\"entry\":%s}\n", n, foreign))
		exactly(t, fmt.Sprint("insert ", n), done("insert", inserted, diagnosis.WasInserted, n, note))
		done("insert and renumber", renumber(inserted), diagnosis.WasInserted, n, note)

		doubled := slices.Insert(slices.Clone(lines), at[n]+1, lines[at[n]])
		done("double", doubled, diagnosis.WasInserted, n+1, note)
		done("double and renumber", renumber(doubled), diagnosis.WasInserted, n+1, note)

		looked("cut off and end", append(slices.Clone(lines[:at[n]]), fmt.Sprintf("{\"end\":%d}\n", n)), note)
		if n > 0 {
			done("cut off", append(slices.Clone(lines[:at[n]]), lines[len(lines)-1]), diagnosis.WasTruncated, n)
			done("cut off without an end", lines[:at[n]], diagnosis.WasTruncated, n, note)
		}
		for _, to := range []int{n + 1, n + 4} {
			if to >= len(at) {
				continue
			}
			moved := slices.Delete(slices.Clone(lines), at[n], at[n]+1)
			moved = slices.Insert(moved, at[to], lines[at[n]])
			for what, l := range map[string][]string{"move": moved, "move and renumber": renumber(moved)} {
				done(fmt.Sprint(what, " to ", to, " of"), l, diagnosis.WasReordered, n, note)
			}
		}
	}
}

// One line that is taken out makes a hundred others look wrong. They are told as what
// they are, and none pushes another finding out of the list.
func TestN1OneDeletedEntryIsOneCause(t *testing.T) {
	w := newWorld(t)
	m := w.agents[0]
	id := wire.NewSessionID()
	w.say(m, entry.Entry{Type: entry.SessionAccept, Session: id})
	for range 10 {
		for range 12 {
			w.sayOnly(m, entry.Entry{Type: entry.ChannelOpen, Session: id})
		}
		w.deliver(m)
		w.checkpoint()
	}
	w.say(m, entry.Entry{Type: entry.SessionEnd, Session: id})
	w.register(m)
	w.pass(time.Hour)
	w.record(entry.Entry{Type: entry.AuditExport})
	lines := w.export()
	for name, change := range map[string]func([]string) []string{"as it was": slices.Clone[[]string], "numbered anew": renumber} {
		at := entryLines(lines)[3]
		r := w.verify(change(slices.Delete(slices.Clone(lines), at, at+1)))
		wantCauses(t, name, r, diagnosis.WasDeleted, 3)
		if len(r.Causes()) != 1 {
			t.Errorf("%s: %v", name, r.Causes())
		}
		counts := map[finding.Code]int{}
		for _, f := range r.Findings {
			counts[f.Code]++
		}
		if counts[finding.BadSession] != 121 || counts[finding.BadOrder] > 1 || counts[finding.Truncated] > 2 {
			t.Errorf("%s: %v", name, counts)
		}
	}
}

// Two things that were done are two causes, in the order of the log.
func TestN1TwoManipulationsAreTwoCauses(t *testing.T) {
	w := busy(t)
	lines := w.export()
	at := entryLines(lines)
	l := slices.Clone(lines)
	l[at[2]] = edited(l[at[2]])
	l = slices.Delete(l, at[7], at[7]+1)
	r := w.verify(l)
	wantCauses(t, "both", r, diagnosis.WasEdited, 2)
	if c := r.Causes(); len(c) != 2 || c[1].Kind != diagnosis.WasDeleted || c[1].Entry != 7 || c[1].Last != 7 {
		t.Errorf("%v\nof %v", c, r.Findings)
	}
}

// What has nothing to do with a manipulation stays a cause of its own, and so does what
// was never one.
func TestFindingsOfTheirOwnAreNoConsequences(t *testing.T) {
	w := newWorld(t)
	w.record(entry.Entry{Type: entry.RosterPublish, RosterVersion: 7}) // 3
	w.say(w.agents[0], entry.Entry{Type: entry.AgentStart})
	w.say(w.agents[0], entry.Entry{Type: entry.AgentStop})
	w.record(entry.Entry{Type: entry.AuditExport})
	lines := w.export()
	wantCauses(t, "a roster that is not there", w.verify(lines), diagnosis.Kind(finding.BadRoster), 3)
	at := entryLines(lines)[4]
	r := w.verify(slices.Delete(slices.Clone(lines), at, at+1))
	wantCauses(t, "and a deleted entry", r, diagnosis.Kind(finding.BadRoster), 3)
	if c := r.Causes(); len(c) != 2 || c[1].Kind != diagnosis.WasDeleted || c[1].Entry != 4 {
		t.Errorf("%v", c)
	}
	lying, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: w.log.Origin(), Head: tree.Head{Size: 7, Root: key.Hash{1}}}, w.server)
	check(t, err)
	raw, err := json.Marshal(export.Line{Checkpoint: lying})
	check(t, err)
	last := len(lines) - 2
	if !strings.HasPrefix(lines[last], `{"checkpoint":`) {
		t.Fatal(lines[last])
	}
	r = w.verify(slices.Insert(slices.Clone(lines), last, string(raw)+"\n"))
	if c := r.Causes(); len(c) != 2 || c[1].Kind != diagnosis.Kind(finding.RootMismatch) && c[0].Kind != diagnosis.Kind(finding.RootMismatch) {
		t.Errorf("a checkpoint that lies among good ones: %v", c)
	}
}

// Numbers of lines are signed by nobody: where they alone are wrong nothing is missing.
func TestLinesThatAreNumberedWrongAreNoManipulation(t *testing.T) {
	w := busy(t)
	lines := w.export()
	for i, l := range lines {
		if rest, ok := strings.CutPrefix(l, `{"index":5,`); ok {
			lines[i] = `{"index":500,` + rest
		}
	}
	r := w.verify(lines)
	wantCauses(t, "numbers", r, diagnosis.Kind(finding.BadOrder), 5)
	if len(r.Causes()) != 1 {
		t.Errorf("%v", r.Causes())
	}
}

// A log that is another one than the one that was seen is called so, not changed.
func TestAnotherLogIsNamedAsOne(t *testing.T) {
	w := newWorld(t)
	w.record(entry.Entry{Type: entry.Login, Actor: entry.Actor{Email: "mallory@example.org"}})
	note := w.checkpoint()
	v := newWorld(t)
	v.record(entry.Entry{Type: entry.Login})
	wantCauses(t, "another log", v.verify(v.export(), note), diagnosis.WasForked, 3)
}

// Nothing that stands in an export makes the sums of its findings overflow, or its
// memory grow.
func TestHugeNumbersStayNumbers(t *testing.T) {
	w := brief(t)
	lines := w.export()
	for _, n := range []string{"9223372036854775807", "-9223372036854775808", "1125899906842624"} {
		l := slices.Clone(lines)
		for k, i := range entryLines(l) {
			if k%2 == 0 {
				_, rest, _ := strings.Cut(l[i], ",")
				l[i] = `{"index":` + n + "," + rest
			}
		}
		l[len(l)-1] = `{"end":` + n + "}\n"
		r := w.verify(l)
		for _, c := range r.Causes() {
			if c.Last < c.Entry {
				t.Errorf("%s: %v", n, c)
			}
		}
	}
}
