package members

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/owners"
	"github.com/tucdesk/tucdesk/operator/verb"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// OwnerCommand is the noun owner.
func OwnerCommand() *cli.Command {
	return &cli.Command{Use: "owner", Short: "Make owner keys, and say who owns the team", Sub: []*cli.Command{
		ownerCreateCommand(), ownerShowCommand(), ownerListCommand(), ownerAddCommand(), ownerRemoveCommand(), ownerThresholdCommand(),
	}}
}

// ownerView is one owner's key.
type ownerView struct {
	Owner string `json:"owner"` // the public key
	Key   key.ID `json:"key"`
	Code  string `json:"shortCode"`
	Is    string `json:"is"` // "own", "recovery", or "" where this machine knows nothing of it
}

func viewOwner(k key.Public[key.Owner], known owners.Notes) ownerView {
	v := ownerView{Owner: k.String(), Key: k.ID(), Code: k.ID().ShortCode()}
	switch v.Key {
	case known.Own:
		v.Is = "own"
	case known.Recovery:
		v.Is = "recovery"
	}
	return v
}

func printOwner(io *cli.IO, asJSON bool, k key.Public[key.Owner]) error {
	v := viewOwner(k, owners.Notes{Own: k.ID()})
	if asJSON {
		return io.PrintJSON(v)
	}
	return io.Print("owner key   %s\nshort code  %s", v.Owner, v.Code)
}

func ownerCreateCommand() *cli.Command {
	var o owners.Options
	return &cli.Command{
		Use: "create", Short: "Make an owner key of your own on this machine",
		Long: "Makes a key, locks it with a passphrase and prints its public half with a short code. Whoever founds the team (tucdesk\n" +
			"team init --owner) or owns it already (tucdesk owner add) enters the public half, after both of you have compared the\n" +
			"code by voice or in person. The private half stays here, in owner.age in the state folder: keep a copy of that file.",
		Example: "tucdesk owner create\ntucdesk owner create --passphrase-file /run/secrets/owner --json", Flags: o.OwnerFlags,
		Run: func(ctx context.Context, io *cli.IO, _ []string) error { return createOwner(ctx, &o, io) },
	}
}

func createOwner(ctx context.Context, o *owners.Options, io *cli.IO) error {
	home, err := o.Home()
	if err != nil {
		return err
	}
	if home.Has(account.OwnerKeyFile) {
		return &cli.Error{Err: fmt.Errorf("there is an owner key in %q: %w", home.Dir, fs.ErrExist), Hints: []string{"tucdesk owner show"}}
	}
	owner, err := o.Create(ctx, io, home)
	if err != nil {
		return err
	}
	return printOwner(io, o.JSON, owner.Public())
}

func ownerShowCommand() *cli.Command {
	var o owners.Options
	return &cli.Command{
		Use: "show", Short: "Show the public half of this machine's owner key", Example: "tucdesk owner show", Flags: o.OwnerFlags,
		Run: func(ctx context.Context, io *cli.IO, _ []string) error {
			home, err := o.Home()
			if err != nil {
				return err
			}
			owner, err := o.Owner(ctx, io, home)
			if err != nil {
				return err
			}
			return printOwner(io, o.JSON, owner.Public())
		},
	}
}

// ownersView is the answer of owner ls and of the verbs that change it.
type ownersView struct {
	Version   uint64      `json:"rosterVersion"`
	Threshold int         `json:"threshold"` // owners that must sign
	Owners    []ownerView `json:"owners"`
}

func ownerListCommand() *cli.Command {
	var o verb.Options
	return &cli.Command{
		Use: "ls", Short: "List the owners' keys and how many must sign", Flags: o.JSONFlag,
		Long: "The roster does not say whose a key is. Yours is the one that this machine has made or opened last, and the recovery key\n" +
			"is known where the team was founded. Of all others the codes tell.",
		Example: "tucdesk owner ls\ntucdesk owner ls --json",
		Run: func(ctx context.Context, io *cli.IO, _ []string) error {
			return o.WithRoster(ctx, io, func(a *account.Account) error { return showOwners(a, io, o.JSON) })
		},
	}
}

func showOwners(a *account.Account, io *cli.IO, asJSON bool) error {
	r := a.State.Roster()
	v, known := ownersView{Version: r.Version, Threshold: r.Threshold}, owners.ReadNotes(a.Home)
	for _, k := range r.Owners {
		v.Owners = append(v.Owners, viewOwner(k, known))
	}
	if asJSON {
		return io.PrintJSON(v)
	}
	io.Print("%d of %s must sign, as of roster version %d\n", v.Threshold, cli.Count(len(v.Owners), "owner"), v.Version)
	return verb.Table(io, []any{"CODE", "WHOSE", "OWNER KEY"}, func(row func(...any)) {
		for _, k := range v.Owners {
			row(k.Code, whose(k.Is), k.Owner)
		}
	})
}

// whose is for people what ownerView.Is says.
func whose(is string) string {
	switch is {
	case "own":
		return "yours"
	case "recovery":
		return "recovery key"
	}
	return "other"
}

// ownerChange are the flags of verbs that change who owns the team.
type ownerChange struct {
	owners.Options
	threshold int
	code      string
	revoke    bool
}

func (o *ownerChange) thresholdFlag(f *flag.FlagSet) {
	f.IntVar(&o.threshold, "threshold", 0, "at the same time, let this `number` of owners have to sign (default: as many as before)")
}

// bothSets is said where somebody may be asked for a signature they do not expect.
const bothSets = "Such a change is signed by as many of the owners before it as had to sign, and by as many of the owners after it as will\n" +
	"have to. What this machine cannot sign alone goes into a file for the others: tucdesk team cosign."

