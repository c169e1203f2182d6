package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
)

// An agent for no sessions is a typing error, not one with the default.
func TestAgentHasAtLeastOneSession(t *testing.T) {
	for _, n := range []string{"0", "-1"} {
		var talk bytes.Buffer
		status := cli.Run(t.Context(), &cli.IO{In: os.Stdin, Out: &talk, Err: &talk}, commands(), []string{"run", "--state", t.TempDir(), "--max-sessions=" + n})
		if status != cli.ExitUsage || !strings.Contains(talk.String(), "hint: tucdesk-agent run --help") {
			t.Errorf("%s: status %d, said %q", n, status, talk.String())
		}
	}
}
