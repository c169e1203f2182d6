// Package cosign is the verbs for a change that waits for signatures: an owner looks
// at it and signs it, anybody puts it into force.
package cosign

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/change"
	"github.com/tucdesk/tucdesk/operator/founding"
	"github.com/tucdesk/tucdesk/operator/owners"
	"github.com/tucdesk/tucdesk/operator/pending"
	"github.com/tucdesk/tucdesk/operator/verb"
)

type cosign struct {
	owners.Options
	yes bool
}

// Command is the verb team cosign.
func Command() *cli.Command {
	var o cosign
	return &cli.Command{
		Use: "cosign FILE", Short: "Look at a change that waits for signatures, and sign it",
		Long: "Shows in full what the change in FILE does to the team and, once you agree, adds your owner's signature to FILE. With\n" +
			"the last signature the change is published, if you are logged in. FILE is checked against the team that this client has\n" +
			"pinned and is refused if it was tampered with, is of another team, or if another change came first. A team that is being\n" +
			"founded you can sign before you are in it: compare the owners' codes with those who hold the keys.",
		Example: "tucdesk team cosign roster-5-3f6c0a91.pending\ntucdesk team cosign --yes roster-5-3f6c0a91.pending",
		MinArgs: 1, MaxArgs: 1, Files: true,
		Flags: func(f *flag.FlagSet) {
			o.OwnerFlags(f)
			f.BoolVar(&o.yes, "yes", false, "do not ask; for those who have read this very FILE already, where nobody else can write to it")
		},
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			home, err := o.Home()
			if err != nil {
				return err
			}
			f, err := pending.Read(io, args)
			if err != nil {
				return err
			}
			if !home.Has(account.TeamFile) {
				return o.founding(ctx, io, home, f, args[0])
			}
			return o.WithOwner(ctx, io, func(a *account.Account) error { return o.run(ctx, io, a, f, args[0]) })
		},
	}
}

func (o *cosign) run(ctx context.Context, io *cli.IO, a *account.Account, f change.File, path string) error {
	c, err := pending.Open(a, f)
	if err != nil {
		return err
	}
	if a.Alone && c.After.Version > 1 {
		io.Say("warning: nobody here can say whether roster version %d is the newest", c.Before.Version())
	}
	rules := pending.Rules(a, c.Before)
	if err := o.sign(ctx, io, a.Home, c, path, rules); err != nil {
		return err
	}
	v := pending.NewView(c, path, rules)
	if v.Short == 0 && !a.Alone {
		if err := owners.Publish(ctx, a, c); err != nil {
			return &cli.Error{Err: fmt.Errorf("%q is signed, but not published: %w", path, err), Hints: []string{pending.PublishLine(path)}}
		}
		v.Published = true
	}
	return o.tell(io, v)
}

// founding signs the first version of a team that does not exist yet. There is no
// pin: what is signed is only that team, and only for its owners.
func (o *cosign) founding(ctx context.Context, io *cli.IO, home account.Home, f change.File, path string) error {
	c, err := change.Open(f, f.Root.Hash(), nil, time.Now())
	if err != nil {
		return pending.InForce(err)
	}
	if c.After.Version != 1 {
		return &cli.Error{Err: refusal.New(refusal.NotLoggedIn, "no team in %q", home.Dir), Hints: []string{"tucdesk login TEAM-STRING pins the team, also for an owner who is no member"}}
	}
	if err := o.sign(ctx, io, home, c, path, nil); err != nil {
		return err
	}
	return o.tell(io, pending.NewView(c, path, nil))
}

// sign shows, asks, signs and writes the file anew.
func (o *cosign) sign(ctx context.Context, io *cli.IO, home account.Home, c *change.Change, path string, rules []byte) error {
	for _, line := range c.Words(rules) { // talk: the answer is what became of the change
		io.Say("%s", line)
	}
	if c.Short == 0 {
		return &cli.Error{Err: refusal.New(refusal.BadRequest, "the change has all its signatures"), Hints: []string{pending.PublishLine(path)}}
	}
	if !o.yes {
		no := &cli.Error{Err: errors.New("not confirmed; nothing was signed"), Hints: []string{"without a terminal: --yes"}}
		if err := verb.Confirm(ctx, io, "Sign this?", no); err != nil {
			return err
		}
	}
	owner, err := o.Owner(ctx, io, home)
	if err != nil {
		return err
	}
	if err := c.Sign(owner); err != nil {
		return err
	}
	return pending.Write(path, c)
}

func (o *cosign) tell(io *cli.IO, v pending.View) error {
	switch {
	case o.JSON:
		return io.PrintJSON(v)
	case v.Published:
		io.Print("signed; roster version %d is in force", v.Version)
	case v.Short == 0:
		io.Print("signed %s; it is complete", v.File)
		io.Say("a member who is logged in, or who founds the team, now runs: %s", pending.PublishLine(v.File))
	default:
		io.Print("signed %s; it needs %s", v.File, pending.Signatures(v.Short))
		io.Say("give the file to another owner, %s; there: %s", pending.Codes(v.Owners), pending.CosignLine(v.File))
	}
	return nil
}

type publishChange struct {
	owners.Options
	setup string
}

// maxCopies is how many files one change may be joined from: one of each owner.
const maxCopies = 32

// PublishCommand is the verb team publish.
func PublishCommand() *cli.Command {
	var o publishChange
	return &cli.Command{
		Use: "publish FILE...", Short: "Put a change into force that has all its signatures",
		Long: "Hands the change in FILE to the server; no owner key is needed, and no login: the signatures are the proof. Owners who signed copies of one file at the same time\n" +
			"are joined by naming all copies. On the machine where the team is being founded this founds it, with the owner key\n" +
			"once more for the server's setup code.",
		Example: "tucdesk team publish roster-5-3f6c0a91.pending\ntucdesk team publish from-bob.pending from-carol.pending",
		MinArgs: 1, MaxArgs: maxCopies, Files: true,
		Flags: func(f *flag.FlagSet) {
			o.OwnerFlags(f)
			f.StringVar(&o.setup, "setup", "", "a new setup `string` of the same server, when the one that the founding began with is too old")
		},
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			f, err := pending.Read(io, args)
			if err != nil {
				return err
			}
			home, err := o.Home()
			if err != nil {
				return err
			}
			if home.Has(account.FoundingFile) {
				return founding.Publish(ctx, io, &o.Options, home, f, o.setup, args[0])
			}
			return o.WithOwner(ctx, io, func(a *account.Account) error { return o.run(ctx, io, a, f, args[0]) })
		},
	}
}

func (o *publishChange) run(ctx context.Context, io *cli.IO, a *account.Account, f change.File, path string) error {
	c, err := pending.Open(a, f) // WithOwner has refreshed
	if err != nil {
		return err
	}
	if c.Short > 0 {
		return pending.Missing(c, path)
	}
	v := pending.NewView(c, path, pending.Rules(a, c.Before))
	if err := owners.Publish(ctx, a, c); err != nil {
		return err
	}
	if v.Published = true; o.JSON {
		return io.PrintJSON(v)
	}
	for _, line := range v.Changes {
		io.Say("%s", line)
	}
	return io.Print("roster version %d is in force", v.Version)
}
