package founding

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/change"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// enrollerLifetime is the longest life of a join token that the first enroller
// may give, in seconds; our choice.
const enrollerLifetime = 7 * 24 * 3600

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
	madeDir         bool     // the folder too
}

// makeKeys writes all keys before the server hears of them: a crash in between
// must not leave a team whose owner key is nowhere. Among several owners nobody
// has a recovery key: it would let its holder sign for two.
func (o *teamInit) makeKeys(ctx context.Context, io *cli.IO, home account.Home, others []key.Public[key.Owner]) (*founding, error) {
	f := o.begin(home)
	_, err := os.Lstat(home.Dir)
	f.madeDir = errors.Is(err, fs.ErrNotExist)
	noted := home.Has(account.OwnerNotesFile)
	owner, fresh, err := o.OwnerOrNew(ctx, io, home)
	if err != nil {
		return nil, err
	}
	if f.owner = owner; fresh {
		f.made = append(f.made, account.OwnerKeyFile)
	}
	if fresh && !noted {
		f.made = append(f.made, account.OwnerNotesFile)
	}
	if len(others) == 0 {
		if f.recovery, err = key.Generate[key.Owner](); err != nil {
			return nil, errors.Join(err, f.undo())
		}
	}
	if f.operator, err = keyfile.CreateKey[key.Operator](home.Path(account.OperatorKeyFile)); err != nil {
		return nil, errors.Join(err, f.undo())
	}
	f.made = append(f.made, account.OperatorKeyFile)
	if f.enroller, err = keyfile.CreateKey[key.Enroller](home.Path(account.EnrollerKeyFile)); err != nil {
		return nil, errors.Join(err, f.undo())
	}
	f.made = append(f.made, account.EnrollerKeyFile)
	o.root(f, others)
	return f, nil
}

// undo removes the keys of a team that never came to be.
func (f *founding) undo() error {
	var errs []error
	for _, name := range append(f.made, account.TeamFile, account.FoundingFile) {
		if err := os.Remove(f.home.Path(name)); err != nil && !os.IsNotExist(err) {
			errs = append(errs, err)
		}
	}
	if f.madeDir {
		_ = os.Remove(f.home.Dir) // fails when something of others is in it
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

func (f *founding) firstRoster(setup roster.SetupInfo, text []byte) roster.Roster {
	return roster.First(f.root, f.member.Fingerprint, func(r *roster.Roster) {
		r.Renew(time.Now(), roster.DefaultLifetime)
		r.Servers = []roster.Server{setup.Server()}
		r.Operators = []roster.Operator{{Key: f.operator.Public(), Email: f.email, Person: strings.ToLower(f.email), Role: policy.Admin}}
		r.Enrollers = []roster.Enroller{{Key: f.enroller.Public(), Tags: f.tags, MaxLifetime: enrollerLifetime}}
		r.PolicyHash = sha256.Sum256(text)
	})
}
