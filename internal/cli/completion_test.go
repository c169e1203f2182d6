package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A server seldom has the package bash-completion; the script has to do without.
func TestBashCompletesWithoutItsPackage(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test wants bash")
		}
		t.Skip("this test wants bash: apt-get install bash")
	}
	_, _, script, _ := call(t, nil, "completion", "bash")
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ line, words, asked, candidates, want string }{
		"a command":         {"prog ex", "prog ex", "[__complete] [ex]", "exec", "exec"},
		"a machine":         {"prog exec we", "prog exec we", "[__complete] [exec] [we]", "web db", "web"},
		"after a space":     {"prog exec ", "prog exec ''", "[__complete] [exec] []", "web db", "web,db"},
		"behind a user":     {"prog exec deploy@we", "prog exec deploy @ we", "[__complete] [exec] [deploy@we]", "deploy@web", "web"},
		"right behind a @":  {"prog exec deploy@", "prog exec deploy @ ''", "[__complete] [exec] [deploy@]", "deploy@web deploy@db", "web,db"},
		"a label":           {"prog exec env=pr", "prog exec env = pr", "[__complete] [exec] [env=pr]", "env=prod", "prod"},
		"a file with blank": {`prog exec a\ b we`, `prog exec 'a\ b' we`, "[__complete] [exec] [a b] [we]", "web", "web"},
	} {
		cmd := exec.Command(bash, "--norc", "--noprofile", "-c", `
set -f; unset -f _init_completion _get_comp_words_by_ref
prog() { { printf '[%s]' "$1"; shift; printf ' [%s]' "$@"; printf '\n'; } >&3; printf '%s\n' $CANDIDATES; printf ':4\n'; }
compopt() { :; }
COMP_WORDBREAKS=$' \t\n"\'@><=;|&(:'
. "$SCRIPT"
eval "COMP_WORDS=($WORDS)"; COMP_LINE=$LINE; COMP_POINT=${#LINE}; COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_TYPE=9; COLUMNS=80
__start_prog 3>&1
IFS=,; printf '%s\n' "${COMPREPLY[*]}"`)
		cmd.Env = append(os.Environ(), "SCRIPT="+path, "LINE="+c.line, "WORDS="+c.words, "CANDIDATES="+c.candidates)
		cmd.Env = append(cmd.Env, "LC_ALL=C")
		out, err := cmd.CombinedOutput()
		if got, want := strings.TrimSpace(string(out)), c.asked+"\n"+c.want; err != nil || got != want {
			t.Errorf("%s: %v, got\n%s\nwant\n%s", name, err, got, want)
		}
	}
}
