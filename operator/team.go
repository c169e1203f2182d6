package operator

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/vault"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/client"
)

func teamCommand() *cli.Command {
	return &cli.Command{Use: "team", Short: "Found a team, show and renew it", Sub: []*cli.Command{teamInitCommand(), teamShowCommand(), teamRenewCommand()}}
}

// enrollerLifetime is the longest life of a join token that the first enroller
// may give, in seconds; our choice.
const enrollerLifetime = 7 * 24 * 3600

type teamInit struct {
	ownerOptions
	name, email, tags, policy string
}

func teamInitCommand() *cli.Command {
	var o teamInit
	return &cli.Command{
		Use:   "init SETUP-STRING",
		Short: "Found a team on a new server",
		Long: "Makes the team's owner key (locked by a passphrase), a recovery key that is shown once, your own\n" +
			"operator key and the key that signs join tokens, signs the first roster and hands it to the server.\n" +
			"The private keys stay on this machine. SETUP-STRING is what tucdesk-server printed at its first start,\n" +
			"\"-\" reads it from standard input. When all owner keys and the recovery key are lost, no server can\n" +
			"help: every machine has to join anew.",
		Example: "tucdesk team init --name acme --email me@example.com tucdesk-setup:eyJ1cmwiOi...\n" +
			"tucdesk team init --name acme --email me@example.com --tags prod,staging - < setup.txt",
		MinArgs: 1, MaxArgs: 1,
		Flags: func(f *flag.FlagSet) {
			o.ownerFlags(f)
			f.StringVar(&o.name, "name", "team", "`name` of the team, for people")
			f.StringVar(&o.email, "email", "", "your e-mail `address`, as rules name you")
			f.StringVar(&o.tags, "tags", "", "comma-separated `tags` that join tokens may give to machines")
			f.StringVar(&o.policy, "policy", "", "policy `file`; without it operators may open sessions on all machines")
		},
		Run: func(ctx context.Context, io *cli.IO, args []string) error { return o.run(ctx, io, args[0]) },
	}
}

func (o *teamInit) run(ctx context.Context, io *cli.IO, arg string) error {
	home, err := o.home()
	if err != nil {
		return err
	}
	if home.has(teamFile) {
		return &cli.Error{Err: refusal.New(refusal.AlreadyJoined, "there is a team in %q", home.dir), Hints: []string{"choose another folder: --state DIR"}}
	}
	setup, text, err := o.inputs(io, arg)
	if err != nil {
		return err
	}
	pass, err := o.newPassphrase(ctx)
	if err != nil {
		return err
	}
	defer clear(pass)
	if err := keyfile.CreateDir(home.dir); err != nil {
		return err
	}
	f, err := o.makeKeys(home, pass)
	if err != nil {
		return err
	}
	err = f.found(ctx, setup, text)
	switch {
	case err == nil:
		return o.finish(ctx, io, f)
	case f.mayExist(err):
		return errors.Join(o.show(io, f), &cli.Error{
			Err: fmt.Errorf("the server may have taken the team, but its answer did not come: %w", err),
			Hints: []string{
				"tucdesk login tells: if it works, the team is founded and nothing is lost",
				fmt.Sprintf("if not, remove %q and run tucdesk team init again", home.dir),
			},
		})
	}
	return errors.Join(err, f.undo())
}

// inputs reads what the person gave before anything is made.
func (o *teamInit) inputs(io *cli.IO, arg string) (roster.SetupInfo, []byte, error) {
	arg, err := stringOrStdin(io, arg)
	if err != nil {
		return roster.SetupInfo{}, nil, err
	}
	setup, err := roster.ParseSetup(arg)
	if err != nil {
		return roster.SetupInfo{}, nil, &cli.Error{Err: err, Hints: []string{"the string begins with tucdesk-setup: and is printed by tucdesk-server"}}
	}
	if o.email == "" {
		return roster.SetupInfo{}, nil, &cli.Error{Err: fmt.Errorf("your e-mail address is missing"), Hints: []string{"--email me@example.com"}, Exit: cli.ExitUsage}
	}
	text := policy.Default()
	if o.policy != "" {
		if text, err = readPublicFile(io, o.policy, maxPolicyFile); err != nil {
			return roster.SetupInfo{}, nil, err
		}
	}
	_, err = policy.Parse(text)
	return setup, text, err
}

