// Package founding makes a new team: its keys, its root and the first version of its
// roster, and hands them to a server that has no team by this setup string yet.
// Keys are on the disk before the server hears of them, and go again when it is sure
// that no team came to be.
package founding

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/change"
	"github.com/tucdesk/tucdesk/operator/owners"
	"github.com/tucdesk/tucdesk/operator/vault"
	"github.com/tucdesk/tucdesk/operator/verb"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/client"
)

type teamInit struct {
	owners.Options
	name, email, policy string
	tagText             string        // --tags as it was typed
	tags                []string      // and read
	owners, codes       verb.ListFlag // of the other owners
	threshold           int
}

// Command is the verb team init.
func Command() *cli.Command {
	var o teamInit
	return &cli.Command{
		Use:   "init SETUP-STRING|FILE|-",
		Short: "Found a team on a new server",
		Long: "Makes the team's owner key (locked by a passphrase), a recovery key that is shown once, your own\n" +
			"operator key and the key that signs join tokens, signs the first roster and hands it to the server.\n" +
			"The private keys stay on this machine. SETUP-STRING is what tucdesk-server printed at its first start:\n" +
			"itself, the file that it is in, or \"-\" for standard input. When all owner keys and the recovery key are lost, no server can\n" +
			"help: every machine has to join anew.\n\n" +
			"With --owner the team has several owners from the beginning and no recovery key: each makes a key with tucdesk owner\n" +
			"create, and you compare the codes. The first roster then waits in a file until enough of them have signed it (tucdesk\n" +
			"team cosign); tucdesk team publish on this machine founds the team. The setup string is good for a day.",
		Example: "tucdesk team init --name acme --email me@example.com tucdesk-setup:eyJ1cmwiOi...\n" +
			"tucdesk team init --name acme --email me@example.com --tags prod,staging setup.txt\n" +
			"tucdesk team init --email me@example.com --owner tucdesk-owner-pub:1Jx... --owner tucdesk-owner-pub:zQ4... setup.txt",
		MinArgs: 1, MaxArgs: 1, Files: true,
		Flags: func(f *flag.FlagSet) {
			o.ChangeFlags(f)
			f.Var(&o.owners, "owner", "owner `key` of another person; may be given again")
			f.Var(&o.codes, "code", "the short `code` that the other owner told you, one for each --owner and in their order")
			f.IntVar(&o.threshold, "threshold", 0, "the `number` of owners that must sign (default 2 with --owner, else 1)")
			f.StringVar(&o.name, "name", "team", "`name` of the team, for people")
			f.StringVar(&o.email, "email", "", "your e-mail `address`, as rules name you")
			f.StringVar(&o.tagText, "tags", "", "comma-separated `tags` that join tokens may give to machines")
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
	if o.tags, err = verb.Tags(o.tagText); err != nil {
		return err
	}
	setup, text, err := o.inputs(io, arg)
	if err != nil {
		return err
	}
	others, err := o.others()
	if err != nil {
		return err
	}
	if err := o.trial(setup, text, others); err != nil {
		return err
	}
	if err := o.compareCodes(ctx, io, others); err != nil {
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

// others are the owners besides this one.
func (o *teamInit) others() (keys []key.Public[key.Owner], err error) {
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
		k, err := owners.ParseKey(text)
		if err == nil {
			err = owners.CheckCode(o.code(i), k.ID())
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// code is what --code says of the owner i, "" for nothing.
func (o *teamInit) code(i int) string {
	if len(o.codes) == 0 {
		return ""
	}
	return o.codes[i]
}

func (o *teamInit) compareCodes(ctx context.Context, io *cli.IO, others []key.Public[key.Owner]) error {
	for i, k := range others {
		if err := owners.CompareCode(ctx, io, o.code(i), "the person who made this owner key", k.ID()); err != nil {
			return err
		}
	}
	return nil
}

// trial founds the team with keys that are thrown away, so that a wrong name, tag or
// address is found before a passphrase is asked for.
func (o *teamInit) trial(setup roster.SetupInfo, text []byte, others []key.Public[key.Owner]) error {
	if !roster.ValidEmail(o.email) { // the roster would name a key, which nobody has seen yet
		return &cli.Error{Err: refusal.New(refusal.BadName, "--email %q: want one address, as you@example.com", o.email), Exit: cli.ExitUsage}
	}
	f := o.begin(account.Home{})
	var err [4]error
	f.owner, err[0] = key.Generate[key.Owner]()
	f.recovery, err[1] = key.Generate[key.Owner]()
	f.operator, err[2] = key.Generate[key.Operator]()
	f.enroller, err[3] = key.Generate[key.Enroller]()
	if err := errors.Join(err[:]...); err != nil {
		return err
	}
	o.root(f, others)
	_, bad := f.sign(setup, text)
	return bad
}

// root says who owns the team: f's owner and the others, or the recovery key.
func (o *teamInit) root(f *founding, others []key.Public[key.Owner]) {
	if len(others) == 0 {
		others = []key.Public[key.Owner]{f.recovery.Public()}
	}
	f.root = roster.Root{Team: wire.NewTeamID(), Name: o.name, Owners: append([]key.Public[key.Owner]{f.owner.Public()}, others...), Threshold: o.threshold}
}

func (o *teamInit) begin(home account.Home) *founding {
	return &founding{home: home, email: o.email, tags: o.tags}
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
	return errors.Join(setupUsed(err, "tucdesk team init"), f.undo())
}

// setupUsed says what a server means that knows no such setup code: it does not tell
// a used one from one that never was.
func setupUsed(err error, again string) error {
	if refusal.Of(err) != refusal.NotFound {
		return err
	}
	return &cli.Error{Err: fmt.Errorf("the server does not take this setup string: %w", err), Hints: []string{
		"a setup string founds one team, once, within a day; was it used already?",
		"for another, at the server: tucdesk-server setup-code; then again: " + again,
	}}
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
	err = o.Leave(io, first)
	if refusal.Of(err) != refusal.NotEnoughSignatures { // the file could not be written
		return errors.Join(err, f.undo())
	}
	io.Say("fingerprint  %s", f.member.Fingerprint)
	io.Say("When the others have signed, found the team from this machine with: tucdesk team publish FILE")
	return err
}

// Where a setup string comes from.
const (
	setupPrefix = "tucdesk-setup:"
	setupSource = "printed by tucdesk-server at its first start, and by tucdesk-server setup-code"
)

// inputs reads what the person gave before anything is made.
func (o *teamInit) inputs(io *cli.IO, arg string) (roster.SetupInfo, []byte, error) {
	given, err := io.Carried(arg)
	if err != nil {
		return roster.SetupInfo{}, nil, cli.NotCarried(err, arg, setupPrefix, setupSource)
	}
	setup, err := roster.ParseSetup(given)
	if err != nil {
		return roster.SetupInfo{}, nil, cli.NotCarried(err, given, setupPrefix, setupSource)
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
		io.Say("Next, a join token for the first machine:  %s", f.firstToken())
	}
	return nil
}

// firstToken is the command that makes it. Without the team's tags the first machine
// would have none, and the rules about them pass it by unseen.
func (f *founding) firstToken() string {
	if len(f.tags) == 0 {
		return "tucdesk token create"
	}
	return "tucdesk token create --tags " + strings.Join(f.tags, ",")
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
		owners.NoteRecovery(f.home, f.recovery.ID())
	}
	text, err := f.member.TeamString()
	if err != nil {
		return err
	}
	answer := founded{Team: f.root.Team, Fingerprint: f.member.Fingerprint, TeamString: text, Recovery: string(recovery)}
	if o.JSON {
		return io.PrintJSON(answer)
	}
	io.Print("team         %s\nfingerprint  %s\nteam string  %s", f.root.Name, answer.Fingerprint, answer.TeamString)
	if len(recovery) == 0 {
		return nil
	}
	io.Say("\nRecovery key, shown this once. Write it down and keep it away from this machine:\n\n  %s\n", recovery)
	return nil
}
