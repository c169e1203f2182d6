package operator

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
//	agents.json    the machines as last seen, for names and completions
//	founding.json  the setup string, secret, while a new team waits for owners' signatures
//	audit.seen     the newest audit checkpoint that this operator has verified
//
// Only the keys and the team are worth a backup; the rest is fetched again.
type Home struct{ dir string }

const (
	operatorKeyFile = "operator.key"
	ownerKeyFile    = "owner.age"
	enrollerKeyFile = "enroller.key"
	teamFile        = "team.json"
	rosterFile      = "roster"
	policyFile      = "policy.toml"
	loginFile       = "login.json"
	agentsFile      = "agents.json"
	foundingFile    = "founding.json"
	auditSeenFile   = "audit.seen"
)

// Sizes of what is read back from the folder; our choice, above what the
// formats allow.
const (
	maxTeamFile   = 64 << 10
	maxRosterFile = 64 << 20
	maxPolicyFile = 2 << 20
	maxLoginFile  = 16 << 10
	maxAgentsFile = 64 << 20
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

// membership is what team.json holds: everything by which this operator
// recognises the team and its server. Root is believed because its hash is
// Fingerprint, and that came from a person.
type membership struct {
	URL         string           `json:"url"`
	Pin         key.Hash         `json:"pin"`
	Access      key.ID           `json:"access"`
	Team        wire.TeamID      `json:"team"`
	Fingerprint key.Hash         `json:"fingerprint"`
	Root        statement.Signed `json:"root"`
}

// savedLogin is what login.json holds.
type savedLogin struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

func (m membership) server() client.Config {
	return client.Config{URL: m.URL, Pin: m.Pin, Access: m.Access}
}

// teamString is what a new operator needs to recognise team and server; it
// holds no secret.
func (m membership) teamString() (string, error) {
	return roster.TeamString(roster.TeamInfo{Server: roster.Address{URL: m.URL, Pin: m.Pin, Access: m.Access}, Root: m.Root})
}

func (h Home) path(name string) string { return filepath.Join(h.dir, name) }

func (h Home) has(name string) bool {
	_, err := os.Lstat(h.path(name))
	return err == nil
}

// readJSON reads one of our own files; a missing one matches fs.ErrNotExist.
func (h Home) readJSON(name string, limit int, into any) error {
	raw, err := keyfile.ReadPrivate(h.path(name), limit)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("reading %q: the file is damaged", h.path(name))
	}
	return nil
}

func (h Home) writeJSON(name string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("writing %q: %v", h.path(name), err)
	}
	return keyfile.WriteAtomic(h.path(name), raw, 0o600)
}

// membership reads team.json; without one the operator is in no team yet.
func (h Home) membership() (membership, error) {
	var m membership
	err := h.readJSON(teamFile, maxTeamFile, &m)
	if errors.Is(err, fs.ErrNotExist) {
		return m, refusal.New(refusal.NotLoggedIn, "no team in %q", h.dir)
	}
	if err != nil {
		return m, err
	}
	if m.Root.Hash() != m.Fingerprint {
		return m, fmt.Errorf("reading %q: the team root does not have the pinned fingerprint", h.path(teamFile))
	}
	return m, nil
}
