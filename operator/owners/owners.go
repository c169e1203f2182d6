// Package owners is what every verb needs that changes the team: the owner's key,
// behind its passphrase, and one way to change the roster, Options.Change. The next
// version is signed by this owner and published, or waits in a file for others'
// signatures (package pending).
package owners

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/vault"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// Options are the flags of verbs that need an owner's signature. Secrets
// come from a prompt or from a file, never from the command line, where every
// process of the machine could read them.
type Options struct {
	verb.Options
	passphrase string
	recovery   string
	out        string // where a change that waits for signatures is written
}

const maxPassphraseFile = 4 << 10

// OwnerFlags are the flags of verbs that sign with an owner key.
func (o *Options) OwnerFlags(f *flag.FlagSet) {
	o.JSONFlag(f)
	f.StringVar(&o.passphrase, "passphrase-file", "", "`file` (mode 0600) whose first line unlocks the owner key; without it you are asked")
	f.StringVar(&o.recovery, "recovery-key-file", "", "`file` (mode 0600) with the recovery key, used instead of the owner key")
}

// ChangeFlags are the flags of verbs that change the roster.
func (o *Options) ChangeFlags(f *flag.FlagSet) {
	o.OwnerFlags(f)
	f.StringVar(&o.out, "out", "", "new `file` for a change that needs more signatures (default roster-VERSION-HASH.pending, here)")
}

// Owner unlocks the owner key, or takes the recovery key. A passphrase mistyped
// at the prompt may be tried three times.
func (o *Options) Owner(ctx context.Context, io *cli.IO, home account.Home) (key.Private[key.Owner], error) {
	if o.recovery != "" {
		text, err := keyfile.ReadPrivate(o.recovery, maxPassphraseFile)
		if err != nil {
			return key.Private[key.Owner]{}, verb.NotThere(err, o.recovery, "--recovery-key-file names a file of mode 0600 with the tucdesk-recovery: line that team init has shown")
		}
		defer clear(text)
		owner, err := vault.ParseRecovery(text)
		if err != nil {
			err = &cli.Error{Err: err, Hints: []string{"wanted is the whole tucdesk-recovery: line that team init has shown"}}
		}
		return owner, err
	}
	if !home.Has(account.OwnerKeyFile) {
		return key.Private[key.Owner]{}, &cli.Error{
			Err:   refusal.New(refusal.WrongRole, "there is no owner key in %q", home.Dir),
			Hints: []string{"run this where your owner key is, or with --recovery-key-file FILE", "to make one: tucdesk owner create"},
		}
	}
	defer o.quiet(ctx)()
	for try := 1; ; try++ {
		pass, err := o.readPassphrase(ctx, "Passphrase of the owner key: ")
		if err != nil {
			return key.Private[key.Owner]{}, err
		}
		owner, err := unlock(io, home.Path(account.OwnerKeyFile), pass)
		clear(pass)
		if err == nil {
			noteOwn(home, owner.ID())
		}
		if err == nil {
			return owner, nil
		}
		if o.passphrase != "" || try == 3 {
			return owner, o.locked(err)
		}
		io.Say("%v; try again", err)
	}
}

// locked adds to err what there is for whoever has lost the passphrase.
func (o *Options) locked(err error) error {
	if !errors.Is(err, vault.ErrPassphrase) {
		return err
	}
	typed := "capitals and spaces count"
	if o.passphrase != "" {
		typed = "the file holds the passphrase alone, on its first line; " + typed
	}
	return &cli.Error{Err: err, Exit: cli.ExitFailed, Hints: []string{typed, "it is lost: the recovery key signs with --recovery-key-file FILE, and so does any other owner"}}
}

// unlock opens the file. It is made to take seconds, of a slow machine ten, in which a
// person who sees nothing would think that the passphrase was not taken.
func unlock(io *cli.IO, path string, pass []byte) (key.Private[key.Owner], error) {
	busy := verb.NewProgress(io, true)
	defer busy.End()
	busy.Show("unlocking the owner key, which is slow on purpose...")
	return vault.Open(path, pass)
}

// lock writes the file, which takes as long.
func lock(io *cli.IO, path string, pass []byte, owner key.Private[key.Owner]) error {
	busy := verb.NewProgress(io, true)
	defer busy.End()
	busy.Show("locking the owner key, which is slow on purpose...")
	return vault.Create(path, pass, owner)
}

// quiet keeps a person's terminal from showing anything typed until end is called, so
// also while a key is unlocked.
func (o *Options) quiet(ctx context.Context) (end func()) {
	if o.passphrase != "" {
		return func() {}
	}
	return terminal.Quiet(ctx)
}

func (o *Options) readPassphrase(ctx context.Context, prompt string) ([]byte, error) {
	if o.passphrase == "" {
		pass, err := terminal.ReadPassphrase(ctx, prompt)
		if errors.Is(err, terminal.ErrNoTerminal) {
			return nil, &cli.Error{Err: err, Hints: []string{"give the passphrase with --passphrase-file FILE"}}
		}
		return pass, err
	}
	text, err := keyfile.ReadPrivate(o.passphrase, maxPassphraseFile)
	if err != nil {
		return nil, verb.NotThere(err, o.passphrase, "--passphrase-file names a file of mode 0600 with the passphrase on its first line; without it you are asked")
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), nil
}

// Create makes an owner key on this machine, locked by a new passphrase. An error
// leaves no key.
func (o *Options) Create(ctx context.Context, io *cli.IO, home account.Home) (owner key.Private[key.Owner], err error) {
	defer o.quiet(ctx)()
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
	if err := lock(io, home.Path(account.OwnerKeyFile), pass, owner); err != nil {
		return owner, err
	}
	noteOwn(home, owner.ID())
	return owner, nil
}

// OwnerOrNew is the key that Create has made, or one that is kept elsewhere, if there
// is one; otherwise it makes one, and fresh says so.
func (o *Options) OwnerOrNew(ctx context.Context, io *cli.IO, home account.Home) (owner key.Private[key.Owner], fresh bool, err error) {
	if o.recovery == "" && !home.Has(account.OwnerKeyFile) {
		owner, err = o.Create(ctx, io, home)
		return owner, err == nil, err
	}
	if owner, err = o.Owner(ctx, io, home); err != nil {
		return owner, false, err
	}
	return owner, false, keyfile.CreateDir(home.Dir)
}

// newPassphrase asks twice, or reads the file once. What is too short is said before
// it has to be typed again.
func (o *Options) newPassphrase(ctx context.Context) ([]byte, error) {
	first, err := o.readPassphrase(ctx, fmt.Sprintf("New passphrase for the owner key (at least %d characters): ", vault.MinPassphrase))
	if err == nil && len(first) < vault.MinPassphrase {
		clear(first)
		err = &cli.Error{Err: fmt.Errorf("making an owner key: the passphrase needs at least %d characters", vault.MinPassphrase), Hints: []string{"several words that have nothing to do with each other are long and can be kept in mind"}}
	}
	if err != nil || o.passphrase != "" {
		return first, err
	}
	second, err := o.readPassphrase(ctx, "Once more: ")
	defer clear(second)
	if err == nil && !bytes.Equal(first, second) {
		err = errors.New("making an owner key: the two passphrases differ")
	}
	if err != nil {
		clear(first)
	}
	return first, err
}
