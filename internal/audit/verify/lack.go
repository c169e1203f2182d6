package verify

import (
	"errors"
	"fmt"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/export"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/signers"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// lack is a part of the head that is missing or broken. Entries that cannot be judged
// for it are counted with it, in one finding: a line that was taken out of the head
// says nothing of those who signed, and of their entries nobody can say more.
type lack struct {
	what    string // is missing or broken
	listed  int    // 1 and the index of its finding, 0 without room for one
	entries int64  // that cannot be checked without it
}

// lacks is what the head does not have.
type lacks struct {
	all        []*lack                // that are listed
	roster     *lack                  // a version, and with it whatever builds on it
	host       *lack                  // a line that may have been any machine's
	agents     map[key.ID]*lack       // a machine's line, by the key that is said to be its
	targets    map[key.ID]bool        // machines that a server speaks of
	checkpoint *lack                  // for which a checkpoint could not be checked
	named      uint64                 // the newest roster that an entry names, of those that are not here
	broken     struct{ from, to int } // lines that could not be read and whose place is not known yet, counted from 1
}

func (v *verifier) lack(code finding.Code, format string, args ...any) *lack {
	l := &lack{what: fmt.Sprintf(format, args...), listed: v.foundNext()}
	v.add(finding.Finding{Entry: -1, Last: -1, Code: code, Detail: l.what, Trace: finding.Trace{Head: true}})
	if l.listed > 0 {
		v.lacks.all = append(v.lacks.all, l)
	}
	return l
}

// without counts an entry that cannot be checked without l.
func (v *verifier) without(l *lack, index int64) {
	l.entries++
	if l.listed == 0 {
		return
	}
	f := &v.report.Findings[l.listed-1]
	if f.Last = max(f.Last, index); f.Entry < 0 || index < f.Entry {
		f.Entry = index
	}
}

// trace marks what may be found only for want of l, which may be nil.
func (l *lack) trace(t finding.Trace) finding.Trace {
	if l != nil {
		t.Without = l.listed
	}
	return t
}

// addRoster follows the chain. Without its first version nothing means anything; a
// later one that does not follow ends nothing, as what the versions before it say is
// proved without it.
func (v *verifier) addRoster(line int, u wire.RosterUpdate) error {
	v.brokenBefore(true)
	founded := v.signers.Founded()
	err := v.signers.AddRoster(u)
	switch {
	case err == nil:
		v.lacks.roster = nil // what stood before this one was no part of the chain
	case !founded || errors.Is(err, signers.ErrOrder):
		return fmt.Errorf("%w: line %d: %w", ErrUnproved, line, err)
	case v.lacks.roster != nil: // follows from the one before it
	case refusal.Of(err) == refusal.Gap:
		_, newest := v.signers.Team()
		v.lacks.roster = v.lack(finding.BadRoster, "roster version %d is missing in the head: a later one stands in line %d", newest+1, line)
	default:
		v.lacks.roster = v.lack(finding.BadRoster, "the roster in line %d of the head does not hold: %v", line, err)
	}
	return nil
}

// addAgent takes an agent's statements. What does not hold in them is a finding.
func (v *verifier) addAgent(h export.Host) error {
	if !v.signers.Founded() {
		return errUnfounded
	}
	v.brokenBefore(false)
	problem, err := v.signers.AddAgent(h)
	if err != nil {
		return fmt.Errorf("reading the export: %w", err)
	}
	if problem == "" {
		return nil
	}
	claimed := signers.Claimed(h)
	switch {
	case v.signers.Agent(claimed) != nil: // it is proved, and its entries can be checked
		v.found(-1, finding.BadHost, "%s", problem)
	case v.lacks.roster != nil:
		v.add(finding.Finding{Entry: -1, Last: -1, Code: finding.BadHost, Detail: problem, Trace: v.lacks.roster.trace(finding.Trace{})})
		v.lackAgent(claimed, v.lacks.roster)
	default:
		v.lackAgent(claimed, v.lack(finding.BadHost, "%s", problem))
	}
	return nil
}

// lackAgent remembers what the entries of an agent lack. A key that is not said may be
// that of any machine.
func (v *verifier) lackAgent(claimed key.ID, l *lack) {
	switch {
	case l.listed == 0: // so there are no more than findings
	case claimed.IsZero():
		v.lacks.host = l
	default:
		v.lacks.agents[claimed] = l
	}
}

// unreadable takes a line that is none of an export, before it is known whether the
// head goes on behind it.
func (v *verifier) unreadable(line int) {
	b := &v.lacks.broken
	if b.to = line; b.from == 0 {
		b.from = line
	}
}

// brokenBefore says of the lines that could not be read that they are of the head, as
// something of the head stands behind them: a roster, or something that is none.
func (v *verifier) brokenBefore(roster bool) {
	b := v.lacks.broken
	if b.from == 0 {
		return
	}
	v.lacks.broken.from = 0
	lines := fmt.Sprintf("line %d", b.from)
	if b.to > b.from {
		lines = fmt.Sprintf("lines %d to %d", b.from, b.to)
	}
	_, newest := v.signers.Team()
	machines := len(v.signers.Agents()) > 0 || len(v.lacks.agents) > 0
	switch {
	case roster:
		v.lacks.roster = v.lack(finding.BadLine, "%s of the head, where roster version %d belongs, cannot be read", lines, newest+1)
	case machines:
		v.lacks.host = v.lack(finding.BadLine, "%s of the head, where a machine belongs, cannot be read", lines)
	default:
		v.lacks.host = v.lack(finding.BadLine, "%s of the head, where roster version %d or a machine belongs, cannot be read", lines, newest+1)
		v.lacks.roster = v.lacks.host
	}
}

// bodyFrom decides, by the first line of the body, where the lines before it that could
// not be read belong: an entry 0 shows that nothing of the body is missing before it.
func (v *verifier) bodyFrom(l export.Line) {
	if b := v.lacks.broken; b.from > 0 && (l.Entry == nil || l.Index == nil || *l.Index != 0) {
		for range b.to - b.from + 1 {
			v.found(0, finding.BadLine, "not a line of an export")
		}
		v.lacks.broken.from = 0
	}
	v.brokenBefore(false)
}

// strayHead is a line of the head behind it. A machine that it may prove is not believed
// there: who may sign is settled before the first entry is looked at.
func (v *verifier) strayHead(l export.Line, next int64) {
	claimed := key.ID{}
	if l.Agent != nil {
		claimed = signers.Claimed(*l.Agent)
	}
	if claimed.IsZero() || v.signers.Agent(claimed) != nil {
		v.found(next, finding.BadLine, "this line belongs to the head of an export")
		return
	}
	known := v.lacks.agents[claimed]
	if known == nil {
		known = v.lack(finding.BadHost, "")
		v.lackAgent(claimed, known)
	}
	known.what = fmt.Sprintf("the line of agent %s stands behind entry %d, not in the head", claimed.ShortCode(), next-1)
}

// unknown is an entry by a key that the head does not prove. It is nobody's of the team,
// unless the head lacks what may prove it.
func (v *verifier) unknown(index int64, kid key.ID) (lacking bool) {
	l := v.lacks.agents[kid]
	switch {
	case l != nil:
	case v.lacks.host != nil:
		l = v.lacks.host
	case v.lacks.targets[kid]:
		l = v.lack(finding.BadHost, "the head has no line of agent %s", kid.ShortCode())
		v.lackAgent(kid, l)
	case v.lacks.roster != nil:
		l = v.lacks.roster
	default:
		return false
	}
	v.without(l, index)
	return true
}

// beyond is an entry that names a roster which the chain does not come to.
func (v *verifier) beyond(index int64, version uint64) {
	newest := v.report.RosterVersion
	if v.lacks.roster == nil {
		v.lacks.roster = v.lack(finding.BadRoster, "")
		v.lacks.named = newest
	}
	if l := v.lacks.roster; v.lacks.named >= newest && version > v.lacks.named {
		v.lacks.named = version
		l.what = fmt.Sprintf("roster version %d is missing: the head ends with version %d", version, newest)
		if version > newest+1 {
			l.what = fmt.Sprintf("roster versions %d to %d are missing: the head ends with version %d", newest+1, version, newest)
		}
	}
	v.without(v.lacks.roster, index)
}

// finishLacks says how much cannot be checked. Who had signed by a key that only a
// missing roster names was not known before an entry named that roster.
func (v *verifier) finishLacks() {
	if l := v.lacks.roster; l != nil && l.listed > 0 {
		for i := range v.report.Findings {
			f := &v.report.Findings[i]
			if f.Code == finding.BadSigner && f.Trace.Unreadable {
				f.Trace.Without = l.listed
				v.without(l, f.Entry)
			}
		}
	}
	for _, l := range v.lacks.all {
		f := &v.report.Findings[l.listed-1]
		if f.Detail = l.what; l.entries > 0 {
			f.Detail += fmt.Sprintf("; %s cannot be checked without it", plural(l.entries, f.Last-f.Entry+1))
		}
	}
}

// plural is "1 entry" or "7 entries", and "3 of these entries" of more that are meant.
func plural(n, of int64) string {
	switch {
	case n < of:
		return fmt.Sprintf("%d of these entries", n)
	case n == 1:
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

// maxTargets bounds the machines that servers speak of, as many as a head may prove; our
// choice.
const maxTargets = 1 << 20

// target remembers that a server spoke of a machine, as it does of each that joins: what
// that machine signs is missed in the head, and nobody's who came from outside.
func (v *verifier) target(kid key.ID) {
	if !kid.IsZero() && len(v.lacks.targets) < maxTargets {
		v.lacks.targets[kid] = true
	}
}
