package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Every verb has an example, and a wrong flag leads to its help.
func TestEveryVerbHelps(t *testing.T) {
	for _, c := range commands().Sub {
		name, _, _ := strings.Cut(c.Use, " ")
		if !strings.Contains(c.Example, "tucdesk-agent "+name) || c.Short == "" {
			t.Errorf("%s: help %q, examples %q", name, c.Short, c.Example)
		}
		var out, talk bytes.Buffer
		status := cli.Run(t.Context(), &cli.IO{In: os.Stdin, Out: &out, Err: &talk}, commands(), []string{name, "--no-such-flag"})
		if status != cli.ExitUsage || !strings.Contains(talk.String(), "hint: tucdesk-agent "+name+" --help\n") {
			t.Errorf("%s --no-such-flag: status %d, said %q", name, status, talk.String())
		}
	}
}

// A token that is a minute too late says nothing about clocks.
func TestExpiredTokenDoesNotBlameTheClock(t *testing.T) {
	var talk bytes.Buffer
	status := cli.Report(&talk, notJoined(refusal.New(refusal.Expired, "the join token expired"), "token", "state"))
	if status != cli.ExitFailed || !strings.Contains(talk.String(), "hint: make another one") || !strings.Contains(talk.String(), "hint: if it should be good still, compare the clocks") {
		t.Errorf("status %d, said %q", status, talk.String())
	}
}

// Whoever has another string of ours in the file reads what it is for, and a file that
// is not there is named.
func TestJoinNamesWhatItWasGiven(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("team.txt", []byte("tucdesk-team:abc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for arg, want := range map[string]string{"team.txt": "tucdesk login", "token.txt": `there is no file "token.txt"`} {
		var out, talk bytes.Buffer
		status := cli.Run(t.Context(), &cli.IO{In: os.Stdin, Out: &out, Err: &talk}, commands(), []string{"join", "--state", "state", arg})
		if status != cli.ExitFailed || out.Len() > 0 || !strings.Contains(talk.String(), want) {
			t.Errorf("%s: status %d, printed %q, said %q", arg, status, out.String(), talk.String())
		}
	}
}
