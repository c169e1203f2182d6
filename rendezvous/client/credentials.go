package client

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Credentials are what an operator's call is made with: the key that signs
// proofs and the JWT that Login got for it. Both are needed for anything
// sensitive, so a stolen Token alone opens nothing (protocol 4.2).
type Credentials struct {
	Key     key.Private[key.Operator]
	Team    wire.TeamID
	Token   string    // the JWT; a secret
	Expires time.Time // by the server's clock; at most 15 minutes after login
}

const credentialsPlaceholder = "[credentials]"

// String returns a placeholder.
func (Credentials) String() string { return credentialsPlaceholder }

// GoString returns a placeholder.
func (Credentials) GoString() string { return credentialsPlaceholder }

// Format writes a placeholder for every verb.
func (Credentials) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, credentialsPlaceholder) }

// LogValue is a placeholder for slog.
func (Credentials) LogValue() slog.Value { return slog.StringValue(credentialsPlaceholder) }

// MarshalJSON always fails: a caller that stores the token does so on purpose,
// field by field, into a file of mode 0600.
func (Credentials) MarshalJSON() ([]byte, error) {
	return nil, errors.New("encoding credentials: they do not leave the process")
}
