package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// clockEvery is how often the remembered time is written; our choice, well below
// the ten minutes that a clock may go back.
const clockEvery = 5 * time.Minute

// keeper holds the newest trust and brings it up to date.
type keeper struct {
	dir string

	writing sync.Mutex // serialises changes; held while files are written
	written time.Time  // guarded by writing: what the clock file has

	mu      sync.Mutex
	now     *trust        // guarded by mu
	frozen  bool          // guarded by mu
	seen    time.Time     // guarded by mu; latest time at which the roster was in force
	changed chan struct{} // guarded by mu; closed and replaced when now changes
}

// evidence is fork.json: two rosters of one version, both rightly signed.
type evidence struct {
	Time  wire.Millis       `json:"time"`
	Known wire.RosterUpdate `json:"known"`
	Other wire.RosterUpdate `json:"other"`
}

func openKeeper(dir string, fingerprint key.Hash) (*keeper, error) {
	t, err := loadTrust(dir, fingerprint)
	if err != nil {
		return nil, err
	}
	seen, err := readClock(dir)
	if err != nil {
		return nil, err
	}
	_, err = os.Lstat(filepath.Join(dir, forkFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &keeper{dir: dir, written: seen, now: t, frozen: err == nil, seen: seen, changed: make(chan struct{})}, nil
}

// get returns the newest trust and a channel that is closed when there is a newer one.
func (k *keeper) get() (*trust, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now, k.changed
}

// usable reports why no session may begin at now: fork, bad_time, roster_expired
// beyond the policy's grace, policy_mismatch (protocol 3.3). It also remembers
// the time.
func (k *keeper) usable(now time.Time) (*trust, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.frozen {
		return nil, refusal.New(refusal.Fork, "two rosters of one version were seen; an administrator has to look at %s", forkFile)
	}
	if err := roster.Sane(k.seen, now); err != nil {
		return nil, err
	}
	t := k.now
	if t.rules == nil {
		return nil, refusal.New(refusal.PolicyMismatch, "the policy that the roster binds is not here or not understood")
	}
	if err := t.roster.Check(now); err != nil {
		inGrace := refusal.Of(err) == refusal.RosterExpired && now.Before(t.roster.ExpiresAt().Add(t.rules.RosterGrace()))
		if !inGrace {
			return nil, err
		}
	}
	k.seen = t.roster.Seen(k.seen, now)
	return t, nil
}

// apply takes news from the server, one version after the other, and writes what
// it accepts before it counts. An error says why the rest was not taken; what was
// accepted before it stays accepted. changed reports whether there is a new trust.
func (k *keeper) apply(news wire.RosterNews, at time.Time) (changed bool, err error) {
	k.writing.Lock()
	defer k.writing.Unlock()
	old, _ := k.get()
	st, refused := k.extend(old.roster, news.Updates, at)
	next := &trust{roster: st, rules: old.rules}
	var text []byte
	if next.rules == nil || next.rules.Hash() != st.PolicyHash() {
		// Without a usable text the roster still counts, because it may revoke;
		// sessions wait for the text.
		if next.rules = parsePolicy(news.Policy, st.PolicyHash()); next.rules != nil {
			text = news.Policy
		}
	}
	if st == old.roster && next.rules == old.rules {
		return false, refused
	}
	if err := next.save(k.dir, text); err != nil {
		return false, errors.Join(refused, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now = next
	close(k.changed)
	k.changed = make(chan struct{})
	return true, refused
}

// extend applies updates as far as they go. A fork is kept as evidence and
// freezes the agent (protocol 3.3, rule 2).
func (k *keeper) extend(st *roster.State, updates []wire.RosterUpdate, at time.Time) (*roster.State, error) {
	for _, u := range updates {
		if recent(st, u) {
			continue
		}
		next, err := st.Apply(u, at)
		if refusal.Of(err) == refusal.Fork {
			return st, errors.Join(err, k.freeze(st, u, at))
		}
		if err != nil {
			return st, err
		}
		st = next
	}
	return st, nil
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

// freeze stops new sessions first and keeps the evidence then: a full disk must
// not keep the agent open.
func (k *keeper) freeze(st *roster.State, other wire.RosterUpdate, at time.Time) error {
	k.mu.Lock()
	k.frozen = true
	k.mu.Unlock()
	data, err := json.Marshal(evidence{Time: wire.At(at), Known: st.After(st.Version() - 1)[0], Other: other})
	if err != nil {
		return err
	}
	return keyfile.WriteAtomic(filepath.Join(k.dir, forkFile), data, 0o600)
}

// remember writes the time down now and then.
func (k *keeper) remember(at time.Time) error {
	k.writing.Lock()
	defer k.writing.Unlock()
	k.mu.Lock()
	if roster.Sane(k.seen, at) == nil {
		k.seen = k.now.roster.Seen(k.seen, at)
	}
	seen := k.seen
	k.mu.Unlock()
	if seen.Sub(k.written) < clockEvery {
		return nil
	}
	if err := writeClock(k.dir, seen); err != nil {
		return err
	}
	k.written = seen
	return nil
}

func (k *keeper) isFrozen() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.frozen
}
