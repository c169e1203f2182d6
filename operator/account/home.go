package account

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
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/client"
)

// Home is an operator's state folder, mode 0700:
//
//	operator.key   the operator's own key
//	owner.age      an owner's key behind a passphrase; owners only
//	enroller.key   signs join tokens; enrollers only
//	team.json      which team, its server and how both are recognised
//	roster         the verified roster chain
//	policy.toml    the policy text that the roster binds
//	login.json     the JWT of the last login
//	logout.json    which logout was the last; no login from before it is written
//	agents.json    the machines as last seen, for names and completions
//	founding.json  the setup string, secret, while a new team waits for owners' signatures
//	owners.json    which owner key is this machine's, and which the recovery key (package owners)
//	audit.seen     the newest audit checkpoint that this operator has verified
//	networks.json  how a relay was reached last, by network (package remote)
//	shells.json    where shells were left that go on without a session (package remote)
//	live/          sockets of the sessions that run on this machine (package live)
//
// Only the keys and the team are worth a backup; the rest is fetched again.
type Home struct {
	Dir string // as given by the person, or DefaultDir
}

// The files of the folder.
const (
	OperatorKeyFile = "operator.key"  // who this operator is; made by login or team init
	OwnerKeyFile    = "owner.age"     // an owner's key, locked by a passphrase (package vault)
	EnrollerKeyFile = "enroller.key"  // signs join tokens; where the team was founded
	TeamFile        = "team.json"     // Membership: which team, and its pins
	RosterFile      = "roster"        // the chain of rosters, verified again at each start
	PolicyFile      = "policy.toml"   // the rules in force, as text; believed when the roster binds its hash
	LoginFile       = "login.json"    // SavedLogin: a JWT that lives for minutes
	logoutFile      = "logout.json"   // a nonce of the last logout (see Forget)
	agentsFile      = "agents.json"   // the machines as last seen; can be fetched again
	FoundingFile    = "founding.json" // a founding that waits for other owners' signatures
	AuditSeenFile   = "audit.seen"    // the newest checkpoint of the log that was seen (package witness)
	OwnerNotesFile  = "owners.json"   // which owner keys were made or opened here; for people only
)

// Sizes of what is read back from the folder; our choice, above what the
// formats allow.
const (
	MaxTeamFile   = 64 << 10 // bytes, of a Membership
	maxRosterFile = 64 << 20 // bytes, of a chain
	MaxPolicyFile = 2 << 20  // bytes, of the rules as text
	maxLoginFile  = 16 << 10 // bytes, of a SavedLogin, and of what a logout leaves
	maxAgentsFile = 64 << 20 // bytes, of the server's list
)

// DefaultDir is where the state lies unless --state says otherwise:
// $XDG_STATE_HOME/tucdesk, by default ~/.local/state/tucdesk, and the usual
// places on macOS and Windows.
func DefaultDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "tucdesk"), nil
	}
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return "", fmt.Errorf("finding the state folder: %v", err)
		}
		return filepath.Join(dir, "tucdesk"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding the state folder: %v", err)
	}
	return filepath.Join(home, ".local", "state", "tucdesk"), nil
}

// Membership is what team.json holds: everything by which this operator
// recognises the team and its server. Root is believed because its hash is
// Fingerprint, and that came from a person.
type Membership struct {
	URL         string           `json:"url"`         // of the server
	Pin         key.Hash         `json:"pin"`         // SHA-256 of its TLS key
	Access      key.ID           `json:"access"`      // its access key
	Team        wire.TeamID      `json:"team"`        // as the root says
	Fingerprint key.Hash         `json:"fingerprint"` // of the team, from a person
	Root        statement.Signed `json:"root"`        // has that hash
}

// SavedLogin is what login.json holds.
type SavedLogin struct {
	Token   string    `json:"token"`   // the JWT; a secret
	Expires time.Time `json:"expires"` // by the server
}

// Server is how a client reaches the server and knows it again.
func (m Membership) Server() client.Config {
	return client.Config{URL: m.URL, Pin: m.Pin, Access: m.Access}
}

// TeamString is what a new operator needs to recognise team and server; it
// holds no secret.
func (m Membership) TeamString() (string, error) {
	return roster.TeamString(roster.TeamInfo{Server: roster.Address{URL: m.URL, Pin: m.Pin, Access: m.Access}, Root: m.Root})
}

// Path is where a file of the folder lies.
func (h Home) Path(name string) string { return filepath.Join(h.Dir, name) }

// Has reports whether there is such a file.
func (h Home) Has(name string) bool {
	_, err := os.Lstat(h.Path(name))
	return err == nil
}

// ReadJSON reads one of our own files; a missing one matches fs.ErrNotExist.
func (h Home) ReadJSON(name string, limit int, into any) error {
	raw, err := keyfile.ReadPrivate(h.Path(name), limit)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("reading %q: the file is damaged", h.Path(name))
	}
	return nil
}

// WriteJSON replaces one of our own files as a whole, mode 0600.
func (h Home) WriteJSON(name string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("writing %q: %v", h.Path(name), err)
	}
	return keyfile.WriteAtomic(h.Path(name), raw, 0o600)
}

// noTeam says how one gets into a team: to log in is not enough.
func (h Home) noTeam() error {
	return &cli.Error{Err: refusal.New(refusal.NotLoggedIn, "no team in %q", h.Dir), Hints: []string{
		"to enter a team: tucdesk login TEAM-STRING, which any member gets from tucdesk team show",
		"to found one: tucdesk team init SETUP-STRING, which the server prints",
		"a team in another folder: --state DIR",
	}}
}

// Membership reads team.json; without one the operator is in no team yet.
func (h Home) Membership() (Membership, error) {
	var m Membership
	err := h.ReadJSON(TeamFile, MaxTeamFile, &m)
	if errors.Is(err, fs.ErrNotExist) {
		return m, h.noTeam()
	}
	if err != nil {
		return m, err
	}
	if m.Root.Hash() != m.Fingerprint {
		return m, fmt.Errorf("reading %q: the team root does not have the pinned fingerprint", h.Path(TeamFile))
	}
	return m, nil
}
