// Package membership is which team a host belongs to, what proves it, and how the
// host comes by it.
//
// # Files
//
// In the agent's state folder, which is mode 0700 and locked by whoever uses it:
//
//	identity     the agent's private key
//	agent.json   server, fingerprint, join token and certificate; no secret. While
//	             joining is not finished also the team's root
//	lock         locked by the program that uses the folder
//
// # Joining
//
// The server counts the uses of a token and gives a name once, so what it may have
// seen is never thrown away before its answer is known:
//
//  1. identity is written
//  2. agent.json is written, with the root: this very certificate is asked for
//  3. the server registers it; for one that it has already it changes nothing
//  4. chain, policy, ledger, audit spool and clock are written
//  5. agent.json is written without the root: the host has joined
//
// Whatever breaks off before 5 goes on from agent.json, by the next Join with the
// same token or by Finish, without a second use of the token. Only a refusal that
// says that the server does not have this certificate undoes 1 and 2.
//
// Source: protocol 2.11, 3.2.
package membership

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// The files of this package; see the package comment.
const (
	identityFile = "identity"
	memberFile   = "agent.json"
	lockFile     = "lock"
)

// maxMember bounds agent.json, in bytes; our choice, above two tokens and a root.
const maxMember = 128 << 10

// Membership is what a host has joined.
type Membership struct {
	Server      roster.Address   `json:"server"`
	Fingerprint key.Hash         `json:"fingerprint"`
	Token       statement.Signed `json:"token"`
	Certificate statement.Signed `json:"certificate"`
	Root        statement.Signed `json:"root,omitempty"` // only while joining is not finished
}

// Load returns the membership and the key of a host that has joined. A missing
// one matches fs.ErrNotExist; BadFileMode when others could read or replace it.
func Load(dir string) (m Membership, identity key.Private[key.Agent], err error) {
	if m, err = read(dir); err != nil {
		return m, identity, err
	}
	if len(m.Root) > 0 {
		return m, identity, errors.New("opening the agent's state: joining is not finished: repeat it with the same token")
	}
	identity, err = keyfile.LoadKey[key.Agent](filepath.Join(dir, identityFile))
	return m, identity, err
}

func read(dir string) (m Membership, err error) {
	path := filepath.Join(dir, memberFile)
	data, err := keyfile.ReadPrivate(path, maxMember)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("reading %q: %v", path, err)
	}
	return m, nil
}

func (m Membership) write(dir string) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding %q: %v", memberFile, err)
	}
	return keyfile.WriteAtomic(filepath.Join(dir, memberFile), data, 0o600)
}

// Verify checks the certificate by st and that it is for the key own. One that was
// revoked or has ended keeps an agent from starting: there is nobody it could
// still serve.
func (m Membership) Verify(st *roster.State, own key.ID, now time.Time) (roster.AgentCert, error) {
	cert, err := st.VerifyAgent(m.Token, m.Certificate, now)
	if err != nil {
		return cert, fmt.Errorf("checking the agent's certificate: %w", err)
	}
	_, err = cert.Key(own)
	return cert, err
}

// Register completes and signs the registration of one connection (protocol
// 2.11). version is the newest roster that the agent has, 0 for none.
func (m Membership) Register(identity key.Private[key.Agent], r wire.Registration, version uint64) (wire.Register, error) {
	r.ID, r.IssuedAt = wire.NewNonce(), wire.At(time.Now())
	r.Agent, r.Certificate = identity.Public(), m.Certificate.Hash()
	signed, err := statement.Sign(identity, r)
	if err != nil {
		return wire.Register{}, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return wire.Register{
		Registration: signed, Token: m.Token, Certificate: m.Certificate,
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Hostname: host, Roster: version,
	}, nil
}

// state is how far a folder has come.
type state int

const (
	nothing state = iota
	begun
	joined
)

func look(dir string) (Membership, state, error) {
	m, err := read(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m, nothing, nil
	case err != nil:
		return m, nothing, err
	case len(m.Root) > 0:
		return m, begun, nil
	}
	return m, joined, nil
}

func errJoined(dir string) error {
	return refusal.New(refusal.AlreadyJoined, "%q belongs to an agent that has joined a team", dir)
}
