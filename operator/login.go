package operator

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/verb"
	"github.com/tucdesk/tucdesk/policy/roster"
)

func loginCommand() *cli.Command {
	var o verb.Options
	return &cli.Command{
		Use:   "login [TEAM-STRING|FILE|-]",
		Short: "Log in, or enter a team with a new key",
		Long: "Proves to the server that this machine holds your key. Nothing is typed: the key in the state folder is the\n" +
			"proof, and later commands renew the login by themselves until tucdesk logout.\n\n" +
			"With the TEAM-STRING that an owner gave you (tucdesk team show), login makes a key first and prints the line\n" +
			"that the owner has to run, with a short code that both of you compare, best by voice. Then run login again.",
		Example: "tucdesk login\ntucdesk login tucdesk-team:eyJ1cmwiOi...\ntucdesk login team.txt",
		MaxArgs: 1, Files: true, Flags: o.JSONFlag,
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			home, err := o.Home()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				if err := enter(io, home, args[0]); err != nil {
					return err
				}
			}
			return o.Offline(io, func(a *account.Account) error { return logIn(ctx, a, io, o.JSON) })
		},
	}
}

// Where a team string comes from.
const (
	teamPrefix = "tucdesk-team:"
	teamSource = "shown to any member by tucdesk team show"
)

// enter makes the operator's key, if there is none, and pins the team.
func enter(io *cli.IO, home account.Home, arg string) error {
	text, err := io.Carried(arg)
	if err != nil {
		return cli.NotCarried(err, arg, teamPrefix, teamSource)
	}
	info, err := roster.ParseTeam(text)
	if err != nil {
		return cli.NotCarried(err, text, teamPrefix, teamSource)
	}
	root, err := roster.OpenRoot(info.Root, info.Fingerprint())
	if err != nil {
		return err
	}
	if err := keyfile.CreateDir(home.Dir); err != nil {
		return err
	}
	switch old, err := home.Membership(); {
	case err != nil && refusal.Of(err) != refusal.NotLoggedIn:
		return err // which team a damaged file was for nobody can say
	case err == nil && old.Fingerprint != info.Fingerprint():
		return &cli.Error{Err: refusal.New(refusal.AlreadyJoined, "%q belongs to another team", home.Dir), Hints: []string{"choose another folder: --state DIR"}}
	}
	// The key before the pin: a login that breaks off in between is typed again.
	if _, err := keyfile.CreateKey[key.Operator](home.Path(account.OperatorKeyFile)); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	io.Say("team fingerprint %s", info.Fingerprint())
	return home.WriteJSON(account.TeamFile, account.Membership{
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

func logIn(ctx context.Context, a *account.Account, io *cli.IO, asJSON bool) error {
	if err := a.Login(ctx); err != nil {
		return err
	}
	answer, err := identity(a)
	if err != nil {
		return err
	}
	if err := a.Gossip(ctx); err != nil {
		return err
	}
	if asJSON {
		return io.PrintJSON(answer)
	}
	return io.Print("logged in to %s as %s, role %s", answer.Server, answer.Email, answer.Role)
}

// identity says who this client is, by the roster verified last.
func identity(a *account.Account) (loggedIn, error) {
	me, err := a.Me()
	return loggedIn{
		Email: me.Email, Role: me.Role.String(), Key: a.Key.ID(), Team: a.Member.Team.String(),
		Server: a.Member.URL, Expires: a.Credentials.Expires.UTC().Truncate(time.Second),
	}, err
}

func whoamiCommand() *cli.Command {
	var o verb.Options
	var quiet bool
	return &cli.Command{
		Use: "whoami", Short: "Show who you are in the team, without asking the server",
		Long:    "Answers from the roster that this client verified last. Exits 250 when you are in no team or logged out.",
		Example: "tucdesk whoami\ntucdesk whoami -q",
		Flags: func(f *flag.FlagSet) {
			o.JSONFlag(f)
			verb.QuietFlag(f, &quiet, "print the e-mail address alone")
		},
		Run: func(_ context.Context, io *cli.IO, _ []string) error {
			return o.Offline(io, func(a *account.Account) error { return whoami(a, io, o.JSON, quiet) })
		},
	}
}

func whoami(a *account.Account, io *cli.IO, asJSON, quiet bool) error {
	if err := a.LoadLogin(); err != nil {
		return err
	}
	if err := a.NeedRoster(); err != nil {
		return err
	}
	me, err := identity(a)
	switch {
	case err != nil:
		return err
	case asJSON:
		return io.PrintJSON(me)
	case quiet:
		return io.Print("%s", me.Email)
	}
	return io.Print("%s, role %s, key %s, team %s", me.Email, me.Role, me.Key.ShortCode(), me.Team)
}

func logoutCommand() *cli.Command {
	var o verb.Options
	return &cli.Command{
		Use: "logout", Short: "Forget the login; the key stays",
		Long: "Forgets the login here, and has the server end it, and older ones of this key: nobody reads anything with a copy\n" +
			"of them from then on. Where the server cannot be told, it says until when a copy is good.",
		Example: "tucdesk logout", Flags: func(f *flag.FlagSet) { o.Flags(f) },
		Run: func(ctx context.Context, io *cli.IO, _ []string) error {
			home, err := o.Home()
			if err != nil {
				return err
			}
			return logOut(ctx, io, home)
		},
	}
}

// endWithin is how long logout tries to tell the server: nothing depends on it that
// does not end by itself, and who is offline waits for it. Our choice.
const endWithin = 10 * time.Second

// logOut forgets the login first: whoever breaks off while the server does not answer
// is logged out here all the same.
func logOut(ctx context.Context, io *cli.IO, home account.Home) error {
	a, err := account.Open(home)
	if err == nil {
		defer a.Close()
		err = a.LoadLogin()
	}
	switch found, failed := home.Forget(); {
	case failed != nil:
		return failed
	case !found:
		err = nil
	case err == nil:
		err = endLogin(ctx, a)
	}
	if err == nil {
		io.Say("logged out")
		return nil
	}
	until := "for up to 15 minutes more"
	if a != nil && !a.Credentials.Expires.IsZero() {
		until = "until " + cli.When(a.Credentials.Expires)
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	io.Say("logged out here, but the server could not be told: %s", err)
	io.Say("warning: whoever has a copy of the login reads the team's lists with it %s; without the key it is good for nothing else", until)
	io.Say("hint: to end it sooner, when the server can be reached: tucdesk login, then tucdesk logout")
	return ctx.Err() // else not an error: what was asked for is done here
}

// endLogin has the server end the login. One that is past its time, or that the server
// takes from nobody any more, has ended.
func endLogin(ctx context.Context, a *account.Account) error {
	if !time.Now().Before(a.Credentials.Expires) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, endWithin)
	defer cancel()
	err := a.Server.Logout(ctx, a.Credentials)
	switch refusal.Of(err) {
	case refusal.NotLoggedIn, refusal.KeyRevoked, refusal.UnknownKey, refusal.Expired:
		return nil
	}
	return err
}
