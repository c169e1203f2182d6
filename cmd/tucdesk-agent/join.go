package main

import (
	"context"
	"errors"
	"flag"

	"github.com/tucdesk/tucdesk/agent"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Where a join token comes from.
const (
	tokenPrefix = "tucdesk-join:"
	tokenSource = "printed by tucdesk token create, on an operator's machine"
)

func joinCommand() *cli.Command {
	var dir, name string
	var asJSON bool
	return &cli.Command{
		Use:   "join TOKEN|FILE|-",
		Short: "Make this machine an agent of a team",
		Long: "TOKEN is the string that `tucdesk token create` printed (tucdesk-join:…). It is a secret: give it in a\n" +
			"file, or on standard input with -, where other users of this machine could see the command line.\n" +
			"A key is made that never leaves this machine, and the server is told once. Joining fails when the\n" +
			"folder holds an agent already; when it fails nothing is left behind, unless the server may know the\n" +
			"machine by then: the next try with the same token, or run, then goes on from there.",
		Example: "tucdesk-agent join /root/token\n" +
			"tucdesk-agent join - < /root/token\n" +
			"tucdesk-agent join --name web-1 --state /srv/agent /root/token",
		Flags: func(f *flag.FlagSet) {
			stateFlag(&dir)(f)
			f.StringVar(&name, "name", "", "`NAME` in the team: a-z, 0-9, . and - (default: this host's)")
			f.BoolVar(&asJSON, "json", false, cli.JSONUsage)
		},
		MinArgs: 1, MaxArgs: 1, Files: true,
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			token, err := io.Carried(args[0])
			if err != nil {
				return cli.NotCarried(err, args[0], tokenPrefix, tokenSource)
			}
			state, err := stateDir(dir)
			if err != nil {
				return err
			}
			if err := agent.Join(ctx, state, token, agent.JoinOptions{Name: name, Version: cli.Version()}); err != nil {
				return notJoined(err, token, state)
			}
			if asJSON {
				return io.PrintJSON(joined{state})
			}
			io.Say("joined; the agent's state is in %s", state)
			io.Say("now run: %s", typed("tucdesk-agent run", state))
			return nil
		},
	}
}

// joined is the answer of join --json. The names stay; a field may be added.
type joined struct {
	State string `json:"state"` // folder that the agent is run with
}

// notJoined says what to do about err, by which state did not join with token. Only a
// person knows when the token was made, so nothing is said of the clocks but with "if".
func notJoined(err error, token, state string) error {
	switch {
	case refusal.Of(err) == refusal.BadToken: // not a login that ran out, as elsewhere
		return cli.NotCarried(err, token, tokenPrefix, tokenSource)
	case refusal.Of(err) == refusal.Expired:
		return &cli.Error{Err: err, Hints: []string{"make another one, on an operator's machine: tucdesk token create --ttl 24h",
			"if it should be good still, compare the clocks of both machines: date -u"}}
	case errors.Is(err, agent.ErrRuns):
		return unopened(err, state, "join")
	}
	return err
}
