// Package export is the whole log of a team in one file, with everything that is
// needed to check it elsewhere.
//
// An export is lines of JSON, each an object with one of these, in this order:
//
//	{"format":"tucdesk-audit-export-v1","origin":"…"}
//	{"root":<statement>}                      the team root
//	{"roster":<update>}                       each version, from 1
//	{"agent":{"token","certificate","registration"}}   each host that ever joined
//	{"approval":<statement>}                  right before the entry that names its hash
//	{"index":0,"entry":<statement>}           each entry, from 0
//	{"checkpoint":"<note>"}                   right after the entry that completes its size
//	{"end":42}                                the number of entries
//
// Nothing but the statements and notes is believed; the rest only says where
// things are. Approvals repeat a command as its approver saw it, so an export
// can hold secrets that the entries themselves never do (see package redact).
//
// Source: protocol 5.4.
package export

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Format is the first line's word for what this package writes.
const Format = "tucdesk-audit-export-v1"

// Lines of an export are bounded by what stands in them, in bytes: a reader keeps many
// of the body at once, and few bytes that were packed can be a long line.
const (
	MaxLine     = 8 << 20   // fits the largest roster with all its cosignatures
	MaxBodyLine = 256 << 10 // any other line; the longest is an approval, whose statement has up to 80 KiB before it is encoded
)

// Line is any line of an export; exactly one of its parts is set.
type Line struct {
	Format     string             `json:"format,omitempty"`     // the constant Format, in the first line
	Origin     string             `json:"origin,omitempty"`     // beside Format: the log's name (protocol 5.1)
	Root       statement.Signed   `json:"root,omitempty"`       // the team's root, in the second line
	Roster     *wire.RosterUpdate `json:"roster,omitempty"`     // one version, from 1 on
	Agent      *Host              `json:"agent,omitempty"`      // one machine that ever joined
	Approval   statement.Signed   `json:"approval,omitempty"`   // named by the next entry
	Index      *int64             `json:"index,omitempty"`      // beside Entry: its place in the log, from 0
	Entry      statement.Signed   `json:"entry,omitempty"`      // one entry.Entry
	Checkpoint string             `json:"checkpoint,omitempty"` // a note, right behind the entry that completes its size
	End        *int64             `json:"end,omitempty"`        // the number of entries, in the last line
}

// Host is what proves an agent's key and the end of its chain.
type Host struct {
	Token        statement.Signed `json:"token"`        // roster.Token
	Certificate  statement.Signed `json:"certificate"`  // roster.AgentCert
	Registration statement.Signed `json:"registration"` // the latest wire.Registration
}

// Source is where an export comes from: one team's database. Its calls need not
// see one state, since a log only grows.
type Source interface {
	// Root and Rosters return the team's root and the versions after from.
	Root() (statement.Signed, error)
	Rosters(from uint64) ([]wire.RosterUpdate, error)
	// Hosts returns up to limit agents, deleted ones too, whose key id follows
	// after, in that order, and the last one's id.
	Hosts(after key.ID, limit int) ([]Host, key.ID, error)
	// Entries returns the entries from index from to, not including, to.
	Entries(from, to int64) ([]statement.Signed, error)
	// Checkpoints returns up to limit notes of sizes above after, smallest first.
	Checkpoints(after int64, limit int) ([]string, error)
	// LastCheckpoint returns the note of the largest size, "" without any.
	LastCheckpoint() (string, error)
	// Cosignatures returns the cosignatures of checkpoints of sizes above after up to
	// last, by size, as signature lines. Those of the export's last checkpoint are
	// asked for when all else is written: who cosigns it has that long.
	Cosignatures(after, last int64) (map[int64][]string, error)
	// Approval returns the approval with that hash, nil when it is not there.
	Approval(hash key.Hash) (statement.Signed, error)
}

// page is how many rows one call of a Source asks for: with entries of
// the largest size 14 MB. Our choice.
const page = 256

// Write writes the log called origin, whose checkpoints are signed by one of keys, up
// to the newest of them, so sign one first. It runs beside further appends and needs
// memory for one page (attack N6).
func Write(w io.Writer, src Source, origin string, keys ...key.Public[key.Audit]) error {
	buffered := bufio.NewWriterSize(w, 64<<10)
	enc := json.NewEncoder(buffered)
	enc.SetEscapeHTML(false) // statements go out as they came in
	x := &exporter{origin: origin, keys: keys, src: src, out: buffered, enc: enc}
	if err := x.run(); err != nil {
		return fmt.Errorf("exporting the log: %w", err)
	}
	return buffered.Flush()
}

