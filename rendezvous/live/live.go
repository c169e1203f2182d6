// Package live remembers which sessions a team may have open, so that the server
// can tell an agent at once to end one (frame cut, protocol 2.11).
//
// It is a memory, not a record: it lives in one process, is bounded, and forgets a
// session when the relay credential that it last heard of runs out; a renewal, also
// the first after a restart, brings the session back. A session that is not in it
// ends by the agent's own rules, a little later. So nothing may be allowed because
// of what stands here: cutting is denial, which is all that a server can do.
package live

import (
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Max is how many sessions of one team are remembered; our choice.
const Max = 8192

// Session is one session and its ends.
type Session struct {
	ID       wire.SessionID
	Operator key.ID
	Agent    key.ID
}

// Table holds the sessions of one team. The zero value is empty. All methods are
// safe for concurrent use.
type Table struct {
	mu  sync.Mutex // guards all
	all map[wire.SessionID]*entry
}

type entry struct {
	session Session
	until   time.Time
	ended   refusal.Code // "" while it may go on
}

// Put remembers s until the given time, or longer if it is there already. A session
// that was ended stays so. It reports whether s is new here. An id that another
// session has is left to that one: operators draw the ids, and must not be able to
// make somebody's session, or their own, unknown by using its id again.
func (t *Table) Put(s Session, until, now time.Time) (isNew bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.all) >= Max {
		t.sweepLocked(now)
	}
	if e := t.all[s.ID]; e != nil && now.Before(e.until) {
		if e.session == s && e.until.Before(until) {
			e.until = until
		}
		return false
	}
	if t.all[s.ID] == nil && len(t.all) >= Max {
		return false
	}
	if t.all == nil {
		t.all = map[wire.SessionID]*entry{}
	}
	t.all[s.ID] = &entry{session: s, until: until}
	return true
}

func (t *Table) sweepLocked(now time.Time) {
	for id, e := range t.all {
		if !now.Before(e.until) {
			delete(t.all, id)
		}
	}
}

// Drop forgets a session that did not come to be.
func (t *Table) Drop(id wire.SessionID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, id)
}

// Ended returns the code with which a session was ended, "" if it was not.
func (t *Table) Ended(id wire.SessionID) refusal.Code {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.all[id]; e != nil {
		return e.ended
	}
	return ""
}

// Cut is a session that has to end, and why.
type Cut struct {
	Session
	Code refusal.Code
}

// End marks every session for which why has a code, and returns those that were
// not marked before. why is called with the table locked: it must not block.
func (t *Table) End(now time.Time, why func(Session) refusal.Code) (cuts []Cut) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweepLocked(now)
	for _, e := range t.all {
		if e.ended != "" {
			continue
		}
		if e.ended = why(e.session); e.ended != "" {
			cuts = append(cuts, Cut{e.session, e.ended})
		}
	}
	return cuts
}
