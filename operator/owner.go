package operator

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/operator/vault"
)

// ownerOptions are the flags of verbs that need an owner's signature. Secrets
// come from a prompt or from a file, never from the command line, where every
// process of the machine could read them.
type ownerOptions struct {
	options
	passphrase string
	recovery   string
	out        string // where a change that waits for signatures is written
}

const maxPassphraseFile = 4 << 10

func (o *ownerOptions) ownerFlags(f *flag.FlagSet) {
	o.jsonFlag(f)
	f.StringVar(&o.passphrase, "passphrase-file", "", "`file` (mode 0600) whose first line unlocks the owner key; without it you are asked")
	f.StringVar(&o.recovery, "recovery-key-file", "", "`file` (mode 0600) with the recovery key, used instead of the owner key")
}

// changeFlags are the flags of verbs that change the roster.
func (o *ownerOptions) changeFlags(f *flag.FlagSet) {
	o.ownerFlags(f)
	f.StringVar(&o.out, "out", "", "new `file` for a change that needs more signatures (default roster-VERSION-HASH.pending, here)")
}

// owner unlocks the owner key, or takes the recovery key. A passphrase mistyped
// at the prompt may be tried three times.
func (o *ownerOptions) owner(ctx context.Context, io *cli.IO, home Home) (key.Private[key.Owner], error) {
	if o.recovery != "" {
		text, err := keyfile.ReadPrivate(o.recovery, maxPassphraseFile)
		if err != nil {
			return key.Private[key.Owner]{}, err
		}
		defer clear(text)
		return vault.ParseRecovery(text)
	}
	if !home.has(ownerKeyFile) {
		return key.Private[key.Owner]{}, &cli.Error{
			Err:   refusal.New(refusal.WrongRole, "there is no owner key in %q", home.dir),
			Hints: []string{"run this where your owner key is, or with --recovery-key-file FILE", "to make one: tucdesk owner create"},
		}
	}
	for try := 1; ; try++ {
		pass, err := o.readPassphrase(ctx, "Passphrase of the owner key: ")
		if err != nil {
			return key.Private[key.Owner]{}, err
		}
		owner, err := vault.Open(home.path(ownerKeyFile), pass)
		clear(pass)
		if err == nil || o.passphrase != "" || try == 3 {
			return owner, err
		}
		io.Say("%v; try again", err)
	}
}

func (o *ownerOptions) readPassphrase(ctx context.Context, prompt string) ([]byte, error) {
	if o.passphrase == "" {
		pass, err := terminal.ReadPassphrase(ctx, prompt)
		if errors.Is(err, terminal.ErrNoTerminal) {
			return nil, &cli.Error{Err: err, Hints: []string{"give the passphrase with --passphrase-file FILE"}}
		}
		return pass, err
	}
	text, err := keyfile.ReadPrivate(o.passphrase, maxPassphraseFile)
	if err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), nil
}

// newPassphrase asks twice, or reads the file once.
func (o *ownerOptions) newPassphrase(ctx context.Context) ([]byte, error) {
	first, err := o.readPassphrase(ctx, fmt.Sprintf("New passphrase for the owner key (at least %d characters): ", vault.MinPassphrase))
	if err != nil || o.passphrase != "" {
		return first, err
	}
	second, err := o.readPassphrase(ctx, "Once more: ")
	defer clear(second)
	if err == nil && !bytes.Equal(first, second) {
		clear(first)
		err = fmt.Errorf("the two passphrases differ")
	}
	return first, err
}

// confirm asks a yes-or-no question at the terminal. Without one, and after
// Ctrl-C, the answer is no; the reader is left behind then, since a read of a
// terminal cannot be called back, and ends with the process.
func confirm(ctx context.Context, io *cli.IO, question string) bool {
	if !terminal.IsTerminal(io.In) {
		return false
	}
	fmt.Fprintf(io.Err, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() {
		var word string
		_, _ = fmt.Fscanln(io.In, &word)
		answer <- word
	}()
	select {
	case word := <-answer:
		return strings.EqualFold(word, "y") || strings.EqualFold(word, "yes")
	case <-ctx.Done():
		fmt.Fprintln(io.Err)
		return false
	}
}

// readPublicFile reads a file that holds no secret, "-" being standard input.
func readPublicFile(io *cli.IO, name string, limit int64) ([]byte, error) {
	f := io.In
	if name != "-" {
		var err error
		if f, err = os.Open(name); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	return readLimited(f, limit)
}
