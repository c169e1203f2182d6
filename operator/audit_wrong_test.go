package operator

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/operator/teamtest"
)

// A wrong file, folder or fingerprint is named with what would have been right.
func TestWrongWordsToTheVerbsOfTheLogAreNamed(t *testing.T) {
	m := teamtest.NewTeam(t)
	m.Account(t)
	log := teamtest.Write(t, "acme.audit", `{"format":"tucdesk-audit-export-v1","origin":"r.example/audit/07000000000000000000000000000000"}`+"\n"+`{"root":{"payload":"AA"}}`+"\n", 0o644)
	cut := teamtest.Write(t, "cut.audit", `{"format":"tucdesk-audit-export-v1","origin":"r.example/audit/07000000000000000000000000000000"}`+"\n", 0o644)
	other := teamtest.Write(t, "notes.txt", "hello\n", 0o644)
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"audit", "verify", other}, cli.ExitFailed, "hint: an export is made by: tucdesk audit export --out FILE"},
		{[]string{"audit", "verify", log}, cli.ExitFailed, "is not that of this operator's team: nothing in it was believed\nhint: the log of another team"},
		{[]string{"audit", "verify", "--fingerprint", strings.Repeat("9f", 32), log}, cli.ExitFailed, "does not have the fingerprint 9f9f"},
		{[]string{"audit", "verify", cut}, cli.ExitFailed, "error: this log was tampered with or is not whole: verifying"},
		{[]string{"audit", "verify", "--fingerprint", "zz", other}, cli.ExitUsage, "hint: any member is shown it by: tucdesk team show"},
		{[]string{"audit", "verify", "--cosigners", "-5", other}, cli.ExitUsage, "--cosigners -5 is below zero"},
		{[]string{"audit", "verify", filepath.Join(t.TempDir(), "none")}, cli.ExitFailed, "hint: an export is made by"},
	} {
		if status, out, talk := tucdesk(t, append(c.args, "--state", m.Home.Dir)...); status != c.status || out != "" || !strings.Contains(talk, c.want) {
			t.Errorf("%q: status %d, printed %q, said %q, want %q", c.args, status, out, talk, c.want)
		} else if isExport := slices.Contains(c.args, log) || slices.Contains(c.args, cut); isExport && (strings.Contains(talk, "an export is made by") || !strings.Contains(talk, keepIt)) {
			t.Errorf("%q: what was done to a log is told as a wrong file: %q", c.args, talk)
		}
	}
}
