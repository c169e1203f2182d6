package agent

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// How many shells an agent keeps; our choices. Each is a process, a terminal and
// kept.Scrollback of memory.
const (
	maxShells            = 64
	maxShellsPerOperator = 8
)

// shellName is what a kept shell is found by: nobody but the key that began it, as
// the user that it runs as.
type shellName struct {
	operator key.ID
	user     string
	name     string
}

// shells are the kept ones.
type shells struct {
	mu     sync.Mutex
	m      map[shellName]*shell // guarded by mu; nil while a place is only reserved; without those that are ending
	places places               // guarded by mu
	closed bool                 // guarded by mu
}

func newShells() shells {
	return shells{
		m:      make(map[shellName]*shell),
		places: places{what: "kept shells", all: maxShells, each: maxShellsPerOperator, of: make(map[key.ID]int)},
	}
}

// reserve takes a place.
func (t *shells) reserve(name shellName) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch _, twice := t.m[name]; {
	case t.closed:
		return refusal.New(refusal.Unavailable, "the agent is stopping")
	case twice:
		return refusal.New(refusal.NameTaken, "a shell of that name begins at this moment")
	}
	if err := t.places.take(name.operator); err != nil {
		return err
	}
	t.m[name] = nil
	return nil
}

// abandon gives a reserved place back.
func (t *shells) abandon(name shellName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.m, name)
	t.places.give(name.operator)
}

// fill puts a shell that runs into the table. It ends when nobody joins it.
func (t *shells) fill(k *shell) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k.left, k.limits = k.begun, k.answer.Decision.Limits
	k.timer = time.AfterFunc(confirmLimit, func() { k.end(refusal.Expired) })
	t.m[k.name] = k
	if t.closed {
		k.end(refusal.Unavailable)
	}
}

func (t *shells) release(k *shell) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.places.give(k.name.operator)
}

// forget takes a shell that is ending out of the table.
func (t *shells) forget(k *shell) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k.timer.Stop()
	if t.m[k.name] == k {
		delete(t.m, k.name)
	}
}

func (t *shells) find(name shellName) *shell {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[name]
}

// joined notes that a session has k, and returns the one before. Not ok: it is
// ending.
func (t *shells) joined(k *shell, id wire.SessionID, limits policy.Limits, now time.Time) (before wire.SessionID, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m[k.name] != k {
		return before, false
	}
	before, k.with, k.limits = k.with, id, limits
	k.rescheduleLocked(now)
	return before, true
}

// left notes that a session has ended, and returns the shell that it had.
func (t *shells) left(id wire.SessionID, now time.Time) *shell {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.m {
		if k != nil && k.with == id {
			k.with, k.left = wire.SessionID{}, now
			k.rescheduleLocked(now)
			return k
		}
	}
	return nil
}

// untilLocked is when the shell ends if nobody takes it, or at all; zero is never.
func (k *shell) untilLocked() time.Time {
	var until time.Time
	earlier := func(t time.Time) {
		if until.IsZero() || t.Before(until) {
			until = t
		}
	}
	if k.limits.Session > 0 {
		earlier(k.begun.Add(k.limits.Session))
	}
	if k.with != (wire.SessionID{}) {
		return until
	}
	resume := k.limits.Resume
	if resume == 0 {
		resume = policy.DefaultResume
	}
	earlier(k.left.Add(resume))
	if k.limits.Idle > 0 {
		earlier(k.left.Add(k.limits.Idle))
	}
	return until
}

func (k *shell) rescheduleLocked(now time.Time) {
	k.timer.Stop()
	if until := k.untilLocked(); !until.IsZero() {
		k.timer.Reset(until.Sub(now))
	}
}

// kill ends a shell. It is not to be found from now on.
func (t *shells) kill(name shellName) error {
	k := t.find(name)
	if k == nil {
		return noShell()
	}
	t.forget(k)
	k.end("")
	return nil
}

// list are the shells of one operator that run as one user, by name.
func (t *shells) list(operator key.ID, user string) []pair.KeptShell {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []pair.KeptShell{}
	for _, k := range t.m {
		if k == nil || k.name.operator != operator || k.name.user != user {
			continue
		}
		one := pair.KeptShell{Name: k.name.name, User: k.name.user, Since: k.begun, Attached: k.with != wire.SessionID{}}
		if !one.Attached {
			one.Left = &k.left
		}
		if until := k.untilLocked(); !until.IsZero() {
			one.Until = &until
		}
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b pair.KeptShell) int {
		return strings.Compare(a.Name, b.Name)
	})
	return list
}

func (t *shells) all() (list []*shell) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.m {
		if k != nil {
			list = append(list, k)
		}
	}
	return list
}

// lapsed are those whose time is over by the time of day: a timer stands still while the
// machine sleeps.
func (t *shells) lapsed(now time.Time) (list []*shell) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.m {
		if k == nil {
			continue
		}
		if until := k.untilLocked(); !until.IsZero() && now.UnixMilli() >= until.UnixMilli() {
			list = append(list, k)
		}
	}
	return list
}

// close refuses new shells and ends those that run; it does not wait.
func (t *shells) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	for _, k := range t.all() {
		k.end(refusal.Unavailable)
	}
}