// founding holds the fresh keys of a team until the server has accepted it.
type founding struct {
	home            Home
	owner, recovery key.Private[key.Owner]
	operator        key.Private[key.Operator]
	enroller        key.Private[key.Enroller]
	root            roster.Root
	email           string
	tags            []string
	member          membership
	sent            bool // the server was told; see mayExist
}

// makeKeys writes all keys before the server hears of them: a crash in between
// must not leave a team whose owner key is nowhere.
func (o *teamInit) makeKeys(home Home, pass []byte) (*founding, error) {
	f := &founding{home: home, email: o.email, tags: splitList(o.tags)}
	var err error
	if f.owner, err = key.Generate[key.Owner](); err != nil {
		return nil, err
	}
	if f.recovery, err = key.Generate[key.Owner](); err != nil {
		return nil, err
	}
	if err := vault.Create(home.path(ownerKeyFile), pass, f.owner); err != nil {
		return nil, err
	}
	if f.operator, err = keyfile.CreateKey[key.Operator](home.path(operatorKeyFile)); err != nil {
		return nil, errors.Join(err, f.undo())
	}
	if f.enroller, err = keyfile.CreateKey[key.Enroller](home.path(enrollerKeyFile)); err != nil {
		return nil, errors.Join(err, f.undo())
	}
	f.root = roster.Root{Team: wire.NewTeamID(), Name: o.name, Owners: []key.Public[key.Owner]{f.owner.Public(), f.recovery.Public()}, Threshold: 1}
	return f, nil
}

// mayExist reports whether the team may have come to be although err says
// otherwise: the server was told, and what came back is not its decision. The
// keys of such a team must stay, its setup code is used up.
func (f *founding) mayExist(err error) bool {
	switch refusal.Of(err) {
	case "", refusal.Unreachable, refusal.Unavailable, refusal.ProtocolError:
		return f.sent
	}
	return false
}

