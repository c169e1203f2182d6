package operator

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/policy"
)

// A rules file comes from a colleague, by a name of the colleague's.
func TestJ1RulesFilesCannotSpeakToTheTerminal(t *testing.T) {
	const name = "rules\x1b]0;x\a.toml"
	rules, err := policy.Parse([]byte("version = 1\nmode = 'enforce'\n[[expect]]\nname = '\u009b2J\u202e'\naction = 'shell'\nrole = 'viewer'\nwant = 'allow'\n"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := testRules(&cli.IO{Out: &out}, name, rules.RunExpectations(), false); err == nil {
		t.Error("an expectation that fails is no error")
	}
	want := `rules\x1b]0;x\x07.toml:3: \u009b2J\u202e: want allow, got deny by no rule: `
	if !strings.HasPrefix(out.String(), want) || strings.ContainsAny(out.String(), "\x1b\a\u009b\u202e") {
		t.Errorf("printed %q, want %q", &out, want)
	}
}
