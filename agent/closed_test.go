//go:build linux

package agent

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Under umask 077 a copied program is root's alone. Sessions as root work then, so
// nobody looks for the reason before the first ping.
func TestProgramThatOthersCannotStartIsNamed(t *testing.T) {
	program := filepath.Join(t.TempDir(), "tucdesk-agent")
	if err := os.WriteFile(program, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	mend := "chmod 755 \"" + program + "\""
	if err := closedToOthers(0, program); err == nil || !strings.Contains(err.Error(), mend) || !strings.Contains(err.Error(), "mode 0700") {
		t.Errorf("root's agent with a program of mode 0700: %v", err)
	}
	if err := closedToOthers(1000, program); err != nil {
		t.Errorf("an agent that has no other users: %v", err)
	}
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := closedToOthers(0, program); err != nil {
		t.Errorf("after chmod 755: %v", err)
	}
	if err := closedToOthers(0, program+"-gone"); err != nil {
		t.Errorf("a program that cannot be looked at: %v", err)
	}
}

// Who starts the agent reads it in the log, and who asks for its status later there.
func TestAgentWarnsThatItsProgramIsClosed(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI runs as root")
		}
		t.Skip("only root's agent has sessions of others: run the test as root")
	}
	k := newTeam(t, openPolicy)
	a := k.agent()
	program := filepath.Join(t.TempDir(), "tucdesk-agent")
	if err := os.WriteFile(program, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	a.command = []string{program, SessionArg}
	if w := strings.Join(a.status(time.Now()).Warnings, "\n"); !strings.Contains(w, "chmod 755") {
		t.Errorf("the status warns of %q", w)
	}
	var log bytes.Buffer
	a.log = slog.New(slog.NewTextHandler(&log, nil))
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := a.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "level=WARN msg=\"only root can start") || !strings.Contains(log.String(), "chmod 755") {
		t.Errorf("the log says %q", log.String())
	}
}

// A fault is told to nobody, but by the word that the log has for it.
func TestFaultIsInTheLogUnderTheSessionThatTheOperatorSees(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent()
	var log bytes.Buffer
	a.log = slog.New(slog.NewTextHandler(&log, nil))
	a.command = []string{filepath.Join(t.TempDir(), "no-such-program")}
	q := k.askFor(a, "ann", argv("true"))
	_, r := q.send()
	session := q.request.Session.String()
	if r == nil || r.Code != refusal.Unavailable || !strings.Contains(r.Detail, session) || strings.Contains(r.Detail, "no-such-program") {
		t.Errorf("the operator is told %+v", r)
	}
	if !strings.Contains(log.String(), "session="+session) || !strings.Contains(log.String(), "no-such-program") {
		t.Errorf("the log says %q", log.String())
	}
}
