// Package credential makes and checks the time-limited credentials with which
// the two ends of a session allocate on a relay (protocol 6.2). Rendezvous and
// relay share one secret; the relay keeps no list and learns neither session
// nor team nor operator.
//
//	user name  v1.<expiry>.<pair>.<role>
//	           expiry  decimal Unix seconds, no leading zero
//	           pair    16 random bytes, 32 lower-case hex digits
//	           role    o (operator) or a (agent)
//	password   HMAC-SHA256(relay secret, user name), 32 bytes; as TURN password
//	           in base64url without padding, 43 characters
//
// Worked example, for the secret of 32 bytes 0x01:
//
//	v1.1767225600.000102030405060708090a0b0c0d0e0f.o
//	DbHQeqKQBmx1owfVDGz9755_PnAgT3jfJMJZeRsMErk
//
// The pair is what ties two allocations together: the relay delivers only
// between the two roles of one pair. There is one spelling of every user name,
// so one credential cannot be used as two.
package credential

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxLifetime is the longest life of a credential (protocol 6.2).
	MaxLifetime = time.Hour

	// MaxSkew is by how much the clocks of rendezvous and relay may differ
	// before the relay takes a fresh credential for one that lives too long. Our
	// choice. It does not prolong a credential: expiry is taken as written.
	MaxSkew = time.Minute

	// MinSecret is the least length of a relay secret in bytes: that of the
	// password made with it.
	MinSecret = 32

	version    = "v1"
	maxSeconds = 11 // digits of the expiry; enough for some 3,000 years
)

// Errors of Check. The texts never hold the user name: it comes from strangers.
var (
	// ErrMalformed: another version, field or spelling than Mint's.
	ErrMalformed = errors.New("relay credential: user name is not one that rendezvous makes")
	// ErrExpired: the expiry in the name has passed; ask rendezvous for the next.
	ErrExpired = errors.New("relay credential: expired")
	// ErrTooLong: it expires later than MaxLifetime from now, beyond MaxSkew.
	ErrTooLong = errors.New("relay credential: lives longer than a credential may")
)

// Secret is shared by rendezvous and relays. It never prints and is not
// comparable; the zero Secret is no secret and makes Mint panic.
type Secret struct {
	_ [0]func()
	b []byte
}

// NewSecret returns a random secret of MinSecret bytes.
func NewSecret() Secret {
	b := make([]byte, MinSecret)
	rand.Read(b)
	return Secret{b: b}
}

// SecretFrom copies b, read from a file by the caller, into a Secret. It fails
// if b is shorter than MinSecret bytes.
func SecretFrom(b []byte) (Secret, error) {
	if len(b) < MinSecret {
		return Secret{}, fmt.Errorf("relay secret: %d bytes, want at least %d", len(b), MinSecret)
	}
	return Secret{b: append([]byte(nil), b...)}, nil
}

// Bytes returns a copy of the secret, to be written to a private file.
func (s Secret) Bytes() []byte { return append([]byte(nil), s.b...) }

// IsZero reports whether s holds no secret.
func (s Secret) IsZero() bool { return len(s.b) == 0 }

// Equal reports whether two secrets are the same, in a time that does not tell
// where they differ.
func (s Secret) Equal(other Secret) bool { return subtle.ConstantTimeCompare(s.b, other.b) == 1 }

// String hides the secret.
func (s Secret) String() string { return "relay secret (hidden)" }

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return s.String() }

// Format hides the secret from every verb of package fmt.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// MarshalText refuses: a secret belongs in no JSON and no log record.
func (s Secret) MarshalText() ([]byte, error) {
	return nil, errors.New("relay secret: is not written as text")
}

// Role is the end of the session a credential is for.
type Role byte

// The two roles, as they stand in the user name.
const (
	Operator Role = 'o' // whoever opened the session
	Agent    Role = 'a' // the machine
)

// Other returns the opposite role.
func (r Role) Other() Role {
	if r == Operator {
		return Agent
	}
	return Operator
}

