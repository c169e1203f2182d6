package cli

import (
	"fmt"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
)

// RelaySecret gives err, of reading the secret in file that a server shares with its
// relays, hints of its own where the file is open to others: it is no key that could
// be revoked, and whoever has read it can use every relay that still takes it.
func RelaySecret(err error, file string) error {
	if refusal.Of(err) != refusal.BadFileMode {
		return err
	}
	return &Error{Err: err, Hints: []string{
		"if somebody else could read it, put a new one in its place: " + newRelaySecret(file),
		"then the server and each of its relays needs a copy of it, mode 0600, and a restart: the old one is worthless from then on",
	}}
}

// newRelaySecret is the command that replaces the file: 32 random bytes in base64url. In
// double quotes the shell would run what stands in a name.
func newRelaySecret(file string) string {
	return fmt.Sprintf("(umask 077; rm -f %[1]s; echo \"tucdesk-relay-secret:$(head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')\" > %[1]s)", terminal.Quote([]byte(file)))
}
