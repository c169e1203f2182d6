package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// The files of the state folder; see the package comment.
const (
	identityFile   = "identity"
	membershipFile = "agent.json"
	chainFile      = "chain"
	ledgerFile     = "ledger"
	witnessFile    = "witness.json"
	clockFile      = "clock"
	forkFile       = "fork.json"
	statusFile     = "status.json"
	lockFile       = "lock"
	spoolFile      = "audit.spool" // named by package audit
	policyPrefix   = "policy-"
)

// Limits of files that are read back; our choice.
const (
	maxMembership = 64 << 10
	maxClock      = 64
)

// DefaultDir returns the state folder that the programs use unless told
// otherwise: /var/lib/tucdesk-agent for root, the user's own data folder else.
func DefaultDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/tucdesk-agent", nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "tucdesk-agent"), nil
	}
	if dir, err := os.UserConfigDir(); err == nil && os.PathSeparator == '\\' {
		return filepath.Join(dir, "tucdesk-agent"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding the state folder: %v", err)
	}
	return filepath.Join(home, ".local", "state", "tucdesk-agent"), nil
}

// membership is agent.json: which team and server this agent belongs to, and
// what proves it. It holds no secret.
type membership struct {
	Server      roster.Address   `json:"server"`
	Fingerprint key.Hash         `json:"fingerprint"`
	Token       statement.Signed `json:"token"`
	Certificate statement.Signed `json:"certificate"`
}

func loadMembership(dir string) (membership, error) {
	var m membership
	data, err := keyfile.ReadPrivate(filepath.Join(dir, membershipFile), maxMembership)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("reading %q: %v", filepath.Join(dir, membershipFile), err)
	}
	return m, nil
}

// trust is what the agent believes at one moment. It never changes; a newer one
// replaces it.
type trust struct {
	roster *roster.State
	rules  *policy.Rules // nil when the text that the roster binds is not to be had: deny
}

// loadTrust reads chain and policy.
func loadTrust(dir string, fingerprint key.Hash) (*trust, error) {
	data, err := keyfile.ReadPrivate(filepath.Join(dir, chainFile), roster.MaxChainFile)
	if err != nil {
		return nil, err
	}
	st, err := roster.Load(data, fingerprint)
	if err != nil {
		return nil, fmt.Errorf("reading the roster chain: %w", err)
	}
	t := &trust{roster: st}
	text, err := keyfile.ReadPrivate(policyPath(dir, st.PolicyHash()), policy.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil // the crash came between chain and policy; the server sends it again
	}
	if err != nil {
		return nil, err
	}
	t.rules = parsePolicy(text, st.PolicyHash())
	return t, nil
}

// parsePolicy returns nil for a text that is not the bound one or not a policy
// that this version understands: both deny.
func parsePolicy(text []byte, bound key.Hash) *policy.Rules {
	rules, err := policy.Parse(text)
	if err != nil || rules.Hash() != bound {
		return nil
	}
	return rules
}

func policyPath(dir string, hash key.Hash) string {
	return filepath.Join(dir, policyPrefix+hash.String())
}

// save writes t durably before anybody uses it (protocol 3.3, rule 5). The policy
// comes first: a chain that names a policy which is not there denies everything.
// An old policy that cannot be removed is no error: nothing names it, the next save
// tries again, and a revocation must not wait for it.
func (t *trust) save(dir string, policyText []byte) error {
	hash := t.roster.PolicyHash()
	if len(policyText) > 0 {
		if err := keyfile.WriteAtomic(policyPath(dir, hash), policyText, 0o600); err != nil {
			return err
		}
	}
	if err := keyfile.WriteAtomic(filepath.Join(dir, chainFile), t.roster.Encode(), 0o600); err != nil {
		return err
	}
	_ = dropOldPolicies(dir, hash)
	return nil
}

func dropOldPolicies(dir string, keep key.Hash) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("looking for old policies: %v", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), policyPrefix) && e.Name() != policyPrefix+keep.String() {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("removing an old policy: %v", err)
			}
		}
	}
	return nil
}

// readClock returns the remembered time, zero when there is none yet.
func readClock(dir string) (time.Time, error) {
	text, err := keyfile.ReadPrivate(filepath.Join(dir, clockFile), maxClock)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	ms, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return time.Time{}, refusal.New(refusal.BadStatement, "%q does not hold a time: remove it", filepath.Join(dir, clockFile))
	}
	return time.UnixMilli(ms), nil
}

func writeClock(dir string, t time.Time) error {
	return keyfile.WriteAtomic(filepath.Join(dir, clockFile), []byte(strconv.FormatInt(t.UnixMilli(), 10)+"\n"), 0o600)
}
