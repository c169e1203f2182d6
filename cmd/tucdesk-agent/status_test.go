package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/tucdesk/tucdesk/agent"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
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

// Monitoring looks at the exit status and a person at the hints: an agent that cannot
// work is no success, and where its own log is what does not fit nobody else is blamed.
func TestTroubleIsAnErrorWithItsNextStep(t *testing.T) {
	for want, s := range map[string]agent.Status{
		"":                      {Problem: "unreachable: it passes"},
		"tucdesk agent rm web;": {Name: "web", Code: refusal.AuditFork, Forked: true},
		"state folder \"/st\" away, and join anew: tucdesk-agent join --state \"/st\" TOKEN": {Code: refusal.AuditFork, Forked: true},
		"witness-*.json":     {Code: refusal.AuditFork},
		"tucdesk team renew": {Code: refusal.RosterExpired},
	} {
		var talk bytes.Buffer
		exit := cli.Report(&talk, troubled(s, "/st"))
		if (exit == 1) != (want != "") || (exit == 0) != (want == "") || !strings.Contains(talk.String(), want) {
			t.Errorf("exit %d, no %q in %q", exit, want, talk.String())
		}
	}
}

// A program that reads the answer meets one form of time in all of our programs.
func TestStatusAsJSONHasTimesAsEverywhere(t *testing.T) {
	raw, err := json.Marshal(viewStatus(agent.Status{Time: 1795369427732, Name: "web", GraceEnds: 1795369428000}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"schemaVersion":1,`, `"time":"2026-11-22T17:43:47.732Z"`, `"since":null`, `"graceEnds":"2026-11-22T17:43:48Z"`, `"certificateExpires":null`, `"name":"web"`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("no %s in %s", want, raw)
		}
	}
}

// A hint for a folder that was named can be copied as it stands.
func TestHintsNameTheStateFolder(t *testing.T) {
	usual, err := agent.DefaultDir()
	if err != nil {
		t.Fatal(err)
	}
	if got := typed("tucdesk-agent run", usual); got != "tucdesk-agent run" {
		t.Errorf("for the usual folder: %s", got)
	}
	dir := t.TempDir()
	for want, args := range map[string][]string{
		"hint: tucdesk-agent run --state \"" + dir + "\"\n":                {"status", "--state", dir},
		"tucdesk-agent join --state \"" + dir + "/none\" TOKEN, with what": {"status", "--state", dir + "/none"},
	} {
		var talk bytes.Buffer
		if status := cli.Run(t.Context(), &cli.IO{Out: &talk, Err: &talk}, commands(), args); status != cli.ExitFailed || !strings.Contains(talk.String(), want) {
			t.Errorf("%q: status %d, said %q, want %q", args, status, talk.String(), want)
		}
	}
}
