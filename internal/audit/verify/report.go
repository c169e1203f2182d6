package verify

import (
	"fmt"

	"github.com/tucdesk/tucdesk/crypto/key"
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
	Seen          int64                // entries of the newest checkpoint that the reader remembers, 0 for none
	Cosigners     int                  // who saw the newest checkpoint that holds, as CosignedCheckpoint counts
	Cosigned      []CosignedCheckpoint // by size, the newest last
	OpenSessions  int                  // accepted and not ended
	Gaps          int                  // that agents marked themselves: their spool was full, or its disk failed
	Behind        int                  // agents that claim entries which may still be on their way
	Findings      []Finding            // what does not hold, at most MaxFindings
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
	Holds  Verdict = "holds"    // nothing was found
	Older  Verdict = "outdated" // it is whole in itself, and the reader has seen a later state: Outdated and nothing else
	Broken Verdict = "broken"   // something else was found
)

// Verdict sums up the findings.
func (r *Report) Verdict() Verdict {
	verdict := Holds
	for _, f := range r.Findings {
		if f.Code != Outdated {
			return Broken
		}
		verdict = Older
	}
	if r.More > 0 {
		return Broken
	}
	return verdict
}

// BadTiles adds files of a folder (tiles.Reader.Bad) that are not what the entries
// give, so that what a generic reader finds there is what was verified.
func (r *Report) BadTiles(paths []string) {
	for _, path := range paths {
		r.Findings = append(r.Findings, Finding{-1, -1, BadTile, path + " is not what the entries give, or is missing"})
	}
}

// MaxFindings is how many findings a report lists; the rest is counted.
const MaxFindings = 1000

// Finding is one thing that does not hold.
type Finding struct {
	Entry  int64       // index of the entry, or the first of a range; -1 when no entry is meant
	Last   int64       // last index of the range; equal to Entry for one entry
	Code   FindingCode // what kind it is
	Detail string      // in our own words, without anything from the log
}

// String is one line for people.
func (f Finding) String() string {
	switch {
	case f.Entry < 0:
		return fmt.Sprintf("%s: %s", f.Code, f.Detail)
	case f.Last > f.Entry:
		return fmt.Sprintf("entries %d to %d: %s: %s", f.Entry, f.Last, f.Code, f.Detail)
	}
	return fmt.Sprintf("entry %d: %s: %s", f.Entry, f.Code, f.Detail)
}

// FindingCode is the stable name of one kind of finding.
type FindingCode string

// The findings.
const (
	BadLine         FindingCode = "bad_line"         // not a line of an export, or not where it belongs
	BadOrder        FindingCode = "bad_order"        // an entry's index is not the next one
	BadEntry        FindingCode = "bad_entry"        // signature, encoding or team of an entry
	BadSigner       FindingCode = "bad_signer"       // signer unknown, revoked at that time, or of a role that cannot say this
	BadHost         FindingCode = "bad_host"         // an agent's certificate or registration
	ChainGap        FindingCode = "chain_gap"        // entries of one signer are missing before this one
	ChainFork       FindingCode = "chain_fork"       // two entries with one number, or the order turned round
	HeadMissing     FindingCode = "head_missing"     // an agent signed a later head than its last entry here
	DuplicateID     FindingCode = "duplicate_id"     // an id that an earlier entry has
	BadTime         FindingCode = "bad_time"         // out of order with its neighbours
	BadSession      FindingCode = "bad_session"      // a session that ends without a start, or starts twice
	ApprovalMissing FindingCode = "approval_missing" // a command that needed approvals has too few that hold
	ApprovalInvalid FindingCode = "approval_invalid" // one that does not hold, or is for another command
	BadCheckpoint   FindingCode = "bad_checkpoint"   // signature or place of a checkpoint
	BadCosignature  FindingCode = "bad_cosignature"  // one in the name of a key of the team that does not hold
	BadTile         FindingCode = "bad_tile"         // a tile is not what the entries give, or is missing
	RootMismatch    FindingCode = "root_mismatch"    // the entries are not those that were signed
	Truncated       FindingCode = "truncated"        // entries that a checkpoint or the end line promises are missing
	Outdated        FindingCode = "outdated"         // the export is whole and older than a checkpoint that the reader remembers
	NotCovered      FindingCode = "not_covered"      // entries behind the last checkpoint
	BadRoster       FindingCode = "bad_roster"       // the entry names a version that the chain does not have
)
