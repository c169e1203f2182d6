package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// The command is copied as it stands, whatever the file is called.
func TestNewRelaySecretRunsNothingOfAName(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the command is for a shell")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "$(touch ran) relay.secret")
	var talk strings.Builder
	Report(&talk, RelaySecret(refusal.New(refusal.BadFileMode, "open"), file))
	_, line, _ := strings.Cut(talk.String(), "in its place: ")
	line, _, _ = strings.Cut(line, "\n")
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v, %s", line, err, out)
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 || list[0].Name() != filepath.Base(file) {
		t.Errorf("%s leaves %v, %v", line, list, err)
	}
}
