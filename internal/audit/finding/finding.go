// Package finding is what does not hold in an export of a log, one thing at a time, as a
// verifier comes upon it.
//
// Source: protocol 5.4; attack N1.
package finding

import "fmt"

// Finding is one thing that does not hold.
type Finding struct {
	Entry  int64  // index of the entry, or the first of a range; -1 when no entry is meant
	Last   int64  // last index of the range; equal to Entry for one entry
	Code   Code   // what kind it is
	Detail string // in our own words, without anything from the log
	Trace  Trace  // what it tells of entries that are not in their places
}

// Trace is what a finding tells of entries that are not in their places. The zero value
// tells nothing.
type Trace struct {
	// Of a BadOrder or ChainGap: how many entries are missing before Entry, in a count
	// of which After was the one before, -1 for none; and the number of the first that
	// is missing.
	Missing int64
	After   int64
	First   int64

	// Fills is 1 and the index, among the findings, of the one that missed this entry,
	// which came later than it should.
	Fills int

	// Again: the entry's number was there before.
	Again bool

	// Own: the signer itself signed another entry in the place of this one, which its
	// signatures prove: nobody else did anything to the log.
	Own bool

	// Unreadable: something stands here that nobody of the team signed.
	Unreadable bool

	// Head: a part of the head is missing or broken, and Entry to Last, unless -1, are the
	// first and last entry that cannot be checked without it. It accuses none of them.
	Head bool

	// Without is 1 and the index of the finding of a part of the head without which this
	// cannot be judged.
	Without int

	// Short is how many entries fewer there are before this place than was promised,
	// negative for more. By tells whose promise it was.
	Short int64
	By    Promise
}

// Promise is where it stands how many entries there have to be.
type Promise int

// The promises.
const (
	ByCheckpoint Promise = 1 + iota // in the export, right behind the entries
	ByEnd                           // the last line of the export
	ByMemory                        // a checkpoint that the reader remembers
)

// String is one line for people.
func (f Finding) String() string {
	return fmt.Sprintf("%s%s: %s", Where(f.Entry, f.Last), f.Code, f.Detail)
}

// Where names an entry, a range, or with first below 0 nothing, with a colon behind it:
// what a line for people begins with.
func Where(first, last int64) string {
	switch {
	case first < 0:
		return ""
	case last > first:
		return fmt.Sprintf("entries %d to %d: ", first, last)
	}
	return fmt.Sprintf("entry %d: ", first)
}

// Code is the stable name of one kind of finding.
type Code string

// The findings.
const (
	BadLine         Code = "bad_line"         // not a line of an export, or not where it belongs
	BadOrder        Code = "bad_order"        // an entry's index is not the next one
	BadEntry        Code = "bad_entry"        // signature, encoding or team of an entry
	BadSigner       Code = "bad_signer"       // signer unknown, revoked at that time, or of a role that cannot say this
	BadHost         Code = "bad_host"         // an agent's certificate or registration, or they are missing
	ChainGap        Code = "chain_gap"        // entries of one signer are missing before this one
	ChainFork       Code = "chain_fork"       // two entries with one number, or the order turned round
	HeadMissing     Code = "head_missing"     // an agent signed a later head than its last entry here
	DuplicateID     Code = "duplicate_id"     // an id that an earlier entry has
	BadTime         Code = "bad_time"         // out of order with its neighbours
	BadSession      Code = "bad_session"      // a session that ends without a start, or starts twice
	ApprovalMissing Code = "approval_missing" // a command that needed approvals has too few that hold
	ApprovalInvalid Code = "approval_invalid" // one that does not hold, or is for another command
	BadCheckpoint   Code = "bad_checkpoint"   // signature or place of a checkpoint
	BadCosignature  Code = "bad_cosignature"  // one in the name of a key of the team that does not hold
	BadTile         Code = "bad_tile"         // a tile is not what the entries give, or is missing
	RootMismatch    Code = "root_mismatch"    // the entries are not those that were signed
	Truncated       Code = "truncated"        // entries that a checkpoint or the end line promises are missing
	Outdated        Code = "outdated"         // the export is whole and older than a checkpoint that the reader remembers, or than the entries that it expects
	NotCovered      Code = "not_covered"      // entries behind the last checkpoint
	BadRoster       Code = "bad_roster"       // a version that entries name is missing in the chain, or one does not follow
)