func ownerAddCommand() *cli.Command {
	var o ownerChange
	return &cli.Command{
		Use: "add OWNER-KEY", Short: "Make a person's owner key one of the team's",
		Long: "OWNER-KEY and a short code are what tucdesk owner create prints on the other person's machine. Compare the code by\n" +
			"voice or in person before you agree; --code takes the code that you were told, for scripts.\n\n" + bothSets,
		Example: "tucdesk owner add tucdesk-owner-pub:1Jx...\ntucdesk owner add tucdesk-owner-pub:1Jx... --code 7Q2M-0XKD-91TB --threshold 2",
		MinArgs: 1, MaxArgs: 1,
		Flags: func(f *flag.FlagSet) {
			o.ChangeFlags(f)
			o.thresholdFlag(f)
			f.StringVar(&o.code, "code", "", "the short `code` that the other person told you")
		},
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			k, err := owners.ParseKey(args[0])
			if err != nil {
				return err
			}
			if err := owners.CheckCode(o.code, k.ID()); err != nil {
				return err
			}
			return o.WithOwner(ctx, io, func(a *account.Account) error {
				if a.State != nil && slices.Contains(a.State.Roster().Owners, k) {
					return &cli.Error{Err: refusal.New(refusal.KeyInUse, "key %s is an owner's already", k.ID().ShortCode()), Hints: []string{"tucdesk owner ls"}}
				}
				if err := owners.CompareCode(ctx, io, o.code, "the person who made this owner key", k.ID()); err != nil {
					return err
				}
				return o.run(ctx, io, a, func(r *roster.Roster) { r.Owners = append(r.Owners, k) })
			})
		},
	}
}

// run changes the owners by edit and shows them.
func (o *ownerChange) run(ctx context.Context, io *cli.IO, a *account.Account, edit func(*roster.Roster)) error {
	err := o.Change(ctx, io, a, nil, func(r *roster.Roster) {
		edit(r)
		if o.threshold != 0 {
			r.Threshold = o.threshold
		}
	})
	if refusal.Of(err) == refusal.BadStatement {
		return &cli.Error{Err: err, Hints: []string{"with --threshold NUMBER the number of owners that must sign changes too"}}
	}
	if err != nil {
		return err
	}
	return showOwners(a, io, o.JSON)
}

func ownerRemoveCommand() *cli.Command {
	var o ownerChange
	return &cli.Command{
		Use: "rm OWNER-KEY|CODE", Short: "Take an owner's key out of the team's",
		Long: "The key signs nothing for the team any more. Join tokens that it signed stay good; with --revoke, for a key that is lost\n" +
			"or stolen, they and the machines that joined with them end too, and the key never comes back.\n\n" + bothSets,
		Example: "tucdesk owner rm 7Q2M-0XKD-91TB\ntucdesk owner rm 7Q2M-0XKD-91TB --revoke --threshold 1",
		MinArgs: 1, MaxArgs: 1,
		Flags: func(f *flag.FlagSet) {
			o.ChangeFlags(f)
			o.thresholdFlag(f)
			f.BoolVar(&o.revoke, "revoke", false, "put the key into the revoked ones")
		},
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			return o.WithOwner(ctx, io, func(a *account.Account) error { return o.remove(ctx, io, a, args[0]) })
		},
	}
}

func (o *ownerChange) remove(ctx context.Context, io *cli.IO, a *account.Account, who string) error {
	if err := a.NeedRoster(); err != nil {
		return err
	}
	gone, err := only(ownersOf(a.State.Roster().Owners, who), who)
	if err != nil {
		return err
	}
	return o.run(ctx, io, a, func(r *roster.Roster) {
		r.Owners = slices.DeleteFunc(r.Owners, func(k key.Public[key.Owner]) bool { return k == gone })
		if o.revoke {
			r.Revoke(gone.ID())
		}
	})
}

// ownersOf finds owners by key, key id or short code.
func ownersOf(list []key.Public[key.Owner], who string) []key.Public[key.Owner] {
	return slices.DeleteFunc(slices.Clone(list), func(k key.Public[key.Owner]) bool {
		return k.String() != who && k.ID().String() != who && !strings.EqualFold(k.ID().ShortCode(), who)
	})
}

// only is the one owner that who names. One person makes two keys of one short code with
// 2^30 tries, and would stay an owner by the second when the first is taken out.
func only(found []key.Public[key.Owner], who string) (key.Public[key.Owner], error) {
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return key.Public[key.Owner]{}, &cli.Error{Err: refusal.New(refusal.NotFound, "no owner %q in the roster", who), Hints: []string{"tucdesk owner ls"}}
	}
	return key.Public[key.Owner]{}, &cli.Error{Err: refusal.New(refusal.BadRequest, "%d owners have the short code %s; somebody has made them so", len(found), who), Hints: []string{
		"take each of them out by its whole key: tucdesk owner ls"}}
}

func ownerThresholdCommand() *cli.Command {
	var o ownerChange
	return &cli.Command{
		Use: "threshold NUMBER", Short: "Set how many owners must sign a change",
		Long:    "With 2 of 3, a stolen owner key changes nothing and a lost one costs nothing.\n\n" + bothSets,
		Example: "tucdesk owner threshold 2", MinArgs: 1, MaxArgs: 1, Flags: o.ChangeFlags,
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			n, err := strconv.Atoi(args[0])
			if err != nil || n < 1 || n > roster.MaxOwners {
				return &cli.Error{Err: errors.New("NUMBER is from 1 to the number of owners"), Exit: cli.ExitUsage}
			}
			o.threshold = n
			return o.WithOwner(ctx, io, func(a *account.Account) error { return o.run(ctx, io, a, func(*roster.Roster) {}) })
		},
	}
}
