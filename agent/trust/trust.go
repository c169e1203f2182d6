// Package trust keeps what an agent believes: the roster chain, the policy that
// the newest roster binds, and the time.
//
// # Files
//
// In the agent's state folder:
//
//	chain             the roster chain (package roster)
//	policy-<hash>     the policy text that the newest roster binds
//	clock             latest time at which a roster was in force, as decimal milliseconds
//	fork.json         present only after two rosters of one version: evidence, and
//	                  no session opens until a person has looked and removed it
//
// # Order
//
// A newer roster counts in memory first and is written then, because it may
// revoke: neither a full disk nor a slow one keeps a stolen key in use. Rights
// that it gives wait for the disk: Save stands before every decision, and while
// the last attempt to save has failed no session begins (roster_not_saved), since
// after a restart the agent would believe the older one again.
//
// Source: protocol 3.3.
package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// The files of this package; see the package comment.
const (
	chainFile    = "chain"
	clockFile    = "clock"
	forkFile     = "fork.json"
	policyPrefix = "policy-"
)

// Trust is what the agent believes at one moment. It never changes; a newer one
// replaces it.
type Trust struct {
	Roster *roster.State
	Rules  *policy.Rules // nil when the text that the roster binds is not to be had: deny
}

// Found starts from nothing but a root and its fingerprint: it takes the first
// version of the roster and what follows it. text is the policy to be written.
func Found(root statement.Signed, fingerprint key.Hash, news wire.RosterNews, at time.Time) (t *Trust, text []byte, err error) {
	if len(news.Updates) == 0 {
		return nil, nil, refusal.New(refusal.BadChain, "the server hands out no roster")
	}
	st, err := roster.Found(root, fingerprint, news.Updates[0])
	if err != nil {
		return nil, nil, err
	}
	news.Updates = news.Updates[1:]
	return (&Trust{Roster: st}).With(news, at)
}

// With returns what to believe after news: t itself when there is nothing in it.
// An error says why the rest was not taken; what was accepted before it is in the
// result. text is the policy to be written, nil when the written one stays.
func (t *Trust) With(news wire.RosterNews, at time.Time) (next *Trust, text []byte, err error) {
	next, text, _, err = t.follow(news, at)
	return next, text, err
}

// follow is With that also returns the update which was not taken.
func (t *Trust) follow(news wire.RosterNews, at time.Time) (next *Trust, text []byte, refused wire.RosterUpdate, err error) {
	st := t.Roster
	for _, u := range news.Updates {
		if recent(st, u) {
			continue
		}
		after, failed := st.Apply(u, at)
		if failed != nil {
			refused, err = u, failed
			break
		}
		st = after
	}
	rules := t.Rules
	if rules == nil || rules.Hash() != st.PolicyHash() {
		// Without a usable text the roster still counts, because it may revoke;
		// sessions wait for the text.
		if rules = parsePolicy(news.Policy, st.PolicyHash()); rules != nil {
			text = news.Policy
		}
	}
	if st == t.Roster && rules == t.Rules {
		return t, nil, refused, err
	}
	return &Trust{Roster: st, Rules: rules}, text, refused, err
}

// recent reports an update that is the same as one of our last ones: two answers
// of an honest server may overlap, and that is no rollback.
func recent(st *roster.State, u wire.RosterUpdate) bool {
	const overlap = 8
	from := uint64(0)
	if v := st.Version(); v > overlap {
		from = v - overlap
	}
	for _, have := range st.After(from) {
		if bytes.Equal(have.Statement, u.Statement) {
			return true
		}
	}
	return false
}

// Create writes the first trust of a new agent.
func Create(dir string, t *Trust, text []byte) error {
	if err := t.save(dir, text); err != nil {
		return err
	}
	return writeClock(dir, t.Roster.IssuedAt())
}

// Remove deletes what Create wrote, as far as it is there.
func Remove(dir string) error {
	errs := []error{dropOldPolicies(dir, key.Hash{})}
	for _, name := range []string{chainFile, clockFile} {
		if err := os.Remove(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// load reads chain and policy.
func load(dir string, fingerprint key.Hash) (*Trust, error) {
	data, err := keyfile.ReadPrivate(filepath.Join(dir, chainFile), roster.MaxChainFile)
	if err != nil {
		return nil, err
	}
	st, err := roster.Load(data, fingerprint)
	if err != nil {
		return nil, fmt.Errorf("reading the roster chain: %w", err)
	}
	t := &Trust{Roster: st}
	text, err := keyfile.ReadPrivate(policyPath(dir, st.PolicyHash()), policy.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil // the crash came between chain and policy; the server sends it again
	}
	if err != nil {
		return nil, err
	}
	t.Rules = parsePolicy(text, st.PolicyHash())
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

// save writes t durably. The policy comes first: a chain that names a policy which
// is not there denies everything. An old policy that cannot be removed is no error:
// nothing names it, and the next save tries again.
func (t *Trust) save(dir string, policyText []byte) error {
	hash := t.Roster.PolicyHash()
	if len(policyText) > 0 {
		if err := keyfile.WriteAtomic(policyPath(dir, hash), policyText, 0o600); err != nil {
			return err
		}
	}
	if err := keyfile.WriteAtomic(filepath.Join(dir, chainFile), t.Roster.Encode(), 0o600); err != nil {
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
