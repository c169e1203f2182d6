package main

import (
	"bytes"
	"strings"
	"testing"
)

// What others choose the text of begins no line of its own in the agent's log, and nothing in it
// speaks to a terminal.
func TestJ6OneEntryOfTheLogIsOneLine(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		var b bytes.Buffer
		logger(&b, asJSON).Warn("a session", "user", "ann\nlevel=INFO msg=\"agent stopped\"", "why", "\r\x1b[2J\u2028\"")
		line := b.String()
		if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") || strings.ContainsAny(line, "\r\x1b\u2028") || !strings.Contains(line, `ann\nlevel=INFO msg=\"agent stopped\"`) {
			t.Errorf("JSON %v: %q", asJSON, line)
		}
	}
}
