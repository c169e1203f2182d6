package verify

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/export"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/lines"
	"github.com/tucdesk/tucdesk/internal/audit/signers"
)

// What cannot be verified at all is told apart: a file that is something else, and an
// export whose beginning was changed or is another team's.
var (
	ErrNotExport = errors.New("this is not an audit export")                         // its first line is none of one
	ErrOtherRoot = errors.New("its root is not the one with the fingerprint given")  // of another team, or put in
	ErrUnproved  = errors.New("the head does not prove that this is the team's log") // so that nothing behind it means anything
)

var (
	errNoRoot    = fmt.Errorf("%w: line 2, which has the team's root, is missing or cannot be read", ErrUnproved)
	errUnfounded = fmt.Errorf("%w: line 3, which has the first roster, is missing or cannot be read", ErrUnproved)
)

// head reads up to the first line of the body, which it returns, nil at the end.
func (v *verifier) head(r *bufio.Reader) (*item, error) {
	for n := 0; ; n++ {
		raw, whole, err := lines.Next(r, export.MaxLine)
		if err != nil {
			return nil, fmt.Errorf("reading the export: %v", err)
		}
		if !whole {
			return nil, v.headDone(export.Line{})
		}
		it := item{raw: raw}
		it.decode()
		if len(raw) > export.MaxBodyLine && it.line.Roster == nil && n > 0 {
			return nil, fmt.Errorf("reading the export: line of more than %d bytes", export.MaxBodyLine)
		}
		isHead, err := v.headLine(n, it)
		if err != nil {
			return nil, err
		}
		if !isHead {
			return &item{raw: raw}, v.headDone(it.line)
		}
	}
}

func (v *verifier) headLine(n int, it item) (bool, error) {
	l := it.line
	switch {
	case n == 0:
		if it.bad || l.Format != export.Format || !checkpoint.ValidOrigin(l.Origin) {
			return false, ErrNotExport
		}
		v.report.Origin = l.Origin
	case n == 1:
		if it.bad || l.Root == nil {
			return false, errNoRoot
		}
		if l.Root.Hash() != v.report.Fingerprint { // signers would say so at the first roster, in other words
			return false, fmt.Errorf("%w: %w", ErrUnproved, ErrOtherRoot)
		}
		v.signers = signers.New(v.report.Fingerprint, l.Root, v.now)
	case l.Roster != nil:
		return true, v.addRoster(n+1, *l.Roster)
	case l.Agent != nil:
		return true, v.addAgent(*l.Agent)
	case n == 2:
		return false, errUnfounded
	case l.Entry != nil || l.Approval != nil || l.Checkpoint != "" || l.End != nil:
		return false, nil
	default:
		v.unreadable(n + 1)
	}
	return true, nil
}

// headDone learns whose log it is. From here on signers is only read. first is the line
// behind the head, empty at the end.
func (v *verifier) headDone(first export.Line) (err error) {
	if v.report.Origin == "" {
		return ErrNotExport
	}
	if v.signers == nil {
		return errNoRoot
	}
	if !v.signers.Founded() {
		return errUnfounded
	}
	v.bodyFrom(first)
	v.report.Team, v.report.RosterVersion = v.signers.Team()
	v.report.Hosts, v.report.People = len(v.signers.Agents()), v.signers.People()
	if !strings.HasSuffix(v.report.Origin, "/audit/"+v.report.Team.String()) {
		return fmt.Errorf("%w: it is said to be %q", ErrUnproved, v.report.Origin)
	}
	v.history, err = v.signers.History()
	return err
}

// remember opens the checkpoints that the reader knows.
func (v *verifier) remember(known []string) error {
	for _, signed := range known {
		c, _, err := checkpoint.Open(signed, v.report.Origin, v.signers.AuditKeys()...)
		if l := v.lacks.roster; err != nil && l != nil { // which may name the key that signed it
			v.add(finding.Finding{Entry: -1, Last: -1, Code: finding.BadCheckpoint, Detail: "a remembered checkpoint cannot be checked", Trace: l.trace(finding.Trace{})})
			continue
		}
		if err != nil {
			return fmt.Errorf("reading a remembered checkpoint: %w", err)
		}
		v.known = append(v.known, c)
		v.report.Seen = max(v.report.Seen, c.Size)
	}
	slices.SortFunc(v.known, func(a, b checkpoint.Checkpoint) int { return cmp.Compare(a.Size, b.Size) })
	return nil
}
