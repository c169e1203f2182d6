package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/tucdesk/tucdesk/agent"
	"github.com/tucdesk/tucdesk/internal/cli"
)

// The server chose why it could not be reached and what rosters are refused for.
func TestJ1StatusCannotSpeakToTheTerminal(t *testing.T) {
	const bad = "x\x1b]52;c;cm0=\a\nagent        web\u202e"
	for _, s := range []agent.Status{
		{Name: bad, Agent: bad, Tags: []string{bad, bad}, Server: bad, Warnings: []string{bad}},
		{Problem: bad},
	} {
		var out bytes.Buffer
		if err := describe(&cli.IO{Out: &out}, s, time.Now()); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && unicode.IsControl(r) || r == '\u202e' }) {
			t.Errorf("something reached the terminal: %q", text)
		}
		if strings.Count("\n"+text, "\nagent ") != 1 || !strings.Contains(text, `x\x1b]52;c;cm0=\x07\nagent        web\u202e`) {
			t.Errorf("not one line each, or not shown:\n%s", text)
		}
	}
}
