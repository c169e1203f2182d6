package operator

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/teamtest"
	"github.com/tucdesk/tucdesk/policy/roster"
)

func TestClientThatTheRosterCallsTooOld(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	if err := m.Home.WriteJSON(account.LoginFile, account.SavedLogin{Token: "x", Expires: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if err := a.Begin(t.Context()); err != nil {
		t.Fatalf("before: %v", err)
	}
	if err := a.Learn(wire.RosterNews{Updates: []wire.RosterUpdate{m.Next(a, func(r *roster.Roster) { r.MinVersion = "99.0.0" })}}); err != nil {
		t.Fatal(err)
	}
	if err := a.Begin(t.Context()); refusal.Of(err) != refusal.ProgramTooOld {
		t.Errorf("%v, want program_too_old", err)
	}
	if status, _, talk := tucdesk(t, "ls", "--state", m.Home.Dir); status != 1 || !strings.Contains(talk, "hint: install a newer release") {
		t.Errorf("status %d, said %q", status, talk)
	}
}

// tucdesk runs one command line as the program does.
func tucdesk(t *testing.T, args ...string) (status int, out, talk string) {
	t.Helper()
	var o, e bytes.Buffer
	status = cli.Run(context.Background(), &cli.IO{In: teamtest.Pipe(t, ""), Out: &o, Err: &e}, Command(), args)
	return status, o.String(), e.String()
}
