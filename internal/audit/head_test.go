package audit_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/diagnosis"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/ledger"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// renewed is brief with three rosters, the last of which some entries name.
func renewed(t testing.TB) *world {
	w := brief(t)
	w.grow(func(*roster.Roster) {})
	w.grow(func(*roster.Roster) {})
	for _, m := range w.agents {
		w.say(m, entry.Entry{Type: entry.AgentStart, RosterVersion: 3})
		w.register(m)
	}
	w.checkpoint()
	w.pass(time.Hour)
	w.record(entry.Entry{Type: entry.AuditExport, RosterVersion: 3})
	return w
}

// onlyCause fails unless one cause explains all, of that kind and with these words.
func onlyCause(t *testing.T, name string, r verify.Report, kind diagnosis.Kind, words ...string) {
	t.Helper()
	c := r.Causes()
	if len(c) != 1 || c[0].Kind != kind || len(c[0].Findings) != len(r.Findings) || r.Verdict() != verify.Broken {
		t.Errorf("%s: %v\nof %v", name, c, r.Findings)
		return
	}
	for _, want := range words {
		if !strings.Contains(c[0].Detail, want) {
			t.Errorf("%s: %q says nothing of %q", name, c[0].Detail, want)
		}
	}
}

// N1: whoever takes a line from the head, or breaks it, has edited no entry. The line is
// named, and the entries are counted that cannot be checked without it.
func TestN1HeadThatLacksALine(t *testing.T) {
	w := renewed(t)
	lines := w.export()
	note := w.checkpointOf(lines)
	wantClean(t, w.verify(lines, note))
	is := kinds(t, lines)
	rosters, agents := slices.Index(is, "roster"), slices.Index(is, "agent")
	without := func(at int) []string { return slices.Delete(slices.Clone(lines), at, at+1) }
	with := func(at int, line string) []string {
		l := slices.Clone(lines)
		l[at] = line
		return l
	}
	misspelt := func(at int) []string { return with(at, strings.Replace(lines[at], `{"`, `{"X`, 1)) }
	agent, first := w.agents[0].key.ID().ShortCode(), w.agents[1].key.ID().ShortCode()
	badHost, badRoster, badLine := diagnosis.Kind(finding.BadHost), diagnosis.Kind(finding.BadRoster), diagnosis.Kind(finding.BadLine)
	for name, c := range map[string]struct {
		lines []string
		kind  diagnosis.Kind
		words []string
	}{
		"first agent deleted":    {without(agents), badHost, []string{"agent " + agent, "6 of these entries cannot be checked"}},
		"second agent deleted":   {without(agents + 1), badHost, []string{"agent " + first, "1 entry cannot be checked"}},
		"first agent misspelt":   {misspelt(agents), badLine, []string{fmt.Sprintf("line %d ", agents+1), "6 of these entries cannot"}},
		"second agent misspelt":  {misspelt(agents + 1), badLine, []string{fmt.Sprintf("line %d ", agents+2), "where a machine belongs", "1 entry cannot"}},
		"certificate edited":     {with(agents, swapped(lines[agents], lines[agents+1])), badHost, []string{"the certificate of an agent", "6 of these"}},
		"second roster deleted":  {without(rosters + 1), badRoster, []string{"roster version 2 is missing", fmt.Sprintf("line %d", rosters+2), "cannot be checked"}},
		"second roster misspelt": {misspelt(rosters + 1), badLine, []string{fmt.Sprintf("line %d ", rosters+2), "roster version 2", "cannot be checked"}},
		"second roster edited":   {with(rosters+1, edited(lines[rosters+1])), badRoster, []string{fmt.Sprintf("line %d ", rosters+2), "does not hold", "cannot be checked"}},
		"last roster deleted":    {without(rosters + 2), badRoster, []string{"roster version 3 is missing", "4 entries cannot be checked"}},
		"last roster misspelt":   {misspelt(rosters + 2), badLine, []string{fmt.Sprintf("line %d ", rosters+3), "roster version 3", "4 entries"}},
		"last two deleted":       {slices.Delete(slices.Clone(lines), rosters+1, rosters+3), badRoster, []string{"roster versions 2 to 3 are missing", "5 entries"}},
		"a line too many":        {slices.Insert(slices.Clone(lines), agents+1, "garbage\n"), badLine, []string{fmt.Sprintf("line %d ", agents+2)}},
		"a roster too many":      {slices.Insert(slices.Clone(lines), rosters+1, edited(lines[rosters+1])), badRoster, []string{"does not hold"}},
		"an agent too late":      {slices.Insert(without(agents), entryLines(lines)[3], lines[agents]), badHost, []string{"agent " + agent, "behind entry 3", "6 of these"}},
	} {
		onlyCause(t, name, w.verify(c.lines, note), c.kind, c.words...)
	}
}

// swapped is a line of an agent with the token of another.
func swapped(line, other string) string {
	_, ours, _ := strings.Cut(line, `"certificate"`)
	theirs, _, _ := strings.Cut(other, `"certificate"`)
	return theirs + `"certificate"` + ours
}

