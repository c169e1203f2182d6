package owners

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/change"
	"github.com/tucdesk/tucdesk/operator/vault"
	"github.com/tucdesk/tucdesk/operator/verb"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/client"
)

// enrollerLifetime is the longest life of a join token that the first enroller
// may give, in seconds; our choice.
const enrollerLifetime = 7 * 24 * 3600

type teamInit struct {
	Options
	name, email, tags, policy string
	owners, codes             verb.ListFlag // of the other owners
	threshold                 int
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
			"help: every machine has to join anew.\n\n" +
			"With --owner the team has several owners from the beginning and no recovery key: each makes a key with tucdesk owner\n" +
			"create, and you compare the codes. The first roster then waits in a file until enough of them have signed it (tucdesk\n" +
			"team cosign); tucdesk team publish on this machine founds the team. The setup string is good for a day.",
		Example: "tucdesk team init --name acme --email me@example.com tucdesk-setup:eyJ1cmwiOi...\n" +
			"tucdesk team init --name acme --email me@example.com --tags prod,staging - < setup.txt\n" +
			"tucdesk team init --email me@example.com --owner tucdesk-owner-pub:1Jx... --owner tucdesk-owner-pub:zQ4... - < setup.txt",
		MinArgs: 1, MaxArgs: 1,
		Flags: func(f *flag.FlagSet) {
			o.ChangeFlags(f)
			f.Var(&o.owners, "owner", "owner `key` of another person; may be given again")
			f.Var(&o.codes, "code", "the short `code` that the other owner told you, one for each --owner and in their order")
			f.IntVar(&o.threshold, "threshold", 0, "the `number` of owners that must sign (default 2 with --owner, else 1)")
			f.StringVar(&o.name, "name", "team", "`name` of the team, for people")
			f.StringVar(&o.email, "email", "", "your e-mail `address`, as rules name you")
			f.StringVar(&o.tags, "tags", "", "comma-separated `tags` that join tokens may give to machines")
			f.StringVar(&o.policy, "policy", "", "policy `file`; without it operators may open sessions on all machines")
		},
		Run: func(ctx context.Context, io *cli.IO, args []string) error { return o.run(ctx, io, args[0]) },
	}
}

func (o *teamInit) run(ctx context.Context, io *cli.IO, arg string) error {
	home, err := o.Home()
	if err != nil {
		return err
	}
	if home.Has(account.TeamFile) {
		return &cli.Error{Err: refusal.New(refusal.AlreadyJoined, "there is a team in %q", home.Dir), Hints: []string{"choose another folder: --state DIR"}}
	}
	setup, text, err := o.inputs(io, arg)
	if err != nil {
		return err
	}
	others, err := o.others(ctx, io)
	if err != nil {
		return err
	}
	f, err := o.makeKeys(ctx, io, home, others)
	if err != nil {
		return err
	}
	first, err := f.sign(setup, text)
	if err != nil {
		return errors.Join(err, f.undo())
	}
	if first.Short > 0 {
		return o.waitForOwners(io, f, first, setup)
	}
	return o.found(ctx, io, f, first, setup)
}

