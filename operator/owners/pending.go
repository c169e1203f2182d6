package owners

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/change"
	"github.com/tucdesk/tucdesk/operator/verb"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// WithOwner is WithAccount for verbs that an owner's signature is behind. They
// also work for an owner whose operator key has lost its place in the roster,
// from the roster as last seen: such a change is offered without a login, and
// where the server knows a newer roster somebody else publishes it.
func (o *Options) WithOwner(ctx context.Context, io *cli.IO, f func(*account.Account) error) error {
	return o.Offline(io, func(a *account.Account) error {
		err := a.Begin(ctx)
		if err == nil {
			err = a.Refresh(ctx)
		}
		if err != nil && !lostPlace(a, err) {
			return err
		}
		if err != nil {
			io.Say("warning: the server does not let this client in: %s", terminal.Escape(err.Error()))
			a.Alone = true
		}
		return f(a)
	})
}

// lostPlace tells a key that is not in the roster any more, or not yet, from a
// person who logged out and from a server that cannot be reached.
func lostPlace(a *account.Account, err error) bool {
	if a.State != nil && !a.Home.Has(account.LoginFile) {
		return false
	}
	switch refusal.Of(err) {
	case refusal.NotLoggedIn, refusal.UnknownKey, refusal.UnknownKid, refusal.KeyRevoked, refusal.WrongRole, refusal.Expired:
		return true
	}
	return false
}

// Change is how this client changes the roster, whatever the change: it makes the
// next version from edit, good for another 90 days, signs it and publishes it. A
// version that needs more signatures than this one, or that this client may not
// publish, goes into a file, and the error says what the next person types.
func (o *Options) Change(ctx context.Context, io *cli.IO, a *account.Account, policyText []byte, edit func(*roster.Roster)) error {
	if a.State == nil {
		return refusal.New(refusal.NotLoggedIn, "this client has not seen the team's roster yet, so it cannot change it")
	}
	owner, err := o.Owner(ctx, io, a.Home)
	if err != nil {
		return err
	}
	next := roster.Next(a.State, func(r *roster.Roster) {
		r.Renew(time.Now(), roster.DefaultLifetime)
		edit(r)
	})
	c, err := change.Propose(a.State, next, policyText, owner, time.Now())
	if err != nil {
		return fmt.Errorf("signing roster version %d: %w", next.Version, err)
	}
	if c.Short > 0 {
		return o.leave(io, c)
	}
	err = publish(ctx, a, c)
	if a.Alone && refusal.Of(err) == refusal.NotFound {
		return o.leave(io, c) // the roster has moved on, and we may not see it
	}
	return err
}

// publish hands a complete change to the server. It is checked here as everybody
// will check it.
func publish(ctx context.Context, a *account.Account, c *change.Change) error {
	if _, err := c.Apply(time.Now()); err != nil {
		return fmt.Errorf("publishing roster version %d: %w", c.After.Version, err)
	}
	hand := func() error { return a.Server.PublishRoster(ctx, a.Credentials, c.Publish()) }
	if a.Alone {
		hand = func() error { return a.Server.OfferRoster(ctx, c.Publish()) }
	}
	if err := hand(); err != nil || a.Alone { // who is alone may not know the versions before
		return err
	}
	return a.Learn(wire.RosterNews{Updates: []wire.RosterUpdate{c.Update}, Policy: c.Policy})
}

// changeView is a change that waits, as JSON.
type changeView struct {
	File      string   `json:"pending"`
	Version   uint64   `json:"rosterVersion"`
	Changes   []string `json:"changes"` // escaped as on the terminal
	Signed    []key.ID `json:"signed"`
	Short     int      `json:"signaturesMissing"`
	Owners    []key.ID `json:"owners"` // who may give them
	Published bool     `json:"published"`
}

func viewChange(c *change.Change, file string, rules []byte) changeView {
	return changeView{File: file, Version: c.After.Version, Changes: c.Words(rules), Signed: c.Signed, Short: c.Short, Owners: verb.List(c.Owners)}
}

// leave writes a change that this client cannot put into force.
func (o *Options) leave(io *cli.IO, c *change.Change) error {
	path := o.out
	if path == "" {
		path = c.Name()
	}
	if err := writeNew(path, c); err != nil {
		return err
	}
	if o.JSON {
		if err := io.PrintJSON(viewChange(c, path, nil)); err != nil {
			return err
		}
	}
	if c.Short == 0 {
		return &cli.Error{Err: refusal.New(refusal.NotEnoughSignatures, "the change is signed, but this client may not publish it; it waits in %q", path), Exit: cli.ExitPending, Hints: []string{
			"give the file to a member who is logged in; there: " + publishLine(path),
		}}
	}
	hints := []string{fmt.Sprintf("give the file to an owner, %s; there: %s", codeList(c.Owners), cosignLine(path))}
	if c.After.Version > 1 {
		hints = append(hints, "until then publish nothing else: another change would make this one void")
	}
	return &cli.Error{Err: refusal.New(refusal.NotEnoughSignatures, "the change needs %s; it waits in %q", signatures(c.Short), path), Exit: cli.ExitPending, Hints: hints}
}

func cosignLine(path string) string { return "tucdesk team cosign " + terminal.Quote([]byte(path)) }

func publishLine(path string) string { return "tucdesk team publish " + terminal.Quote([]byte(path)) }

func signatures(n int) string {
	if n == 1 {
		return "1 more signature"
	}
	return fmt.Sprintf("%d more signatures", n)
}

func codeList(ids []key.ID) string {
	codes := make([]string, len(ids))
	for i, id := range ids {
		codes[i] = id.ShortCode()
	}
	return strings.Join(codes, " or ")
}

// writeNew writes a change into a file that is not there yet: the file of another
// change must not vanish.
func writeNew(path string, c *change.Change) error {
	if _, err := os.Lstat(path); err == nil {
		return verb.Exists(path)
	}
	return writeChange(path, c)
}

// writeChange replaces the file as a whole. It holds no secret.
func writeChange(path string, c *change.Change) error {
	data, err := c.Encode()
	if err != nil {
		return err
	}
	return keyfile.WriteAtomic(path, data, 0o644)
}

// readChange reads copies of one change and joins their signatures.
func readChange(io *cli.IO, paths []string) (change.File, error) {
	var all change.File
	for i, path := range paths {
		data, err := verb.ReadPublicFile(io, path, change.MaxFile)
		if err != nil {
			return all, err
		}
		f, err := change.Parse(data)
		if err == nil && i > 0 {
			f, err = all.Merge(f)
		}
		if err != nil {
			return all, fmt.Errorf("reading %q: %w", path, err)
		}
		all = f
	}
	return all, nil
}

// openChange verifies a change by what this account knows.
func openChange(a *account.Account, f change.File) (*change.Change, error) {
	c, err := change.Open(f, a.Member.Fingerprint, a.State, time.Now())
	if err != nil {
		return nil, err
	}
	return c, c.Before.CheckProgram(cli.Version())
}

// rulesOf is the text of the rules that before binds, nil when it is not here.
func rulesOf(a *account.Account, before *roster.State) []byte {
	text, err := a.PolicyText(before, nil)
	if err != nil || a.State == nil || a.State.PolicyHash() != before.PolicyHash() || a.Rules == nil {
		return nil
	}
	return text
}

var errNotConfirmed = errors.New("not confirmed; nothing was signed")
