package owners

import (
	"context"
	"fmt"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/change"
	"github.com/tucdesk/tucdesk/operator/pending"
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
	if err := a.NeedRoster(); err != nil {
		return err
	}
	next := roster.Next(a.State, func(r *roster.Roster) {
		r.Renew(time.Now(), roster.DefaultLifetime)
		edit(r)
	})
	if err := next.Validate(); err != nil { // before a passphrase is asked for
		return fmt.Errorf("changing the roster: %w", err)
	}
	owner, err := o.Owner(ctx, io, a.Home)
	if err != nil {
		return err
	}
	c, err := change.Propose(a.State, next, policyText, owner, time.Now())
	if err != nil {
		return fmt.Errorf("signing roster version %d: %w", next.Version, err)
	}
	if c.Short > 0 {
		return o.Leave(io, c)
	}
	err = Publish(ctx, a, c)
	if a.Alone && refusal.Of(err) == refusal.NotFound {
		return o.Leave(io, c) // the roster has moved on, and we may not see it
	}
	return err
}

// Publish hands a complete change to the server. It is checked here as everybody
// will check it.
func Publish(ctx context.Context, a *account.Account, c *change.Change) error {
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

// Leave writes a change that this client cannot put into force where --out says; the
// error says who does what next.
func (o *Options) Leave(io *cli.IO, c *change.Change) error {
	return pending.Leave(io, c, o.out, o.JSON)
}
