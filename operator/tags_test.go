package operator

import (
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
)

// Who separates tags by a blank reads which word is none and how several are written,
// before anything is made.
func TestWrongTagsAreNamed(t *testing.T) {
	for _, tags := range []string{"prod env", "Prod", "prod,eu,prod", "-x"} {
		for _, args := range [][]string{
			{"team", "init", "--name", "acme", "--email", "ann@acme.example", "--state", t.TempDir(), "--tags=" + tags, "no-setup-file"},
			{"token", "create", "--state", t.TempDir(), "--tags=" + tags},
		} {
			status, out, talk := tucdesk(t, args...)
			wrong := tags[strings.LastIndex(tags, ",")+1:]
			if status != cli.ExitUsage || out != "" || !strings.HasPrefix(talk, "error: bad_name: --tags: \""+wrong+"\": ") || !strings.Contains(talk, "hint: several are separated by commas") {
				t.Errorf("%q: status %d, printed %q, said %q", args, status, out, talk)
			}
		}
	}
	if _, _, talk := tucdesk(t, "token", "create", "--state", t.TempDir(), "--tags", "prod, env=test"); strings.Contains(talk, "--tags") {
		t.Errorf("good tags: %q", talk)
	}
}
