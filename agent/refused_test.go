//go:build linux

package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// TestOnlyWhoMayRunItHearsWhyItDoesNotRun: an agent that is root sees every file of
// its machine, and an operator without rights must not look through its eyes.
func TestOnlyWhoMayRunItHearsWhyItDoesNotRun(t *testing.T) {
	const policy = `version = 1
mode = "enforce"
[[allow]]
id = "one-tool"
who.roles = ["operator"]
actions = ["exec"]
commands = [["/opt/tool", "--now"]]
`
	k := newTeam(t, policy)
	a := k.agent()
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{plain, "/no/such/program", "no-such-program", "/bin/ls"} {
		k.askFor(a, "ann", argv(name)).wantRefusal(refusal.PolicyDenied)
	}
	k.askFor(a, "ann", argv("/opt/tool", "--now")).wantRefusal(refusal.CommandNotFound)
	k = newTeam(t, openPolicy)
	a = k.agent()
	k.askFor(a, "ann", argv(plain)).wantRefusal(refusal.NotExecutable)
	k.askFor(a, "ann", argv("no-such-program")).wantRefusal(refusal.CommandNotFound)
	k.askFor(a, "eve", argv("no-such-program")).wantRefusal(refusal.CommandNotFound)
}

func TestProgramThatCannotStartIsRefusedByName(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/no/such/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, _, _, err := k.askFor(a, "ann", argv(script)).exec("")
	if refusal.Of(err) != refusal.NotExecutable {
		t.Errorf("a script without its interpreter: %v", err)
	}
	_, _, _, err = k.askFor(a, "ann", func(r *wire.Request) {
		argv("true")(r)
		r.Params.Cwd = wire.Bytes("/no/such/folder\x1b[2J")
	}).exec("")
	if refusal.Of(err) != refusal.BadArgument {
		t.Errorf("no such folder: %v", err)
	}
}
