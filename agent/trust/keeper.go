package trust

import (
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

// Keeper holds the newest trust and brings it up to date. Its methods may be
// called concurrently.
type Keeper struct {
	dir string

	writing  sync.Mutex // serialises changes; held while files are written
	written  time.Time  // guarded by writing: what the clock file has
	owed     bool       // guarded by writing: now is not on the disk
	text     []byte     // guarded by writing: policy that is owed with it
	evidence []byte     // guarded by writing: fork.json that is owed

	mu      sync.Mutex
	now     *Trust        // guarded by mu
	frozen  bool          // guarded by mu
	unsaved error         // guarded by mu; why the last attempt to write failed
	seen    time.Time     // guarded by mu; latest time at which the roster was in force
	changed chan struct{} // guarded by mu; closed and replaced when now changes
}

// evidence is fork.json: two rosters of one version, both rightly signed.
type evidence struct {
	Time  wire.Millis       `json:"time"`
	Known wire.RosterUpdate `json:"known"`
	Other wire.RosterUpdate `json:"other"`
}

// Open reads what Create and Save wrote. fingerprint is the team's.
func Open(dir string, fingerprint key.Hash) (*Keeper, error) {
	t, err := load(dir, fingerprint)
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
	return &Keeper{dir: dir, written: seen, now: t, frozen: err == nil, seen: seen, changed: make(chan struct{})}, nil
}

// Get returns the newest trust and a channel that is closed when there is a newer one.
func (k *Keeper) Get() (*Trust, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now, k.changed
}

// Frozen reports that two rosters of one version were seen.
func (k *Keeper) Frozen() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.frozen
}

// Usable reports why no session may begin at now: fork, roster_not_saved,
// bad_time, roster_expired beyond the policy's grace, policy_mismatch (protocol
// 3.3). It also remembers the time.
func (k *Keeper) Usable(now time.Time) (*Trust, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.frozen {
		return nil, refusal.New(refusal.Fork, "two rosters of one version were seen; an administrator has to look at %s", forkFile)
	}
	if k.unsaved != nil {
		return nil, k.unsaved
	}
	if err := roster.Sane(k.seen, now); err != nil {
		return nil, err
	}
	t := k.now
	if t.Rules == nil {
		return nil, refusal.New(refusal.PolicyMismatch, "the policy that the roster binds is not here or not understood")
	}
	if err := t.Roster.Check(now); err != nil {
		inGrace := refusal.Of(err) == refusal.RosterExpired && now.Before(t.Roster.ExpiresAt().Add(t.Rules.RosterGrace()))
		if !inGrace {
			return nil, err
		}
	}
	k.seen = t.Roster.Seen(k.seen, now)
	return t, nil
}

// Apply takes news from the server into force, one version after the other, in
// memory: the caller then ends the sessions that may not go on, and calls Save.
// An error says why the rest was not taken; what was accepted before it stays
// accepted. changed reports whether there is a new trust.
func (k *Keeper) Apply(news wire.RosterNews, at time.Time) (changed bool, err error) {
	k.writing.Lock()
	defer k.writing.Unlock()
	old, _ := k.Get()
	next, text, other, err := old.follow(news, at)
	if refusal.Of(err) == refusal.Fork {
		err = errors.Join(err, k.freeze(next.Roster, other, at))
	}
	if next == old {
		return false, err
	}
	if k.owed = true; text != nil || next.Rules != old.Rules {
		k.text = text // else a text that is still owed stays so
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now = next
	close(k.changed)
	k.changed = make(chan struct{})
	return true, err
}

// freeze stops new sessions at once; its evidence is written by Save (protocol
// 3.3, rule 2).
func (k *Keeper) freeze(st *roster.State, other wire.RosterUpdate, at time.Time) (err error) {
	k.mu.Lock()
	k.frozen = true
	k.mu.Unlock()
	k.evidence, err = json.Marshal(evidence{Time: wire.At(at), Known: st.After(st.Version() - 1)[0], Other: other})
	return err
}

// Save writes what is in force and not on the disk yet; mostly that is nothing.
// Refusal: RosterNotSaved, with the system's reason. Usable then refuses until a
// later Save succeeds.
func (k *Keeper) Save() error {
	k.writing.Lock()
	defer k.writing.Unlock()
	if !k.owed && k.evidence == nil {
		return nil
	}
	err := k.write()
	if err != nil {
		t, _ := k.Get()
		err = errors.Join(refusal.New(refusal.RosterNotSaved, "roster version %d is in force but cannot be written on this host", t.Roster.Version()), err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.unsaved = err
	return err
}

// write pays the debts; the caller holds writing.
func (k *Keeper) write() error {
	if k.evidence != nil {
		if err := keyfile.WriteAtomic(filepath.Join(k.dir, forkFile), k.evidence, 0o600); err != nil {
			return err
		}
		k.evidence = nil
	}
	if k.owed {
		t, _ := k.Get()
		if err := t.save(k.dir, k.text); err != nil {
			return err
		}
		k.owed, k.text = false, nil
	}
	return nil
}