// others are the owners besides this one, whose codes were compared.
func (o *teamInit) others(ctx context.Context, io *cli.IO) (keys []key.Public[key.Owner], err error) {
	usage := func(text, hint string) error {
		return &cli.Error{Err: errors.New(text), Hints: []string{hint}, Exit: cli.ExitUsage}
	}
	if o.threshold == 0 {
		o.threshold = min(2, 1+len(o.owners))
	}
	switch {
	case len(o.owners) == 0 && o.threshold != 1:
		return nil, usage("a threshold above 1 needs other owners", "--owner OWNER-KEY, once for each")
	case o.threshold < 1 || o.threshold > 1+len(o.owners):
		return nil, usage(fmt.Sprintf("%d of %d owners cannot be", o.threshold, 1+len(o.owners)), "--threshold NUMBER")
	case len(o.codes) > 0 && len(o.codes) != len(o.owners):
		return nil, usage("want one --code for each --owner", "in the same order")
	}
	for i, text := range o.owners {
		k, err := parseOwner(text)
		if err != nil {
			return nil, err
		}
		code := ""
		if len(o.codes) > 0 {
			code = o.codes[i]
		}
		if err := compareCode(ctx, io, code, "the person who made this owner key", k.ID()); err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// found hands the first roster to the server. What may have come to be although
// no answer says so stays; everything else is undone.
func (o *teamInit) found(ctx context.Context, io *cli.IO, f *founding, first *change.Change, setup roster.SetupInfo) error {
	sent, err := found(ctx, f.member, f.owner, first, setup, func() error { return f.home.WriteJSON(account.TeamFile, f.member) })
	switch {
	case err == nil:
		return o.finish(ctx, io, f)
	case sent && mayExist(err):
		return errors.Join(o.show(io, f), maybeFounded(err, f.home))
	}
	return errors.Join(err, f.undo())
}

func maybeFounded(err error, home account.Home) error {
	return &cli.Error{
		Err: fmt.Errorf("the server may have taken the team, but its answer did not come: %w", err),
		Hints: []string{
			"tucdesk login tells: if it works, the team is founded and nothing is lost",
			fmt.Sprintf("if not, remove %q and run tucdesk team init again", home.Dir),
		},
	}
}

// savedFounding is what founding.json holds, a secret.
type savedFounding struct {
	Setup string `json:"setup"`
}

// waitForOwners keeps what publishing takes later and hands the first roster on.
func (o *teamInit) waitForOwners(io *cli.IO, f *founding, first *change.Change, setup roster.SetupInfo) error {
	text, err := roster.SetupString(setup)
	if err == nil {
		err = f.home.WriteJSON(account.FoundingFile, savedFounding{text})
	}
	if err == nil {
		err = f.home.WriteJSON(account.TeamFile, f.member)
	}
	if err != nil {
		return errors.Join(err, f.undo())
	}
	err = o.leave(io, first)
	if refusal.Of(err) != refusal.NotEnoughSignatures { // the file could not be written
		return errors.Join(err, f.undo())
	}
	io.Say("fingerprint  %s", f.member.Fingerprint)
	io.Say("When the others have signed, found the team from this machine with: tucdesk team publish FILE")
	return err
}

// found is the end of a founding with several owners.
func (o *publishChange) found(ctx context.Context, io *cli.IO, home account.Home, f change.File) error {
	member, err := home.Membership()
	if err != nil {
		return err
	}
	c, err := change.Open(f, member.Fingerprint, nil, time.Now())
	if err != nil {
		return err
	}
	if c.Short > 0 {
		return missing(c, c.Name())
	}
	setup, err := o.setupString(home)
	if err != nil {
		return err
	}
	owner, err := o.Owner(ctx, io, home)
	if err != nil {
		return err
	}
	sent, err := found(ctx, member, owner, c, setup, func() error { return nil })
	if err != nil && sent && mayExist(err) {
		err = maybeFounded(err, home)
	} else if refusal.Of(err) == refusal.NotFound {
		err = &cli.Error{Err: err, Hints: []string{"the setup string is good for a day and once; print another at the server, tucdesk-server setup-code, and give it with --setup"}}
	}
	if err != nil {
		return err
	}
	return o.founded(ctx, io, home)
}

func (o *publishChange) founded(ctx context.Context, io *cli.IO, home account.Home) error {
	if err := os.Remove(home.Path(account.FoundingFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return o.Offline(io, func(a *account.Account) error {
		if err := a.Login(ctx); err != nil {
			return &cli.Error{Err: fmt.Errorf("the team is founded; logging in to it: %w", err), Hints: []string{"tucdesk login"}}
		}
		return showTeam(a, io, o.JSON)
	})
}

// setupString is the one that the founding began with, or a newer one of the very
// same server: the first roster names its keys and is signed.
func (o *publishChange) setupString(home account.Home) (roster.SetupInfo, error) {
	var saved savedFounding
	if err := home.ReadJSON(account.FoundingFile, account.MaxTeamFile, &saved); err != nil {
		return roster.SetupInfo{}, err
	}
	was, err := roster.ParseSetup(saved.Setup)
	if err != nil || o.setup == "" {
		return was, err
	}
	is, err := roster.ParseSetup(o.setup)
	if err == nil && is.Server("") != was.Server("") {
		err = &cli.Error{
			Err:   refusal.New(refusal.PinMismatch, "the setup string is not of the server that the other owners have signed for"),
			Hints: []string{"on that server: tucdesk-server setup-code", "for another server begin anew: tucdesk team init --state DIR"},
		}
	}
	return is, err
}

// inputs reads what the person gave before anything is made.
func (o *teamInit) inputs(io *cli.IO, arg string) (roster.SetupInfo, []byte, error) {
	arg, err := verb.StringOrStdin(io, arg)
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
		if text, err = verb.ReadPublicFile(io, o.policy, account.MaxPolicyFile); err != nil {
			return roster.SetupInfo{}, nil, err
		}
	}
	_, err = policy.Parse(text)
	return setup, text, err
}

// founding holds the fresh keys of a team until the server has accepted it.
type founding struct {
	home            account.Home
	owner, recovery key.Private[key.Owner] // recovery is zero where there are other owners
	operator        key.Private[key.Operator]
	enroller        key.Private[key.Enroller]
	root            roster.Root
	email           string
	tags            []string
	member          account.Membership
	made            []string // files, for undo
}

// makeKeys writes all keys before the server hears of them: a crash in between
// must not leave a team whose owner key is nowhere. Among several owners nobody
// has a recovery key: it would let its holder sign for two.
func (o *teamInit) makeKeys(ctx context.Context, io *cli.IO, home account.Home, others []key.Public[key.Owner]) (*founding, error) {
	f := &founding{home: home, email: o.email, tags: verb.SplitList(o.tags)}
	owner, err := o.ownOrNew(ctx, io, home, f)
	if err != nil {
		return nil, err
	}
	f.owner = owner
	if len(others) == 0 {
		if f.recovery, err = key.Generate[key.Owner](); err != nil {
			return nil, errors.Join(err, f.undo())
		}
		others = []key.Public[key.Owner]{f.recovery.Public()}
	}
	if f.operator, err = keyfile.CreateKey[key.Operator](home.Path(account.OperatorKeyFile)); err != nil {
		return nil, errors.Join(err, f.undo())
	}
	f.made = append(f.made, account.OperatorKeyFile)
	if f.enroller, err = keyfile.CreateKey[key.Enroller](home.Path(account.EnrollerKeyFile)); err != nil {
		return nil, errors.Join(err, f.undo())
	}
	f.made = append(f.made, account.EnrollerKeyFile)
	f.root = roster.Root{Team: wire.NewTeamID(), Name: o.name, Owners: append([]key.Public[key.Owner]{owner.Public()}, others...), Threshold: o.threshold}
	return f, nil
}

// ownOrNew is the owner key of tucdesk owner create, or one that is kept elsewhere,
// if there is one.
func (o *teamInit) ownOrNew(ctx context.Context, io *cli.IO, home account.Home, f *founding) (owner key.Private[key.Owner], err error) {
	if o.recovery != "" || home.Has(account.OwnerKeyFile) {
		if owner, err = o.Owner(ctx, io, home); err != nil {
			return owner, err
		}
		return owner, keyfile.CreateDir(home.Dir)
	}
	pass, err := o.newPassphrase(ctx)
	if err != nil {
		return owner, err
	}
	defer clear(pass)
	if err := keyfile.CreateDir(home.Dir); err != nil {
		return owner, err
	}
	if owner, err = key.Generate[key.Owner](); err != nil {
		return owner, err
	}
	if err := vault.Create(home.Path(account.OwnerKeyFile), pass, owner); err != nil {
		return owner, err
	}
	f.made = append(f.made, account.OwnerKeyFile)
	return owner, nil
}

// mayExist reports whether a team of which the server was told may have come to
// be although err says otherwise, because what came back is not its decision. The
// keys of such a team must stay, its setup code is used up.
func mayExist(err error) bool {
	switch refusal.Of(err) {
	case "", refusal.Unreachable, refusal.Unavailable, refusal.ProtocolError:
		return true
	}
	return false
}

// undo removes the keys of a team that never came to be.
func (f *founding) undo() error {
	var errs []error
	for _, name := range append(f.made, account.TeamFile, account.FoundingFile) {
		if err := os.Remove(f.home.Path(name)); err != nil && !os.IsNotExist(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// sign makes root and first roster, signed by this owner.
func (f *founding) sign(setup roster.SetupInfo, text []byte) (*change.Change, error) {
	root, err := roster.SignRoot(f.owner, f.root)
	if err != nil {
		return nil, err
	}
	f.member = account.Membership{URL: setup.URL, Pin: setup.Keys.TLS, Access: setup.Keys.Access.ID(), Team: f.root.Team, Fingerprint: root.Hash(), Root: root}
	before, err := roster.Begin(root, root.Hash())
	if err != nil {
		return nil, err
	}
	return change.Propose(before, f.firstRoster(setup, text), text, f.owner, time.Now())
}

// found hands a team to its server. ready is called when nothing but the call
// itself is left that could go wrong; sent says that the server was told.
func found(ctx context.Context, m account.Membership, owner key.Private[key.Owner], first *change.Change, setup roster.SetupInfo, ready func() error) (sent bool, err error) {
	state, err := first.Apply(time.Now())
	if err != nil {
		return false, err
	}
	signed, err := roster.SignSetup(owner, state, setup, time.Now())
	if err != nil {
		return false, err
	}
	server, err := client.New(m.Server())
	if err != nil {
		return false, err
	}
	defer server.Close()
	if err := server.Health(ctx); err != nil {
		return false, err // while it is still certain that nothing has happened
	}
	if err := ready(); err != nil {
		return false, err
	}
	return true, server.Setup(ctx, first.Found(setup, signed))
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
	Recovery    string      `json:"recoveryKey"` // "" where there are other owners
}

// finish shows the recovery key before anything else can fail: it is in no file.
func (o *teamInit) finish(ctx context.Context, io *cli.IO, f *founding) error {
	if err := o.show(io, f); err != nil {
		return err
	}
	err := o.Offline(io, func(a *account.Account) error { return a.Login(ctx) })
	if err != nil {
		return &cli.Error{Err: fmt.Errorf("the team is founded; logging in to it: %w", err), Hints: []string{"tucdesk login"}}
	}
	if !o.JSON {
		io.Say("Next, a join token for the first machine:  tucdesk token create")
	}
	return nil
}

// show prints what has to be kept of a new team.
func (o *teamInit) show(io *cli.IO, f *founding) error {
	var recovery []byte
	if !f.recovery.IsZero() {
		var err error
		if recovery, err = vault.Recovery(f.recovery); err != nil {
			return err
		}
		defer clear(recovery)
	}
	text, err := f.member.TeamString()
	if err != nil {
		return err
	}
	answer := founded{Team: f.root.Team, Fingerprint: f.member.Fingerprint, TeamString: text, Recovery: string(recovery)}
	if o.JSON {
		return io.PrintJSON(answer)
	}
	fmt.Fprintf(io.Out, "team         %s\nfingerprint  %s\nteam string  %s\n", f.root.Name, answer.Fingerprint, answer.TeamString)
	if len(recovery) == 0 {
		return nil
	}
	io.Say("\nRecovery key, shown this once. Write it down and keep it away from this machine:\n\n  %s\n", recovery)
	return nil
}
