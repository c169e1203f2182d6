package operator

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/operator/teamtest"
)

// A wrong file, folder or fingerprint is named with what would have been right.
func TestWrongWordsToTheVerbsOfTheLogAreNamed(t *testing.T) {
	m := teamtest.NewTeam(t)
	m.Account(t)
	other := teamtest.Write(t, "notes.txt", "hello\n", 0o644)
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"audit", "verify", other}, cli.ExitFailed, "hint: an export is made by: tucdesk audit export --out FILE"},
		{[]string{"audit", "verify", "--fingerprint", "zz", other}, cli.ExitUsage, "hint: any member is shown it by: tucdesk team show"},
		{[]string{"audit", "verify", "--cosigners", "-5", other}, cli.ExitUsage, "--cosigners -5 is below zero"},
		{[]string{"audit", "verify", filepath.Join(t.TempDir(), "none")}, cli.ExitFailed, "hint: an export is made by"},
	} {
		if status, out, talk := tucdesk(t, append(c.args, "--state", m.Home.Dir)...); status != c.status || out != "" || !strings.Contains(talk, c.want) {
			t.Errorf("%q: status %d, printed %q, said %q, want %q", c.args, status, out, talk, c.want)
		}
	}
}
