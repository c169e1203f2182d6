package owners

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/teamtest"
	"github.com/tucdesk/tucdesk/operator/vault"
)

func TestPassphraseComesFromAPrivateFile(t *testing.T) {
	for text, want := range map[string]string{"correct horse\n": "correct horse", "correct horse\r\nnot this": "correct horse", "no end": "no end", " kept ": " kept ", "": ""} {
		o := Options{passphrase: teamtest.Write(t, "pass", text, 0o600)}
		if got, err := o.readPassphrase(t.Context(), ""); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	o := Options{passphrase: teamtest.Write(t, "pass", "correct horse\n", 0o644)}
	if _, err := o.newPassphrase(t.Context()); refusal.Of(err) != refusal.BadFileMode {
		t.Errorf("a passphrase that others may read: %v, want bad_file_mode", err)
	}
}

func TestOwnerKeyOrRecoveryKey(t *testing.T) {
	home := account.Home{Dir: t.TempDir()}
	io := &cli.IO{Err: os.Stderr}
	var missing *cli.Error
	if _, err := (&Options{}).Owner(t.Context(), io, home); !errors.As(err, &missing) || len(missing.Hints) == 0 {
		t.Errorf("without an owner key: %v", err)
	}
	owner := teamtest.LockedOwner(t, home)
	recovery := string(teamtest.Must(vault.Recovery(owner)))
	for name, c := range map[string]struct {
		o  Options
		ok bool
	}{
		"the passphrase":       {Options{passphrase: teamtest.Write(t, "pass", "correct horse\n", 0o600)}, true},
		"another passphrase":   {Options{passphrase: teamtest.Write(t, "pass", "correct horsf\n", 0o600)}, false},
		"the recovery key":     {Options{recovery: teamtest.Write(t, "rec", recovery+"\n", 0o600)}, true},
		"half a recovery key":  {Options{recovery: teamtest.Write(t, "rec", recovery[:40], 0o600)}, false},
		"a public file":        {Options{recovery: teamtest.Write(t, "rec", recovery, 0o644)}, false},
		"a file that is none":  {Options{recovery: home.Path("nothing")}, false},
		"the recovery key won": {Options{passphrase: home.Path("nothing"), recovery: teamtest.Write(t, "rec", recovery, 0o600)}, true},
	} {
		got, err := c.o.Owner(t.Context(), io, home)
		if (err == nil) != c.ok || err == nil && got.ID() != owner.ID() {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), recovery[20:30]) {
			t.Errorf("%s: the error shows the key", name)
		}
	}
}

func TestShortCodeIsComparedBeforeAKeyGoesIn(t *testing.T) {
	id := teamtest.Generate[key.Operator]().ID()
	io := &cli.IO{In: teamtest.Pipe(t, "y\n"), Err: &bytes.Buffer{}}
	for code, ok := range map[string]bool{
		id.ShortCode(): true, strings.ToLower(id.ShortCode()): true, strings.ReplaceAll(id.ShortCode(), "-", ""): true,
		id.ShortCode()[1:]: false, "0000-0000-0000": false, "-": false, "": false, // "" asks, and nobody is there
	} {
		if err := CompareCode(t.Context(), io, code, "bob@example.org", id); (err == nil) != ok {
			t.Errorf("code %q of %s: %v", code, id.ShortCode(), err)
		}
	}
}

// That the key takes seconds to open is said to a person at a terminal, never to a
// script that reads what the program says.
func TestScriptReadsNothingOfTheUnlocking(t *testing.T) {
	home := account.Home{Dir: t.TempDir()}
	teamtest.LockedOwner(t, home)
	var out, talk bytes.Buffer
	o := Options{passphrase: teamtest.Write(t, "pass", "correct horse\n", 0o600)}
	if _, err := o.Owner(t.Context(), &cli.IO{Out: &out, Err: &talk}, home); err != nil || out.Len()+talk.Len() > 0 {
		t.Errorf("%v, printed %q, said %q", err, out.String(), talk.String())
	}
}
