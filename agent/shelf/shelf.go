// Package shelf is which shells a machine keeps: whose they are, which session has one,
// and until when it is there. What runs in them and who may have them is decided
// elsewhere.
package shelf

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/agent/judge"
	"github.com/tucdesk/tucdesk/agent/kept"
	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/agent/places"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// How many shells an agent keeps; our choices. Each is a process, a terminal and
// kept.Scrollback of memory.
const (
	MaxShells      = 64 // on a machine
	MaxPerOperator = 8  // of these

	joinWithin = 30 * time.Second // from its start to its first session, as a session has for CONFIRM
)

// Name is what a kept shell is found by: nobody but the key that began it, as
// the user that it runs as.
type Name struct {
	Operator key.ID
	User     string // account on the machine
	Name     string // that the operator chose
}

// Shell is one, from its start to the end of its holder.
type Shell struct {
	Name     Name
	Question *judge.Question // by which it began
	Answer   judge.Answer    // to it
	Door     *kept.Door      // to its holder; set before Fill
	Begun    time.Time

	cutOnce sync.Once
	cut     chan struct{} // closed when it has to end
	why     refusal.Code  // guarded by cut

	// Guarded by the table's mu.
	with   wire.SessionID // the session that has it; zero for none
	left   time.Time      // when the last one ended
	limits policy.Limits  // by the newest decision
	timer  *time.Timer    // ends it
}

// New makes one that begins now, by a decision that has been made.
func New(name Name, q *judge.Question, answer judge.Answer) *Shell {
	return &Shell{Name: name, Question: q, Answer: answer, Begun: time.Now(), cut: make(chan struct{})}
}

// End makes the shell end; the first reason counts, "" is none.
func (k *Shell) End(why refusal.Code) {
	k.cutOnce.Do(func() {
		k.why = why
		close(k.cut)
	})
}

// Cut is closed when the shell has to end.
func (k *Shell) Cut() <-chan struct{} { return k.cut }

// Why is the reason for its end, "" without one or before Cut is closed.
func (k *Shell) Why() refusal.Code {
	select {
	case <-k.cut:
		return k.why
	default:
		return ""
	}
}

// NotThere is one answer for shells that are not there and for those of others.
func NotThere() error {
	return refusal.New(refusal.NotFound, "you have no shell of that name here")
}

// Table holds them. It is safe for concurrent use.
type Table struct {
	mu     sync.Mutex
	m      map[Name]*Shell // guarded by mu; nil while a place is only reserved; without those that are ending
	places *places.Places  // guarded by mu
	closed bool            // guarded by mu
}

// NewTable makes an empty one.
func NewTable() *Table {
	return &Table{
		m:      make(map[Name]*Shell),
		places: places.New("kept shells", MaxShells, MaxPerOperator),
	}
}

// Reserve takes a place.
func (t *Table) Reserve(name Name) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch _, twice := t.m[name]; {
	case t.closed:
		return refusal.New(refusal.AgentStopped, "the agent is stopping")
	case twice:
		return refusal.New(refusal.NameTaken, "a shell of that name begins at this moment")
	}
	if err := t.places.Take(name.Operator); err != nil {
		return err
	}
	t.m[name] = nil
	return nil
}

// Abandon gives a reserved place back.
func (t *Table) Abandon(name Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.m, name)
	t.places.Give(name.Operator)
}

// Fill puts a shell that runs into the table. It ends when nobody joins it.
func (t *Table) Fill(k *Shell) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k.left, k.limits = k.Begun, k.Answer.Decision.Limits
	k.timer = time.AfterFunc(joinWithin, func() { k.End(refusal.Expired) })
	t.m[k.Name] = k
	if t.closed {
		k.End(refusal.AgentStopped)
	}
}

// Release gives the place back, when nothing of the shell runs any more.
func (t *Table) Release(k *Shell) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.places.Give(k.Name.Operator)
}

// Forget takes a shell that is ending out of the table.
func (t *Table) Forget(k *Shell) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k.timer.Stop()
	if t.m[k.Name] == k {
		delete(t.m, k.Name)
	}
}

// Find returns the shell of that name, nil without one.
func (t *Table) Find(name Name) *Shell {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[name]
}

// Joined notes that a session has k, and returns the one before. Not ok: it is
// ending.
func (t *Table) Joined(k *Shell, id wire.SessionID, limits policy.Limits, now time.Time) (before wire.SessionID, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m[k.Name] != k {
		return before, false
	}
	before, k.with, k.limits = k.with, id, limits
	k.rescheduleLocked(now)
	return before, true
}

// Left notes that a session has ended, and returns the shell that it had.
func (t *Table) Left(id wire.SessionID, now time.Time) *Shell {
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
func (k *Shell) untilLocked() time.Time {
	var until time.Time
	earlier := func(t time.Time) {
		if until.IsZero() || t.Before(until) {
			until = t
		}
	}
	if k.limits.Session > 0 {
		earlier(k.Begun.Add(k.limits.Session))
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

func (k *Shell) rescheduleLocked(now time.Time) {
	k.timer.Stop()
	if until := k.untilLocked(); !until.IsZero() {
		k.timer.Reset(until.Sub(now))
	}
}

// Kill ends a shell. It is not to be found from now on.
func (t *Table) Kill(name Name) error {
	k := t.Find(name)
	if k == nil {
		return NotThere()
	}
	t.Forget(k)
	k.End("")
	return nil
}

// List are the shells of one operator that run as one user, by name.
func (t *Table) List(operator key.ID, user string) []pair.KeptShell {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []pair.KeptShell{}
	for _, k := range t.m {
		if k == nil || k.Name.Operator != operator || k.Name.User != user {
			continue
		}
		one := pair.KeptShell{Name: k.Name.Name, User: k.Name.User, Since: k.Begun, Attached: k.with != wire.SessionID{}}
		if !one.Attached {
			left := k.left // who gets the list reads it without the lock
			one.Left = &left
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

// All are those that run.
func (t *Table) All() (list []*Shell) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.m {
		if k != nil {
			list = append(list, k)
		}
	}
	return list
}

// Lapsed are those whose time is over by the time of day: a timer stands still while the
// machine sleeps.
func (t *Table) Lapsed(now time.Time) (list []*Shell) {
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

// Close refuses new shells and ends those that run; it does not wait.
func (t *Table) Close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	for _, k := range t.All() {
		k.End(refusal.AgentStopped)
	}
}