// Pair ties the credentials of the two roles of one session together.
type Pair [16]byte

// Name is what a user name says.
type Name struct {
	Expires time.Time // whole seconds
	Pair    Pair
	Role    Role
}

// String returns the user name, in its one spelling.
func (n Name) String() string {
	return version + "." + strconv.FormatInt(n.Expires.Unix(), 10) + "." +
		hex.EncodeToString(n.Pair[:]) + "." + string(rune(n.Role))
}

// Parse reads a user name, strictly: it accepts exactly what String returns.
// It fails with ErrMalformed. Whether the credential is genuine shows only in
// the password.
func Parse(username string) (Name, error) {
	if len(username) > len(version)+1+maxSeconds+1+32+2 {
		return Name{}, ErrMalformed
	}
	part := strings.Split(username, ".")
	if len(part) != 4 || part[0] != version || len(part[1]) > maxSeconds || len(part[2]) != 32 {
		return Name{}, ErrMalformed
	}
	seconds, err := strconv.ParseInt(part[1], 10, 64)
	if err != nil || seconds <= 0 {
		return Name{}, ErrMalformed
	}
	n := Name{Expires: time.Unix(seconds, 0)}
	if _, err := hex.Decode(n.Pair[:], []byte(part[2])); err != nil {
		return Name{}, ErrMalformed
	}
	switch part[3] {
	case "o", "a":
		n.Role = Role(part[3][0])
	default:
		return Name{}, ErrMalformed
	}
	if n.String() != username { // upper-case digits, signs, leading zeros
		return Name{}, ErrMalformed
	}
	return n, nil
}

// Check reads a user name and judges its times at now. It fails with
// ErrMalformed, ErrExpired or ErrTooLong; the last one bounds what a stolen
// secret buys once it has been rotated.
func Check(username string, now time.Time) (Name, error) {
	n, err := Parse(username)
	if err != nil {
		return Name{}, err
	}
	if !now.Before(n.Expires) {
		return Name{}, ErrExpired
	}
	if n.Expires.Sub(now) > MaxLifetime+MaxSkew {
		return Name{}, ErrTooLong
	}
	return n, nil
}

// Credential is one side's user name and password.
type Credential struct {
	Username  string
	Password  []byte // 32 bytes; a secret of this session
	ExpiresAt time.Time
}

// String shows the user name only.
func (c Credential) String() string { return c.Username }

// Format hides the password from every verb of package fmt.
func (c Credential) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.String()) }

// MintPair makes the credentials of the two sides of one session, under a fresh
// random pair. A lifetime above MaxLifetime is cut to it.
func MintPair(secret Secret, now time.Time, lifetime time.Duration) (operator, agent Credential) {
	var pair Pair
	rand.Read(pair[:])
	return Mint(secret, pair, Operator, now, lifetime), Mint(secret, pair, Agent, now, lifetime)
}

// Mint makes the credential of one role of a pair. Called with the pair of a
// running session it renews that session's credential: the relay takes user
// names of one pair and role for one user. A lifetime above MaxLifetime is cut
// to it. It panics without a secret.
func Mint(secret Secret, pair Pair, role Role, now time.Time, lifetime time.Duration) Credential {
	n := Name{Expires: now.Add(min(lifetime, MaxLifetime)).Truncate(time.Second), Pair: pair, Role: role}
	username := n.String()
	return Credential{Username: username, Password: Password(secret, username), ExpiresAt: n.Expires}
}

// Password returns the 32-byte password that belongs to a user name. The relay
// calls it for names that Check has accepted. It panics without a secret:
// an empty key would let everybody mint.
func Password(secret Secret, username string) []byte {
	if secret.IsZero() {
		panic("credential: internal error: no relay secret")
	}
	m := hmac.New(sha256.New, secret.b)
	m.Write([]byte(username))
	return m.Sum(nil)
}

// Text returns the form of a password that TURN's long-term mechanism is given:
// base64url without padding.
func Text(password []byte) string { return base64.RawURLEncoding.EncodeToString(password) }
