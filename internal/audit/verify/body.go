package verify

import (
	"fmt"

	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// maxEvidenceLines is how many approvals may stand before one entry.
const maxEvidenceLines = entry.MaxApprovals

func (v *verifier) body(it *item) {
	l, next := it.line, v.tree.Size()
	switch {
	case v.ended:
		v.found(next, finding.BadLine, "a line after the end")
	case it.bad:
		v.found(next, finding.BadLine, "not a line of an export")
	case l.Entry != nil:
		v.entry(it)
	case l.Approval != nil:
		if len(v.approvals) < maxEvidenceLines {
			v.approvals = append(v.approvals, l.Approval)
		} else {
			v.found(next, finding.BadLine, "more than %d approvals before one entry", maxEvidenceLines)
		}
	case l.Checkpoint != "":
		v.checkpoint(l.Checkpoint)
	case l.End != nil:
		v.ended, v.claimedTotal = true, *l.End
	default:
		v.strayHead(l, next)
	}
}

// checkpoint compares what was signed with what was read.
func (v *verifier) checkpoint(signed string) {
	size := v.tree.Size()
	v.report.Written++
	c, kid, err := checkpoint.Open(signed, v.report.Origin, v.signers.AuditKeys()...)
	if err != nil {
		v.lacks.checkpoint = v.lacks.roster
		v.add(finding.Finding{Entry: size - 1, Last: size - 1, Code: finding.BadCheckpoint, Detail: err.Error(), Trace: v.lacks.roster.trace(finding.Trace{})})
		return
	}
	if _, err := v.history.Audit(kid, v.position().Time()); err != nil {
		v.found(size-1, finding.BadCheckpoint, "signed by a key that was not the log's then: %v", err)
		return
	}
	v.promised = max(v.promised, c.Size)
	before := v.short
	v.short = c.Size - size
	trace := finding.Trace{Short: bounded(v.short), By: finding.ByCheckpoint}
	switch {
	case v.short != 0 && v.short == before:
	case c.Size > size:
		v.add(finding.Finding{Entry: size, Last: c.Size - 1, Code: finding.Truncated, Trace: trace, Detail: fmt.Sprintf("a checkpoint of %d entries stands after %d", c.Size, size)})
	case c.Size < size:
		v.add(finding.Finding{Entry: size - 1, Last: size - 1, Code: finding.BadCheckpoint, Trace: trace, Detail: fmt.Sprintf("the checkpoint of %d entries stands after %d", c.Size, size)})
	case v.compare(c):
		v.cosigners(c, signed)
	}
}

// compare names the entries since the last checkpoint that held.
func (v *verifier) compare(c checkpoint.Checkpoint) bool {
	if v.tree.Root() == c.Root {
		v.covered = c.Size
		v.report.Checkpoints++
		return true
	}
	if !v.mismatch {
		v.mismatch = true
		v.add(finding.Finding{Entry: v.covered, Last: c.Size - 1, Code: finding.RootMismatch, Trace: finding.Trace{By: finding.ByCheckpoint},
			Detail: "one of these is not the entry that was signed, is missing or was put in"})
	}
	return false
}

// position is the time up to which the log has come, by the servers' own
// entries, which an agent cannot move.
func (v *verifier) position() wire.Millis {
	if v.serverTime == 0 {
		return v.aheadTime
	}
	return v.serverTime
}

// finish says what the export lacks at its end.
func (v *verifier) finish() {
	size := v.tree.Size()
	v.report.Size, v.report.Root, v.report.Covered, v.report.OpenSessions = size, v.tree.Root(), v.covered, len(v.sessions)
	switch {
	case !v.ended:
		v.found(size, finding.Truncated, "the export ends without its last line")
	case v.claimedTotal != size:
		v.add(finding.Finding{Entry: size, Last: size, Code: finding.Truncated, Trace: finding.Trace{Short: bounded(v.claimedTotal - size), By: finding.ByEnd},
			Detail: fmt.Sprintf("the export says that it has %d entries and has %d", v.claimedTotal, size)})
	}
	if v.covered < size && !v.mismatch {
		v.add(finding.Finding{Entry: v.covered, Last: size - 1, Code: finding.NotCovered, Detail: "no checkpoint covers these", Trace: v.lacks.checkpoint.trace(finding.Trace{})})
	}
	v.finishLacks()
	v.finishKnown(size)
	v.finishForks()
	v.finishAgents()
	v.ids.eachDouble(func(first, second int64) {
		v.found(second, finding.DuplicateID, "entry %d has the same id", first)
	})
}

// finishKnown compares the end with checkpoints of more entries that the reader
// remembers. An export that is whole by its own words, and claims no more than it
// has, is an old one; whether it is the beginning of what was seen nobody can tell
// without the entries in between. Anything else lost its tail.
func (v *verifier) finishKnown(size int64) {
	whole := v.ended && v.claimedTotal == size && v.covered == size && v.promised <= size
	for _, c := range v.known {
		switch {
		case c.Size <= size:
		case whole:
			v.foundRange(size, c.Size-1, finding.Outdated, "the export is whole and ends with %d entries; a checkpoint of %d is remembered", size, c.Size)
		default:
			v.add(finding.Finding{Entry: size, Last: c.Size - 1, Code: finding.Truncated, Trace: finding.Trace{Short: bounded(c.Size - size), By: finding.ByMemory},
				Detail: fmt.Sprintf("a checkpoint of %d entries is remembered", c.Size)})
		}
	}
}
