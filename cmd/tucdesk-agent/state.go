package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"

	"github.com/tucdesk/tucdesk/agent"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// stateFlag is the flag that every command has.
func stateFlag(dir *string) func(*flag.FlagSet) {
	return func(f *flag.FlagSet) {
		f.StringVar(dir, "state", "", "the agent's state folder is `DIR` (default: /var/lib/tucdesk-agent for root, else $XDG_STATE_HOME/tucdesk-agent or ~/.local/state/tucdesk-agent)")
	}
}

func stateDir(chosen string) (string, error) {
	if chosen != "" {
		return chosen, nil
	}
	return agent.DefaultDir()
}

// typed is a command line of ours for the state in dir.
func typed(command, dir string) string {
	if usual, err := agent.DefaultDir(); err == nil && usual == dir {
		return command
	}
	return fmt.Sprintf("%s --state %q", command, dir)
}

// running says what to do about the agent that has the state in dir.
func running(dir string) []string {
	end := "end it before you start another: systemctl stop tucdesk-agent, where it is a service"
	if s, err := agent.ReadStatus(dir); err == nil {
		end = fmt.Sprintf("it is process %d; %s, else: kill %d", s.PID, end, s.PID)
	}
	return []string{"what it does: " + typed("tucdesk-agent status", dir), end, "a second agent on one machine has a folder of its own, joined with a token of its own: --state DIR"}
}

// unopened adds to err, by which the state in dir was not opened, what to do: most
// often nothing has joined there, or it is another user's.
func unopened(err error, dir, command string) error {
	if hint := cli.AsOwner(dir, typed("tucdesk-agent "+command, dir)); hint != "" && refusal.Of(err) == refusal.BadFileMode {
		return &cli.Error{Err: err, Hints: []string{hint}}
	}
	asRoot := "an agent that runs as root: " + typed("sudo tucdesk-agent "+command, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e := &cli.Error{Err: fmt.Errorf("no machine has joined a team in %q", dir), Hints: []string{
			"join first: " + typed("tucdesk-agent join", dir) + " TOKEN, with what tucdesk token create printed", "an agent in another folder: --state DIR"}}
		if os.Geteuid() > 0 {
			e.Hints = append(e.Hints, asRoot)
		}
		return e
	case errors.Is(err, agent.ErrRuns):
		return &cli.Error{Err: err, Hints: running(dir)}
	case errors.Is(err, fs.ErrPermission):
		return &cli.Error{Err: err, Hints: []string{"the folder is of another user, who has to run this; " + asRoot}}
	}
	return err
}
