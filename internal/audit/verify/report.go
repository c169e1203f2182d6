package verify

import (
	"fmt"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/diagnosis"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Report is what Export found.
type Report struct {
	Team          wire.TeamID          // as its root says
	Fingerprint   key.Hash             // that the reader gave
	Origin        string               // name of the log (protocol 5.1)
	Size          int64                // entries read
	Root          key.Hash             // of all of them
	RosterVersion uint64               // newest in the export
	Hosts         int                  // agents that are proven
	People        int                  // persons of the newest roster in the export
	Checkpoints   int                  // that hold
	Written       int                  // checkpoints that the export has, also those that do not hold or could not be compared
	Seen          int64                // entries of the newest checkpoint that the reader remembers, 0 for none
	Cosigners     int                  // who saw the newest checkpoint that holds, as CosignedCheckpoint counts
	Cosigned      []CosignedCheckpoint // by size, the newest last
	OpenSessions  int                  // accepted and not ended
	Gaps          int                  // that agents marked themselves: their spool was full, or its disk failed
	Behind        int                  // agents that claim entries which may still be on their way
	Covered       int64                // entries under the newest checkpoint that holds
	Findings      []finding.Finding    // what does not hold, at most MaxFindings, in the order in which it was found
	More          int                  // findings beyond MaxFindings
}

// CosignedCheckpoint is a checkpoint that somebody besides the server has seen, with
// how many did: agents by their keys, operators by the persons that they are.
type CosignedCheckpoint struct {
	Size      int64 // entries under it
	Cosigners int   // how many, from 1
}

// maxCosigned is how many of them a report lists, the newest; our choice, as many as
// a server keeps.
const maxCosigned = 1000

// Verdict is what a report says of the log in one word; scripts may rely on them.
type Verdict string

// The verdicts.
const (
	Holds   Verdict = "holds"          // nothing was found, and the reader remembers that the log ends no earlier than here
	HoldsTo Verdict = "holds_up_to"    // nothing was found up to the last entry; whether that is the end the reader cannot know
	Forked  Verdict = "machine_forked" // nothing was done to it, and a machine signed two chains of its own: Causes has diagnosis.MachineForked, and Older's finding perhaps
	Older   Verdict = "outdated"       // it is whole in itself, and the reader has seen, or expects, a later state: finding.Outdated and nothing else
	Broken  Verdict = "broken"         // something else was found
)

// Verdict sums up the findings. An export that was cut behind any of its checkpoints is
// one that the server could have made then: only a checkpoint from elsewhere, of as
// many entries, tells a whole one from that.
func (r *Report) Verdict() Verdict {
	verdict := Holds
	if r.Seen == 0 || r.Seen < r.Size {
		verdict = HoldsTo
	}
	for _, f := range r.Findings {
		switch {
		case f.Trace.Own:
			verdict = Forked
		case f.Code != finding.Outdated:
			return Broken
		case verdict != Forked:
			verdict = Older
		}
	}
	if r.More > 0 {
		return Broken
	}
	return verdict
}

// Expect takes what the reader was told from elsewhere: that the log has at least so
// many entries. An export that is whole and has fewer was cut behind one of its
// checkpoints, or is older than that: finding.Outdated, since nothing in it tells which.
func (r *Report) Expect(entries int64) {
	if entries <= r.Size {
		return
	}
	if len(r.Findings) >= MaxFindings {
		r.More++
		return
	}
	r.Findings = append(r.Findings, finding.Finding{Entry: r.Size, Last: entries - 1, Code: finding.Outdated,
		Detail: fmt.Sprintf("the export ends with %d entries, and %d are expected: what is missing was cut off, or came later", r.Size, entries)})
}

// Causes says what was done to the log, the first thing to look at first: deleting one
// entry is found in many places.
func (r *Report) Causes() []diagnosis.Cause { return diagnosis.Causes(r.Findings, r.Size, r.Covered) }

// BadTiles adds files of a folder (tiles.Reader.Bad) that are not what the entries
// give, so that what a generic reader finds there is what was verified.
func (r *Report) BadTiles(paths []string) {
	for _, path := range paths {
		r.Findings = append(r.Findings, finding.Finding{Entry: -1, Last: -1, Code: finding.BadTile, Detail: path + " is not what the entries give, or is missing"})
	}
}

// MaxFindings is how many findings a report lists; the rest is counted.
const MaxFindings = 1000