// What was done to entries as well is told behind the head, and nothing is said of the
// order of entries that cannot be checked.
func TestN1ManipulationBehindABrokenHead(t *testing.T) {
	w := brief(t)
	lines := w.export()
	agents, at := slices.Index(kinds(t, lines), "agent"), entryLines(lines)
	headless := func(l []string) []string { return slices.Delete(l, agents, agents+1) }
	mine := slices.Clone(lines)
	mine[at[3]] = edited(mine[at[3]])
	theirs := slices.Clone(lines)
	theirs[at[0]] = edited(theirs[at[0]])
	for name, c := range map[string]struct {
		lines []string
		kind  diagnosis.Kind
	}{
		"an entry that cannot be checked": {headless(mine), diagnosis.Kind(finding.RootMismatch)},
		"an entry that can":               {headless(theirs), diagnosis.WasEdited},
		"an entry that is gone":           {headless(slices.Delete(slices.Clone(lines), at[4], at[4]+1)), diagnosis.WasDeleted},
		"a later place":                   {headless(slices.Insert(slices.Clone(lines), at[4], "garbage\n")), diagnosis.Kind(finding.BadLine)},
		"a stranger's":                    {headless(slices.Insert(slices.Clone(lines), at[4], fmt.Sprintf("{\"index\":4,\"entry\":%s}\n", w.forged(t)))), diagnosis.WasInserted},
	} {
		r := w.verify(c.lines)
		wantCauses(t, name, r, diagnosis.Kind(finding.BadHost), r.Causes()[0].Entry)
		if causes := r.Causes(); len(causes) < 2 || causes[1].Kind != c.kind {
			t.Errorf("%s: %v\nof %v", name, causes, r.Findings)
		}
	}
}

// Where the first line that cannot be read may be one of the head or an entry, the
// number of the entry behind it decides.
func TestFirstEntryMisspeltIsNoLineOfTheHead(t *testing.T) {
	w := brief(t)
	lines := w.export()
	at := entryLines(lines)[0]
	lines[at] = strings.Replace(lines[at], `"entry"`, `"enter"`, 1)
	r := w.verify(lines)
	wantFinding(t, r, finding.BadLine, 0)
	wantCauses(t, "entry 0", r, diagnosis.WasDeleted, 0)
}

// A server's audit key that only a missing roster names has signed what cannot be checked.
func TestKeyOfAMissingRosterEditedNothing(t *testing.T) {
	w := brief(t)
	next := private[key.Audit](t, 6)
	w.grow(func(r *roster.Roster) { r.Servers[0].Keys.Audit = next.Public() })
	var err error
	w.log, err = ledger.New("rendezvous.example", w.state.Team(), next, w.server.Public())
	check(t, err)
	w.record(entry.Entry{Type: entry.Login})
	w.record(entry.Entry{Type: entry.Login})
	lines := w.export()
	wantClean(t, w.verify(lines))
	at := slices.Index(kinds(t, lines), "agent") - 1
	onlyCause(t, "the last", w.verify(slices.Delete(slices.Clone(lines), at, at+1)), diagnosis.Kind(finding.BadRoster), "roster version 2 is missing", "3 entries cannot")
	w.grow(func(*roster.Roster) {})
	lines = w.export()
	onlyCause(t, "one between", w.verify(slices.Delete(lines, at, at+1), w.checkpointOf(lines)), diagnosis.Kind(finding.BadRoster), "roster version 2 is missing", "4 entries cannot")
}

// What is no export is told from one whose beginning was changed, or is another team's.
func TestHeadThatProvesNothing(t *testing.T) {
	w := brief(t)
	lines := w.export()
	for name, c := range map[string]struct {
		lines []string
		want  error
	}{
		"another file":    {[]string{"hello\n"}, verify.ErrNotExport},
		"no root":         {slices.Delete(slices.Clone(lines), 1, 2), verify.ErrUnproved},
		"cut off":         {lines[:1], verify.ErrUnproved},
		"root edited":     {slices.Replace(slices.Clone(lines), 1, 2, edited(lines[1])), verify.ErrUnproved},
		"no roster":       {slices.Delete(slices.Clone(lines), 2, 3), verify.ErrUnproved},
		"roster misspelt": {slices.Replace(slices.Clone(lines), 2, 3, strings.Replace(lines[2], "roster", "rooster", 1)), verify.ErrUnproved},
		"roster edited":   {slices.Replace(slices.Clone(lines), 2, 3, edited(lines[2])), verify.ErrUnproved},
	} {
		_, err := verify.Export(strings.NewReader(joined(c.lines)), w.state.Fingerprint(), w.now)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := verify.Export(strings.NewReader(joined(lines)), key.Hash{1}, w.now); !errors.Is(err, verify.ErrUnproved) || !errors.Is(err, verify.ErrOtherRoot) {
		t.Errorf("other fingerprint: %v", err)
	}
}
