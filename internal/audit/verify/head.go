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

var errNotExport = errors.New("reading the export: this is not an audit export")

// head reads up to the first line of the body, which it returns, nil at the end.
func (v *verifier) head(r *bufio.Reader) (*item, error) {
	for n := 0; ; n++ {
		raw, whole, err := lines.Next(r, export.MaxLine)
		if err != nil {
			return nil, fmt.Errorf("reading the export: %v", err)
		}
		if !whole {
			return nil, v.headDone()
		}
		it := item{raw: raw}
		it.decode()
		if len(raw) > export.MaxBodyLine && it.line.Roster == nil {
			return nil, fmt.Errorf("reading the export: line of more than %d bytes", export.MaxBodyLine)
		}
		isHead, err := v.headLine(n, it)
		if err != nil {
			return nil, err
		}
		if !isHead {
			return &item{raw: raw}, v.headDone()
		}
	}
}

func (v *verifier) headLine(n int, it item) (bool, error) {
	l := it.line
	switch {
	case n == 0:
		if it.bad || l.Format != export.Format || !checkpoint.ValidOrigin(l.Origin) {
			return false, errNotExport
		}
		v.report.Origin = l.Origin
	case n == 1:
		if it.bad || l.Root == nil {
			return false, errNotExport
		}
		v.signers = signers.New(v.report.Fingerprint, l.Root, v.now)
	case l.Roster != nil:
		return true, v.signers.AddRoster(*l.Roster)
	case l.Agent != nil:
		return true, v.addAgent(*l.Agent)
	case n == 2:
		return false, errNotExport
	default:
		return false, nil
	}
	return true, nil
}

// addAgent takes an agent's statements. What does not hold in them is a finding.
func (v *verifier) addAgent(h export.Host) error {
	problem, err := v.signers.AddAgent(h)
	if err != nil {
		return fmt.Errorf("reading the export: %w", err)
	}
	if problem != "" {
		v.found(-1, finding.BadHost, "%s", problem)
	}
	return nil
}

// headDone learns whose log it is. From here on signers is only read.
func (v *verifier) headDone() (err error) {
	if v.signers == nil || !v.signers.Founded() {
		return errNotExport
	}
	v.report.Team, v.report.RosterVersion = v.signers.Team()
	v.report.Hosts, v.report.People = len(v.signers.Agents()), v.signers.People()
	if !strings.HasSuffix(v.report.Origin, "/audit/"+v.report.Team.String()) {
		return fmt.Errorf("reading the export: it is the log %q, which is not this team's", v.report.Origin)
	}
	v.history, err = v.signers.History()
	return err
}

// remember opens the checkpoints that the reader knows.
func (v *verifier) remember(known []string) error {
	for _, signed := range known {
		c, _, err := checkpoint.Open(signed, v.report.Origin, v.signers.AuditKeys()...)
		if err != nil {
			return fmt.Errorf("reading a remembered checkpoint: %w", err)
		}
		v.known = append(v.known, c)
		v.report.Seen = max(v.report.Seen, c.Size)
	}
	slices.SortFunc(v.known, func(a, b checkpoint.Checkpoint) int { return cmp.Compare(a.Size, b.Size) })
	return nil
}
