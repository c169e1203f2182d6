package founding

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/change"
	"github.com/tucdesk/tucdesk/operator/members"
	"github.com/tucdesk/tucdesk/operator/owners"
	"github.com/tucdesk/tucdesk/operator/pending"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// Publish is the end of a founding with several owners, on the machine where it
// began: f, from the file at path, has their signatures. newSetup is a newer setup
// string of the same server, "" for the one that the founding began with.
func Publish(ctx context.Context, io *cli.IO, o *owners.Options, home account.Home, f change.File, newSetup, path string) error {
	member, err := home.Membership()
	if err != nil {
		return err
	}
	c, err := change.Open(f, member.Fingerprint, nil, time.Now())
	if err != nil {
		return err
	}
	if c.Short > 0 {
		return pending.Missing(c, path)
	}
	setup, err := setupString(home, newSetup)
	if err != nil {
		return err
	}
	owner, err := o.Owner(ctx, io, home)
	if err != nil {
		return err
	}
	sent, err := found(ctx, member, owner, c, setup, func() error { return nil })
	switch {
	case err == nil:
		return begun(ctx, io, o, home)
	case sent && mayExist(err):
		return maybeFounded(err, home)
	}
	return setupUsed(err, pending.PublishLine(path)+" --setup SETUP-STRING")
}

// begun logs in to the new team.
func begun(ctx context.Context, io *cli.IO, o *owners.Options, home account.Home) error {
	if err := os.Remove(home.Path(account.FoundingFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return o.Offline(io, func(a *account.Account) error {
		if err := a.Login(ctx); err != nil {
			return &cli.Error{Err: fmt.Errorf("the team is founded; logging in to it: %w", err), Hints: []string{"tucdesk login"}}
		}
		return members.ShowTeam(a, io, o.JSON)
	})
}

// setupString is the one that the founding began with, or a newer one of the very
// same server: the first roster names its keys and is signed.
func setupString(home account.Home, newer string) (roster.SetupInfo, error) {
	var saved savedFounding
	if err := home.ReadJSON(account.FoundingFile, account.MaxTeamFile, &saved); err != nil {
		return roster.SetupInfo{}, err
	}
	was, err := roster.ParseSetup(saved.Setup)
	if err != nil || newer == "" {
		return was, err
	}
	is, err := roster.ParseSetup(newer)
	if err != nil {
		return is, cli.NotCarried(err, newer, setupPrefix, setupSource)
	}
	if is.Server() != was.Server() {
		err = &cli.Error{
			Err:   refusal.New(refusal.PinMismatch, "the setup string is not of the server that the other owners have signed for"),
			Hints: []string{"on that server: tucdesk-server setup-code", "for another server begin anew: tucdesk team init --state DIR"},
		}
	}
	return is, err
}
