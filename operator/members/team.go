package members

import (
	"context"
	"strings"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/owners"
	"github.com/tucdesk/tucdesk/operator/verb"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// TeamShowCommand is the verb team show.
func TeamShowCommand() *cli.Command {
	var o verb.Options
	return &cli.Command{
		Use: "show", Short: "Show the team's fingerprint, members, servers and expiry", Example: "tucdesk team show\ntucdesk team show --json",
		Flags: o.JSONFlag,
		Run: func(ctx context.Context, io *cli.IO, _ []string) error {
			return o.WithRoster(ctx, io, func(a *account.Account) error { return ShowTeam(a, io, o.JSON) })
		},
	}
}

// changeTeam changes the roster by edit and shows what the team is then.
func changeTeam(ctx context.Context, io *cli.IO, o *owners.Options, edit func(*roster.Roster)) error {
	return o.WithOwner(ctx, io, func(a *account.Account) error {
		if err := o.Change(ctx, io, a, nil, edit); err != nil {
			return err
		}
		return ShowTeam(a, io, o.JSON)
	})
}

// TeamRenewCommand is the verb team renew.
func TeamRenewCommand() *cli.Command {
	var o owners.Options
	return &cli.Command{
		Use: "renew", Short: "Renew the roster for another 90 days",
		Long:    "Signs the roster anew. When it expires, machines refuse new sessions: that bounds how long a server can hide news from them.",
		Example: "tucdesk team renew\ntucdesk team renew --passphrase-file /run/secrets/owner",
		Flags:   o.ChangeFlags,
		Run: func(ctx context.Context, io *cli.IO, _ []string) error {
			return changeTeam(ctx, io, &o, func(*roster.Roster) {})
		},
	}
}

// TeamMinVersionCommand is the verb team min-version.
func TeamMinVersionCommand() *cli.Command {
	var o owners.Options
	return &cli.Command{
		Use: "min-version VERSION|none", Short: "Refuse programs that are older than a release",
		Long: "Puts the least version of our programs into the roster: older clients and machines then open no session and say why.\n" +
			"It is for the day on which a hole in a release is known. A version newer than this very program is refused, since\n" +
			"nobody here could take it back. Update the machines first.",
		Example: "tucdesk team min-version 1.4.2\ntucdesk team min-version none", MinArgs: 1, MaxArgs: 1, Flags: o.ChangeFlags,
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			least, err := minVersion(args[0])
			if err != nil {
				return err
			}
			return changeTeam(ctx, io, &o, func(r *roster.Roster) { r.MinVersion = least })
		},
	}
}

// minVersion reads the argument; "" is none.
func minVersion(text string) (string, error) {
	if text == "none" {
		return "", nil
	}
	text = strings.TrimPrefix(text, "v")
	least, err := roster.ParseProgramVersion(text)
	if err != nil {
		return "", &cli.Error{Err: err, Hints: []string{"a release such as 1.4.2, or none"}, Exit: cli.ExitUsage}
	}
	have, err := roster.ParseProgramVersion(cli.Version())
	if err != nil || have.Compare(least) < 0 {
		return "", &cli.Error{Err: refusal.New(refusal.ProgramTooOld, "this program is version %s; it would lock itself out", cli.Version()), Hints: []string{"run this from the release that you ask for"}}
	}
	return text, nil
}
