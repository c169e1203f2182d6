package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
)

// Whoever forgets the "--" reads what to type.
func TestForgottenDashesAreNamed(t *testing.T) {
	for line, want := range map[string]string{
		"uname -a":  "hint: quickstart -- uname -a\n",
		"--persist": "error: unknown flag: --persist\nhint: quickstart --help\n",
	} {
		var talk bytes.Buffer
		status := cli.Report(&talk, mistaken(strings.Fields(line)))
		if status != cli.ExitUsage || !strings.HasPrefix(talk.String(), "error: ") || !strings.Contains(talk.String(), want) {
			t.Errorf("%s: status %d, said %q", line, status, talk.String())
		}
	}
}
