// Package diagnosis is what was done to a log that findings in its export tell of.
//
//	cause.go    edited, deleted, inserted, reordered, truncated: what explains findings
//	explain.go  which findings follow from which cause
//
// Source: protocol 5.4; attack N1.
package diagnosis

import (
	"fmt"

	"github.com/tucdesk/tucdesk/internal/audit/finding"
)

// Kind is what was done to a log, in one word; scripts may rely on them. What explains
// nothing else is a cause by itself, and its kind is the code of the finding.
type Kind string

// The kinds of what is done to a log.
const (
	WasEdited    Kind = "edited"    // an entry is not what was signed
	WasDeleted   Kind = "deleted"   // entries are missing
	WasInserted  Kind = "inserted"  // something stands there that is none of the log
	WasReordered Kind = "reordered" // entries are not in the places where they were
	WasTruncated Kind = "truncated" // the end is missing
	WasForked    Kind = "forked"    // it is another log than the one that was seen, or a signer has two chains

	// MachineForked is nothing that was done to the log, and explains nothing else in it: a
	// machine signed two chains, of which the log has one.
	MachineForked Kind = "machine_forked"
)

// Cause is something that was done to a log, with all findings that follow from it.
type Cause struct {
	Kind Kind

	// Entry and Last are the index that the entry had, or the range that it is in: of
	// what was deleted the places where it is missing, of the rest where it stands. Both
	// are -1 when no entry is meant.
	Entry, Last int64

	Detail   string // in our own words, without anything from the log
	Findings []int  // indexes of the findings, from the first on; none if another cause has what tells of both

	head      bool  // it is a part of the head, without which entries cannot be judged
	at, until int64 // where it is in the export
	count     int64 // entries that it took away, or brought
	left      int64 // of those, how many no signer's chain has missed yet
}

// String is one line for people.
func (c Cause) String() string {
	return fmt.Sprintf("%s%s: %s", finding.Where(c.Entry, c.Last), c.Kind, c.Detail)
}

// structural are causes that explain other findings.
func (c *Cause) structural() bool {
	switch c.Kind {
	case WasEdited, WasDeleted, WasInserted, WasReordered, WasTruncated, WasForked:
		return true
	}
	return false
}

// covers reports that an entry of the export is where the cause is.
func (c *Cause) covers(entry int64) bool { return c.at <= entry && entry <= c.until }

// took is by how many entries the export is shorter for it.
func (c *Cause) took() int64 {
	switch c.Kind {
	case WasDeleted, WasTruncated:
		return c.count
	case WasInserted:
		return -c.count
	}
	return 0
}

// Causes says what was done to a log of which an export has size entries, covered of
// them under a checkpoint that holds. list are the findings in the order in which they
// were made. Each is explained by one cause; the first cause is the first thing to look
// at.
//
// A cause is the simplest thing that explains its findings, no proof: who changed a log
// in two places may make the second look like something that follows from the first.
func Causes(list []finding.Finding, size, covered int64) []Cause {
	d := &diagnosis{list: list, size: size, covered: covered, taken: make([]bool, len(list))}
	d.heads()
	d.numbers()
	d.signers()
	d.twice()
	d.unreadable()
	d.sizes()
	d.roots()
	d.rest()
	return d.sorted()
}

// plural is "1 entry" or "7 entries".
func plural(n int64) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}
