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
		"hint: it is lost: the recovery key signs with --recovery-key-file FILE": locked(vault.ErrPassphrase),
		"hint: have the code read to you again":                                  CheckCode("1111-1111-1111", teamtest.Generate[key.Operator]().ID()),
	} {
		var talk bytes.Buffer
		if status := cli.Report(&talk, err); status != cli.ExitFailed || !strings.Contains(talk.String(), want) {
			t.Errorf("status %d, said %q, want %q", status, talk.String(), want)
		}
	}
}
