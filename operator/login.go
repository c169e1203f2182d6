package operator

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/policy/roster"
)

func loginCommand() *cli.Command {
	var o options
	return &cli.Command{
		Use:   "login [TEAM-STRING]",
		Short: "Log in, or enter a team with a new key",
		Long: "Proves to the server that this machine holds your key. Nothing is typed: the key in the state folder is the\n" +
			"proof, and later commands renew the login by themselves until tucdesk logout.\n\n" +
			"With the TEAM-STRING that an owner gave you (tucdesk team show), login makes a key first and prints the line\n" +
			"that the owner has to run, with a short code that both of you compare, best by voice. Then run login again.",
		Example: "tucdesk login\ntucdesk login tucdesk-team:eyJ1cmwiOi...",
		MaxArgs: 1, Flags: o.jsonFlag,
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			home, err := o.home()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				if err := enter(io, home, args[0]); err != nil {
					return err
				}
			}
			return o.offline(io, func(a *account) error { return a.loginCommand(ctx, io, o.json) })
		},
	}
}

// enter makes the operator's key, if there is none, and pins the team.
func enter(io *cli.IO, home Home, arg string) error {
	arg, err := stringOrStdin(io, arg)
	if err != nil {
		return err
	}
	info, err := roster.ParseTeam(arg)
	if err != nil {
		return &cli.Error{Err: err, Hints: []string{"the string begins with tucdesk-team: and is shown by tucdesk team show"}}
	}
	root, err := roster.OpenRoot(info.Root, info.Fingerprint())
	if err != nil {
		return err
	}
	if err := keyfile.CreateDir(home.dir); err != nil {
		return err
	}
	switch old, err := home.membership(); {
	case err != nil && refusal.Of(err) != refusal.NotLoggedIn:
		return err // which team a damaged file was for nobody can say
	case err == nil && old.Fingerprint != info.Fingerprint():
		return &cli.Error{Err: refusal.New(refusal.AlreadyJoined, "%q belongs to another team", home.dir), Hints: []string{"choose another folder: --state DIR"}}
	}
	if _, err := keyfile.CreateKey[key.Operator](home.path(operatorKeyFile)); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	io.Say("team fingerprint %s", info.Fingerprint())
	return home.writeJSON(teamFile, membership{
		URL: info.Server.URL, Pin: info.Server.Pin, Access: info.Server.Access,
		Team: root.Team, Fingerprint: info.Fingerprint(), Root: info.Root,
	})
}

// loggedIn is the answer of login and whoami, and a part of that of status.
type loggedIn struct {
	Email   string    `json:"email"`
	Role    string    `json:"role"`
	Key     key.ID    `json:"key"`
	Team    string    `json:"team"`
	Server  string    `json:"server"`
	Expires time.Time `json:"expires"` // of the login; commands renew it by themselves
}

func (a *account) loginCommand(ctx context.Context, io *cli.IO, asJSON bool) error {
	if err := a.login(ctx); err != nil {
		return err
	}
	answer, err := a.identity()
	if err != nil {
		return err
	}
	if err := a.gossip(ctx); err != nil {
		return err
	}
	if asJSON {
		return io.PrintJSON(answer)
	}
	fmt.Fprintf(io.Out, "logged in to %s as %s, role %s\n", terminal.Escape(answer.Server), terminal.Escape(answer.Email), answer.Role)
	return nil
}

// identity says who this client is, by the roster verified last.
func (a *account) identity() (loggedIn, error) {
	me, err := a.me()
	return loggedIn{
		Email: me.Email, Role: me.Role.String(), Key: a.key.ID(), Team: a.member.Team.String(),
		Server: a.member.URL, Expires: a.cred.Expires.UTC().Truncate(time.Second),
	}, err
}

func whoamiCommand() *cli.Command {
	var o options
	var quiet bool
	return &cli.Command{
		Use: "whoami", Short: "Show who you are in the team, without asking the server",
		Long:    "Answers from the roster that this client verified last. Exits 250 when you are in no team or logged out.",
		Example: "tucdesk whoami\ntucdesk whoami -q",
		Flags: func(f *flag.FlagSet) {
			o.jsonFlag(f)
			quietFlag(f, &quiet, "print the e-mail address alone")
		},
		Run: func(_ context.Context, io *cli.IO, _ []string) error {
			return o.offline(io, func(a *account) error { return a.whoami(io, o.json, quiet) })
		},
	}
}

func (a *account) whoami(io *cli.IO, asJSON, quiet bool) error {
	if err := a.loadLogin(); err != nil {
		return err
	}
	if a.state == nil {
		return refusal.New(refusal.NotLoggedIn, "this client has not seen the team's roster yet")
	}
	me, err := a.identity()
	switch {
	case err != nil:
		return err
	case asJSON:
		return io.PrintJSON(me)
	case quiet:
		fmt.Fprintln(io.Out, terminal.Escape(me.Email))
		return nil
	}
	fmt.Fprintf(io.Out, "%s, role %s, key %s, team %s\n", terminal.Escape(me.Email), me.Role, me.Key.ShortCode(), me.Team)
	return nil
}

// askOwner tells how this key gets into the roster. The server does not say
// whether it knows the team, the key or neither.
func (a *account) askOwner(cause error) error {
	if a.state != nil && a.state.Revoked(a.key.ID()) {
		return &cli.Error{Err: refusal.New(refusal.KeyRevoked, "the key in %q was revoked", a.home.dir), Exit: cli.ExitNotLoggedIn, Hints: []string{
			"a new key needs an empty state folder: tucdesk login --state DIR TEAM-STRING",
			"an owner then adds the new key as any other",
		}}
	}
	return &cli.Error{Err: fmt.Errorf("your key is not in the team's roster: %w", cause), Exit: cli.ExitNotLoggedIn, Hints: []string{
		fmt.Sprintf("ask an owner to run:  tucdesk operator add YOUR-EMAIL %s", a.key.Public()),
		fmt.Sprintf("and compare the short code:  %s", a.key.ID().ShortCode()),
		"then run tucdesk login again",
	}}
}

func logoutCommand() *cli.Command {
	var o options
	return &cli.Command{
		Use: "logout", Short: "Forget the login; the key stays",
		Example: "tucdesk logout", Flags: func(f *flag.FlagSet) { o.flags(f) },
		Run: func(_ context.Context, io *cli.IO, _ []string) error {
			home, err := o.home()
			if err != nil {
				return err
			}
			if err := os.Remove(home.path(loginFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			io.Say("logged out")
			return nil
		},
	}
}
