package operator

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// How a report ends the program: what was tampered with comes before what is missing
// beside it, and an older export is never a success.
func TestVerdictsHaveTheirStatus(t *testing.T) {
	old := finding.Finding{Code: finding.Outdated}
	bad := finding.Finding{Code: finding.BadEntry}
	for name, c := range map[string]struct {
		report verify.Report
		demand int
		exit   int
	}{
		"nothing found":                {verify.Report{}, 0, 0},
		"older":                        {verify.Report{Size: 3, Seen: 5, Findings: []finding.Finding{old}}, 0, exitOutdated},
		"older and edited":             {verify.Report{Findings: []finding.Finding{old, bad}}, 0, cli.ExitFailed},
		"edited and older":             {verify.Report{Findings: []finding.Finding{bad, old}}, 0, cli.ExitFailed},
		"more than are listed":         {verify.Report{Findings: []finding.Finding{old}, More: 1}, 0, cli.ExitFailed},
		"too few cosigners":            {verify.Report{Hosts: 1, People: 1, Cosigners: 1}, 2, cli.ExitFailed},
		"enough cosigners":             {verify.Report{Hosts: 1, People: 1, Cosigners: 2}, 2, 0},
		"more than there can be":       {verify.Report{Hosts: 1, People: 2, Cosigners: 1}, 4, cli.ExitUsage},
		"tampered, and more than that": {verify.Report{Findings: []finding.Finding{bad}}, 4, cli.ExitFailed},
		"older, and too few cosigners": {verify.Report{Hosts: 1, Findings: []finding.Finding{old}}, 1, cli.ExitFailed},
		"older, with enough cosigners": {verify.Report{Hosts: 1, Cosigners: 1, Findings: []finding.Finding{old}}, 1, exitOutdated},
	} {
		var said bytes.Buffer
		o := auditVerify{cosigners: c.demand}
		if got := cli.Report(&said, o.judge(c.report)); got != c.exit || (got == 0) != (said.Len() == 0) {
			t.Errorf("%s: exits %d and says %q, want %d", name, got, said.String(), c.exit)
		}
	}
}

// A log that was cut off behind one of its checkpoints is whole in itself. A script that
// says what it knows is told; one that says nothing has an older export, for all it knows.
func TestN1CleanCutIsNoSuccessForWhoeverKnowsMore(t *testing.T) {
	bad := finding.Finding{Code: finding.BadEntry}
	for name, c := range map[string]struct {
		demand auditVerify
		report verify.Report
		exit   int
		says   string
	}{
		"nothing demanded":              {auditVerify{}, verify.Report{Size: 23}, 0, ""},
		"as many as there are":          {auditVerify{atLeast: 23}, verify.Report{Size: 23}, 0, ""},
		"cut by one":                    {auditVerify{atLeast: 24}, verify.Report{Size: 23}, exitOutdated, "has 23 entries, not 24: its end was cut off"},
		"cut, and the end was seen":     {auditVerify{atLeast: 24, complete: true}, verify.Report{Size: 23, Seen: 23}, exitOutdated, "not 24"},
		"cut and edited":                {auditVerify{atLeast: 24}, verify.Report{Size: 23, Findings: []finding.Finding{bad}}, cli.ExitFailed, "2 findings"},
		"more findings than are listed": {auditVerify{atLeast: 24}, verify.Report{Findings: make([]finding.Finding, verify.MaxFindings)}, cli.ExitFailed, "1001 findings"},
		"an end that nobody knows":      {auditVerify{complete: true}, verify.Report{Size: 23}, exitOpen, "nobody here knows"},
		"more was seen than there is":   {auditVerify{complete: true}, verify.Report{Size: 23, Seen: 22}, exitOpen, "--at-least"},
		"the end that was seen":         {auditVerify{complete: true, atLeast: 20}, verify.Report{Size: 23, Seen: 23}, 0, ""},
	} {
		var said bytes.Buffer
		c.report.Expect(c.demand.atLeast)
		if got := cli.Report(&said, c.demand.judge(c.report)); got != c.exit || !strings.Contains(said.String(), c.says) {
			t.Errorf("%s: exits %d and says %q, want %d", name, got, said.String(), c.exit)
		}
	}
	cut := verify.Report{Size: 23}
	cut.Expect(81)
	var out bytes.Buffer
	printReport(&cli.IO{Out: &out}, cut, false)
	if s := out.String(); !strings.HasPrefix(s, "outdated: ") || !strings.Contains(s, "entries 23 to 80: outdated: the export ends with 23 entries, and 81 are expected") {
		t.Errorf("it says %q", s)
	}
}

// Whoever asks for more cosigners than there are reads how many there are, and nothing
// that sounds as if somebody had taken them away.
func TestMoreCosignersThanTheTeamHasAreNoTampering(t *testing.T) {
	var said bytes.Buffer
	o := auditVerify{cosigners: 9}
	cli.Report(&said, o.judge(verify.Report{Hosts: 1, People: 2, Cosigners: 1}))
	if want := "error: bad_argument: --cosigners 9: there are 1 machine and 2 people who could cosign\nhint: at most: --cosigners 3\n"; !strings.HasPrefix(said.String(), want) {
		t.Errorf("said %q, want %q", said.String(), want)
	}
}

// endless is a log that never ends, and calls after a while.
type endless struct {
	left int
	then func()
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left--; e.left == 0 {
		e.then()
	}
	return copy(p, "{}\n"), nil
}

// An export that breaks off, by Ctrl-C or on a full disk, leaves neither a half file
// nor a half folder, and what was there stays as it was.
func TestBrokenExportLeavesNothing(t *testing.T) {
	broken := errors.New("broken off")
	for name, to := range map[string]func(path string) destination{
		"file":  func(path string) destination { return destination{file: path} },
		"tiles": func(path string) destination { return destination{tiles: path} },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "log")
			ctx, cancel := context.WithCancel(t.Context())
			err := to(path).write(nil, (&verb.Progress{}).Reader(ctx, &endless{9, cancel}, "exported", 0))
			if !errors.Is(err, context.Canceled) {
				t.Errorf("after Ctrl-C: %v", err)
			}
			if err := to(path).write(nil, io.MultiReader(strings.NewReader("{}\n"), failing{broken})); !errors.Is(err, broken) {
				t.Errorf("after a broken answer: %v", err)
			}
			if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
				t.Errorf("%v is left, %v", list, err)
			}
		})
	}
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("evidence"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(path, strings.NewReader("newer")); !errors.Is(err, os.ErrExist) {
		t.Errorf("over a file that came meanwhile: %v", err)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "evidence" {
		t.Errorf("%q is left, %v", raw, err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
