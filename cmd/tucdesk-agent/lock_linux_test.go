package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tucdesk/tucdesk/agent"
	"github.com/tucdesk/tucdesk/internal/cli"
)

// Whoever starts a second agent reads which process is in the way and what to do.
func TestSecondAgentNamesTheFirst(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "status.json"), []byte(`{"pid":4711}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := agent.Open(dir, agent.Config{}); err == nil {
		t.Fatal("two agents on one folder")
	}
	var talk bytes.Buffer
	status := cli.Run(t.Context(), &cli.IO{In: os.Stdin, Out: &talk, Err: &talk}, commands(), []string{"run", "--state", dir})
	for _, want := range []string{"another agent runs there", "hint: what it does: tucdesk-agent status --state ", "process 4711", "--state DIR"} {
		if status != cli.ExitFailed || !strings.Contains(talk.String(), want) {
			t.Errorf("status %d, said %q, want %q", status, talk.String(), want)
		}
	}
}
