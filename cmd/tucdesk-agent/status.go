package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/agent"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// stale is how old the running agent's word may be.
const stale = 2 * time.Minute

func statusCommand() *cli.Command {
	var dir string
	var asJSON bool
	return &cli.Command{
		Use:   "status",
		Short: "Say whether the agent is connected and what will expire when",
		Long: "Reads what the running agent last wrote, so it needs the same user. Exits 1 when no agent runs on this folder, and\n" +
			"when something keeps sessions from it, or what they do from the team's log; \"code\" in --json and the error say what.\n" +
			"That the server is not reached, which passes by itself, is no error.",
		Example: "tucdesk-agent status\ntucdesk-agent status --json",
		Flags: func(f *flag.FlagSet) {
			stateFlag(&dir)(f)
			f.BoolVar(&asJSON, "json", false, cli.JSONUsage)
		},
		Run: func(_ context.Context, io *cli.IO, _ []string) error {
			state, err := stateDir(dir)
			if err != nil {
				return err
			}
			s, err := agent.ReadStatus(state)
			if _, there := os.Lstat(state); errors.Is(err, fs.ErrNotExist) && there == nil {
				return &cli.Error{Err: fmt.Errorf("no agent runs on %q", state), Hints: []string{typed("tucdesk-agent run", state)}}
			}
			if err != nil {
				return unopened(err, state, "status")
			}
			if asJSON {
				err = io.PrintJSON(viewStatus(s))
			} else {
				err = describe(io, s, time.Now())
			}
			return errors.Join(err, troubled(s, state))
		},
	}
}

// troubled is nil while the agent can do its work.
func troubled(s agent.Status, state string) error {
	if s.Code == "" {
		return nil
	}
	e := &cli.Error{Err: refusal.New(s.Code, "what is wrong stands in the warnings"), Exit: cli.ExitFailed}
	if s.Forked && s.Code == refusal.AuditFork {
		e.Hints = []string{
			"an owner of the team takes this machine out: tucdesk agent rm " + s.Name + "; its name is free then, for a new token: tucdesk token create",
			fmt.Sprintf("then, here and wherever else a copy of it lies: stop the agent, move its state folder %q away, and join anew: %s TOKEN", state, typed("tucdesk-agent join", state)),
		}
	}
	return e
}

// statusView is the answer of status --json. The names stay; a field may be added.
type statusView struct {
	Schema int `json:"schemaVersion"`
	agent.Status

	// In place of the agent's own, which are numbers.
	Time           *time.Time `json:"time"`
	Since          *time.Time `json:"since"` // null until it was connected once
	RosterExpires  *time.Time `json:"rosterExpires"`
	GraceEnds      *time.Time `json:"graceEnds"`
	CertificateEnd *time.Time `json:"certificateExpires"` // null is never
}

func viewStatus(s agent.Status) statusView {
	at := func(m interface{ Time() time.Time }) *time.Time {
		t := m.Time().UTC()
		if t.Unix() <= 0 {
			return nil
		}
		return &t
	}
	return statusView{1, s, at(s.Time), at(s.Since), at(s.RosterExpires), at(s.GraceEnds), at(s.CertificateEnd)}
}

// describe prints the status. The server chose parts of it: what it is called, and why
// it could not be reached.
func describe(io *cli.IO, s agent.Status, now time.Time) (err error) {
	line := func(name, format string, args ...any) {
		err = errors.Join(err, io.Print("%-12s "+format, append([]any{name}, args...)...))
	}
	line("agent", "%s (%s), process %d", s.Name, s.Agent[:min(16, len(s.Agent))], s.PID)
	if s.Server != "" {
		line("server", "%s, connected since %s", s.Server, when(s.Since))
	} else {
		line("server", "not connected since %s: %s", when(s.Since), s.Problem)
	}
	line("team", "%s", s.Fingerprint)
	line("tags", "%s", strings.Join(s.Tags, " "))
	line("roster", "version %d, expires %s", s.RosterVersion, when(s.RosterExpires))
	if s.GraceEnds != s.RosterExpires {
		line("", "the policy accepts it until %s", when(s.GraceEnds))
	}
	if s.CertificateEnd != 0 {
		line("certificate", "expires %s", when(s.CertificateEnd))
	}
	line("sessions", "%d", s.Sessions)
	for _, w := range s.Warnings {
		line("warning", "%s", w)
	}
	if age := now.Sub(s.Time.Time()); age > stale {
		line("warning", "this was written %s ago: the agent may have been killed", age.Round(time.Second))
	}
	return err
}

func when(m interface{ Time() time.Time }) string { return cli.When(m.Time()) }
