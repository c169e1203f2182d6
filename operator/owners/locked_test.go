package owners

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/operator/teamtest"
	"github.com/tucdesk/tucdesk/operator/vault"
)

// Whoever has lost the passphrase reads who can still sign; whoever was told another
// code, that it may be an attack.
func TestWhatIsLeftAfterAWrongPassphraseOrCode(t *testing.T) {
	for want, err := range map[string]error{
		"hint: it is lost: the recovery key signs with --recovery-key-file FILE": (&Options{}).locked(vault.ErrPassphrase),
		"hint: have the code read to you again":                                  CheckCode("1111-1111-1111", teamtest.Generate[key.Operator]().ID()),
	} {
		var talk bytes.Buffer
		if status := cli.Report(&talk, err); status != cli.ExitFailed || !strings.Contains(talk.String(), want) {
			t.Errorf("status %d, said %q, want %q", status, talk.String(), want)
		}
	}
}

// What the file has to hold is for those who have named one.
func TestOnlyAPassphraseFileHasAFirstLine(t *testing.T) {
	for file, want := range map[string]bool{"": false, "pass": true} {
		var talk bytes.Buffer
		o := Options{passphrase: file}
		if cli.Report(&talk, o.locked(vault.ErrPassphrase)); strings.Contains(talk.String(), "first line") != want || !strings.Contains(talk.String(), "capitals and spaces count") {
			t.Errorf("passphrase file %q: said %q", file, talk.String())
		}
	}
}