// undo removes the keys of a team that never came to be.
func (f *founding) undo() error {
	var errs []error
	for _, name := range []string{ownerKeyFile, operatorKeyFile, enrollerKeyFile, teamFile} {
		if err := os.Remove(f.home.path(name)); err != nil && !os.IsNotExist(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// found signs root and roster and hands them to the server.
func (f *founding) found(ctx context.Context, setup roster.SetupInfo, text []byte) error {
	root, err := roster.SignRoot(f.owner, f.root)
	if err != nil {
		return err
	}
	f.member = membership{URL: setup.URL, Pin: setup.Keys.TLS, Access: setup.Keys.Access.ID(), Team: f.root.Team, Fingerprint: root.Hash(), Root: root}
	first, err := roster.Sign(f.owner, f.firstRoster(setup, text))
	if err != nil {
		return err
	}
	state, err := roster.Found(root, root.Hash(), first)
	if err != nil {
		return err
	}
	signed, err := roster.SignSetup(f.owner, state, setup, time.Now())
	if err != nil {
		return err
	}
	server, err := client.New(f.member.server())
	if err != nil {
		return err
	}
	defer server.Close()
	if err := server.Health(ctx); err != nil {
		return err // while it is still certain that nothing has happened
	}
	if err := f.home.writeJSON(teamFile, f.member); err != nil {
		return err
	}
	f.sent = true
	return server.Setup(ctx, wire.SetupRequest{Code: setup.Code, Setup: signed, Root: root, Roster: state.Chain(), Policy: text})
}

func (f *founding) firstRoster(setup roster.SetupInfo, text []byte) roster.Roster {
	return roster.First(f.root, f.member.Fingerprint, func(r *roster.Roster) {
		r.Renew(time.Now(), roster.DefaultLifetime)
		r.Servers = []roster.Server{setup.Server("main")}
		r.Operators = []roster.Operator{{Key: f.operator.Public(), Email: f.email, Person: strings.ToLower(f.email), Role: policy.Admin}}
		r.Enrollers = []roster.Enroller{{Key: f.enroller.Public(), Tags: f.tags, MaxLifetime: enrollerLifetime}}
		r.PolicyHash = sha256.Sum256(text)
	})
}

// founded is the answer of team init.
type founded struct {
	Team        wire.TeamID `json:"team"`
	Fingerprint key.Hash    `json:"fingerprint"`
	TeamString  string      `json:"teamString"`
	Recovery    string      `json:"recoveryKey"`
}

// finish shows the recovery key before anything else can fail: it is in no file.
func (o *teamInit) finish(ctx context.Context, io *cli.IO, f *founding) error {
	if err := o.show(io, f); err != nil {
		return err
	}
	err := o.offline(io, func(a *account) error { return a.login(ctx) })
	if err != nil {
		return &cli.Error{Err: fmt.Errorf("the team is founded; logging in to it: %w", err), Hints: []string{"tucdesk login"}}
	}
	if !o.json {
		io.Say("Next, a join token for the first machine:  tucdesk token create")
	}
	return nil
}

// show prints what has to be kept of a new team.
func (o *teamInit) show(io *cli.IO, f *founding) error {
	recovery, err := vault.Recovery(f.recovery)
	if err != nil {
		return err
	}
	defer clear(recovery)
	text, err := f.member.teamString()
	if err != nil {
		return err
	}
	answer := founded{Team: f.root.Team, Fingerprint: f.member.Fingerprint, TeamString: text, Recovery: string(recovery)}
	if o.json {
		return io.PrintJSON(answer)
	}
	fmt.Fprintf(io.Out, "team         %s\nfingerprint  %s\nteam string  %s\n", f.root.Name, answer.Fingerprint, answer.TeamString)
	io.Say("\nRecovery key, shown this once. Write it down and keep it away from this machine:\n\n  %s\n", recovery)
	return nil
}

func teamShowCommand() *cli.Command {
	var o options
	return &cli.Command{
		Use: "show", Short: "Show the team's fingerprint, members, servers and expiry", Example: "tucdesk team show\ntucdesk team show --json",
		Flags: o.jsonFlag,
		Run: func(ctx context.Context, io *cli.IO, _ []string) error {
			return o.withAccount(ctx, io, func(a *account) error {
				if err := a.refresh(ctx); err != nil {
					return err
				}
				return a.showTeam(io, o.json)
			})
		},
	}
}

func teamRenewCommand() *cli.Command {
	var o ownerOptions
	return &cli.Command{
		Use: "renew", Short: "Renew the roster for another 90 days",
		Long:    "Signs the roster anew. When it expires, machines refuse new sessions: that bounds how long a server can hide news from them.",
		Example: "tucdesk team renew\ntucdesk team renew --passphrase-file /run/secrets/owner",
		Flags:   o.ownerFlags,
		Run: func(ctx context.Context, io *cli.IO, _ []string) error {
			return o.withAccount(ctx, io, func(a *account) error {
				owner, err := o.owner(ctx, io, a.home)
				if err != nil {
					return err
				}
				if err := a.publish(ctx, owner, nil, func(*roster.Roster) {}); err != nil {
					return err
				}
				return a.showTeam(io, o.json)
			})
		},
	}
}

func splitList(s string) []string {
	list := []string{}
	for _, part := range strings.Split(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// maxArgument is the longest string that "-" reads from standard input.
const maxArgument = 64 << 10

func stringOrStdin(io *cli.IO, arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	text, err := readLimited(io.In, maxArgument)
	return strings.TrimSpace(string(text)), err
}

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = refusal.New(refusal.TooLarge, "more than %d bytes", limit)
	}
	return text, err
}