type exporter struct {
	origin string
	keys   []key.Public[key.Audit]
	src    Source
	out    *bufio.Writer
	enc    *json.Encoder
	size   int64
	notes  []string // checkpoints that come next
	after  int64    // size of the last checkpoint that was read
}

func (x *exporter) run() error {
	signed, err := x.src.LastCheckpoint() // first: everything up to it is there from now on
	if err != nil {
		return err
	}
	if signed != "" {
		c, _, err := checkpoint.Open(signed, x.origin, x.keys...)
		if err != nil {
			return err
		}
		x.size = c.Size
	}
	if err := x.head(); err != nil {
		return err
	}
	for from := int64(0); from < x.size; from += page {
		if err := x.some(from, min(from+page, x.size)); err != nil {
			return err
		}
	}
	return x.enc.Encode(Line{End: &x.size})
}

func (x *exporter) head() error {
	root, err := x.src.Root()
	if err != nil {
		return err
	}
	updates, err := x.src.Rosters(0)
	if err != nil {
		return err
	}
	if err := x.write(Line{Format: Format, Origin: x.origin}, Line{Root: root}); err != nil {
		return err
	}
	for i := range updates {
		if err := x.write(Line{Roster: &updates[i]}); err != nil {
			return err
		}
	}
	var after key.ID
	for {
		hosts, last, err := x.src.Hosts(after, page)
		if err != nil || len(hosts) == 0 {
			return err
		}
		for i := range hosts {
			if err := x.write(Line{Agent: &hosts[i]}); err != nil {
				return err
			}
		}
		after = last
	}
}

func (x *exporter) write(lines ...Line) error {
	for _, l := range lines {
		if err := x.enc.Encode(l); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) some(from, to int64) error {
	entries, err := x.src.Entries(from, to)
	if err != nil {
		return err
	}
	if int64(len(entries)) != to-from {
		return fmt.Errorf("entries %d to %d: only %d are there", from, to-1, len(entries))
	}
	for i, s := range entries {
		index := from + int64(i)
		if err := x.approvals(s); err != nil {
			return err
		}
		if err := x.write(Line{Index: &index, Entry: s}); err != nil {
			return err
		}
		if err := x.checkpoint(index + 1); err != nil {
			return err
		}
	}
	return nil
}

// approvals writes the approvals that entry s names. What cannot be found is
// left out; it is for Verify to miss it.
func (x *exporter) approvals(s statement.Signed) error {
	if !bytes.Contains(s, []byte(entry.Entry{}.Kind().Type)) {
		return nil
	}
	for _, hash := range entry.Peek(s).Approvals {
		approval, err := x.src.Approval(hash)
		if err != nil {
			return err
		}
		if approval != nil {
			if err := x.write(Line{Approval: approval}); err != nil {
				return err
			}
		}
	}
	return nil
}

// cosigned adds to notes what others said of them; their sizes are above after up
// to last.
func (x *exporter) cosigned(notes []string, after, last int64) error {
	lines, err := x.src.Cosignatures(after, last)
	if err != nil {
		return err
	}
	for i, n := range notes {
		c, err := checkpoint.Peek(n)
		if err != nil {
			return err
		}
		notes[i] = checkpoint.WithCosignatures(n, lines[c.Size]...)
	}
	return nil
}

// checkpoint writes the checkpoint of that size if there is one.
func (x *exporter) checkpoint(size int64) error {
	if len(x.notes) == 0 && x.after < x.size {
		if err := x.moreNotes(); err != nil {
			return err
		}
	}
	for len(x.notes) > 0 {
		next, err := checkpoint.Peek(x.notes[0])
		if err != nil || next.Size > size {
			return err
		}
		if size == x.size {
			if err := x.out.Flush(); err != nil { // the source may wait for cosigners, the reader need not
				return err
			}
			if err := x.cosigned(x.notes[:1], size-1, size); err != nil {
				return err
			}
		}
		if err := x.write(Line{Checkpoint: x.notes[0]}); err != nil {
			return err
		}
		x.notes = x.notes[1:]
	}
	return nil
}

// moreNotes reads the next page of checkpoints, with what others said of all but the
// export's last.
func (x *exporter) moreNotes() (err error) {
	if x.notes, err = x.src.Checkpoints(x.after, page); err != nil {
		return err
	}
	after := x.after
	if x.after = x.size; len(x.notes) == 0 {
		return nil
	}
	last, err := checkpoint.Peek(x.notes[len(x.notes)-1])
	if err != nil {
		return err
	}
	x.after = last.Size
	return x.cosigned(x.notes, after, min(last.Size, x.size-1))
}
