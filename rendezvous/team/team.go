// Package team holds the teams of this process: of each the verified roster, the log,
// the sessions that may be open, and when its next request expires.
//
// The database is the truth, and other processes may write to it. What is kept here
// is kept because verifying it again for every call would cost more than the call.
package team

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/channel"
	"github.com/tucdesk/tucdesk/rendezvous/identity"
	"github.com/tucdesk/tucdesk/rendezvous/live"
	"github.com/tucdesk/tucdesk/rendezvous/logbook"
	"github.com/tucdesk/tucdesk/rendezvous/metrics"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

// Team is one team as this process knows it.
type Team struct {
	ID   principal.TeamID
	Log  *logbook.Log
	Live live.Table
	Due  Due // of its waiting requests

	load sync.Mutex // serialises loading; held across the database on purpose, one loader is enough
	have atomic.Pointer[chain.State]
}

// Have returns the newest roster that was verified here, nil before the first.
func (t *Team) Have() *chain.State { return t.have.Load() }

// Due is when the next waiting request of a team expires. It begins as unknown,
// which is now: the first sweep looks. Safe for concurrent use.
type Due struct{ ms atomic.Int64 } // 0: none waits

// Note makes it at, unless it is earlier already.
func (d *Due) Note(at wire.Millis) {
	for {
		due := d.ms.Load()
		if due != 0 && due <= int64(at) || d.ms.CompareAndSwap(due, int64(at)) {
			return
		}
	}
}

// Take reports whether one has expired by now; then nothing is due until Note says so.
func (d *Due) Take(now time.Time) bool {
	due := d.ms.Load()
	if due == 0 || now.UnixMilli() < due {
		return false
	}
	d.ms.Store(0)
	return true
}

// Teams are all teams of this process. Its fields are set before the first call and
// not changed; all are required. All methods are safe for concurrent use.
type Teams struct {
	Store   *store.Store
	Keys    *identity.Keys
	Bus     *bus.Bus
	Metrics *metrics.Counters
	Log     *slog.Logger

	// Announce is told of each new roster, after sessions that it takes away were
	// cut: a roster may be long, and a cut is one line. It brings agents up to date.
	Announce func(*Team, chain.State)

	mu  sync.RWMutex // guards all
	all map[wire.TeamID]*Team
}

// Find returns a team that was named by a verified token, or by a statement that
// is about to be verified with that team's keys. A team that this process does not
// know is looked up for every caller: another node may have founded it a moment ago,
// and an agent that joins believes "not found" and gives its key up. So nothing here
// may be an answer to an earlier question. A made-up id costs one look by primary
// key, which is less than what any known team's caller costs.
func (ts *Teams) Find(ctx context.Context, id wire.TeamID) (*Team, error) {
	if t := ts.Known(id); t != nil {
		return t, nil
	}
	found, err := ts.Store.FindTeam(ctx, id)
	if refusal.Of(err) == refusal.NotFound {
		return nil, NotFound()
	}
	if err != nil {
		return nil, err
	}
	return ts.adopt(found.ID), nil
}

// NotFound is the one answer for what does not exist and for what belongs to
// another team (attack K10).
func NotFound() error { return refusal.New(refusal.NotFound, "no such thing") }

// Known returns a team that Find has returned before, or nil.
func (ts *Teams) Known(id wire.TeamID) *Team {
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	return ts.all[id]
}

// List takes up all teams there are, when the server starts.
func (ts *Teams) List(ctx context.Context) error {
	found, err := ts.Store.Teams(ctx)
	for _, t := range found {
		ts.adopt(t.ID)
	}
	return err
}

// Found takes up a team that was founded a moment ago, with its first roster.
func (ts *Teams) Found(id principal.TeamID, first chain.State) { ts.adopt(id).have.Store(&first) }

func (ts *Teams) adopt(id principal.TeamID) *Team {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.all[id.Wire()]; t != nil {
		return t
	}
	t := &Team{ID: id, Log: logbook.New(ts.Store, ts.Keys.Audit, ts.Log, id)}
	t.Due.Note(1)
	if ts.all == nil {
		ts.all = map[wire.TeamID]*Team{}
	}
	ts.all[id.Wire()] = t
	return t
}

// All returns the teams of now, in no order.
func (ts *Teams) All() []*Team {
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	list := make([]*Team, 0, len(ts.all))
	for _, t := range ts.all {
		list = append(list, t)
	}
	return list
}

// Refresh returns the newest roster of t. Usually that is one query for a number;
// when another node stored more, the new versions are verified like any.
func (ts *Teams) Refresh(ctx context.Context, t *Team) (chain.State, error) {
	return ts.newest(ctx, t, (*store.Tx).Record)
}

// Admit is Refresh for a call with who's token. One that was ended, on whichever node,
// is not_logged_in.
func (ts *Teams) Admit(ctx context.Context, t *Team, who principal.Principal, now time.Time) (chain.State, error) {
	return ts.newest(ctx, t, func(tx *store.Tx) (store.Team, error) { return tx.RecordFor(who, now) })
}

func (ts *Teams) newest(ctx context.Context, t *Team, read func(*store.Tx) (store.Team, error)) (chain.State, error) {
	var record store.Team
	err := ts.Store.View(ctx, t.ID, func(tx *store.Tx) (err error) {
		record, err = read(tx)
		return err
	})
	if err != nil {
		return chain.State{}, err
	}
	if have := t.have.Load(); have != nil && have.Roster.Version() >= record.RosterVersion {
		return *have, nil
	}
	return ts.reload(ctx, t, record)
}

func (ts *Teams) reload(ctx context.Context, t *Team, record store.Team) (chain.State, error) {
	t.load.Lock()
	defer t.load.Unlock()
	have := t.have.Load()
	if have != nil && have.Roster.Version() >= record.RosterVersion {
		return *have, nil
	}
	var next chain.State
	err := ts.Store.View(ctx, t.ID, func(tx *store.Tx) (err error) {
		next, err = chain.Load(tx, ts.Keys.Access.ID(), record, have)
		return err
	})
	if err != nil {
		return chain.State{}, err
	}
	t.have.Store(&next)
	ts.cutLost(t, next)
	ts.Announce(t, next)
	return next, nil
}

// cutLost cuts the sessions of operators who have none by the roster of now.
func (ts *Teams) cutLost(t *Team, next chain.State) {
	now := time.Now()
	ts.Cut(t, now, func(l live.Session) refusal.Code { return refusal.Of(next.MaySession(l.Operator, now)) })
}

// Cut ends sessions at their agents, those of the team for which why has a code. An
// agent that is told ends the session at once, before it has read the roster or
// anything else that takes the right away (attack G6). Cutting is denial, so it
// needs no signature: a server that lies can cut a session off, which it can as
// well by sitting still.
func (ts *Teams) Cut(t *Team, now time.Time, why func(live.Session) refusal.Code) {
	cuts := t.Live.End(now, why)
	if len(cuts) == 0 {
		return
	}
	byAgent := map[key.ID][]live.Cut{}
	for _, c := range cuts {
		byAgent[c.Agent] = append(byAgent[c.Agent], c)
	}
	ts.Bus.Each(t.ID, func(agent key.ID, held bus.Conn) {
		for _, cut := range byAgent[agent] {
			ts.tell(held, cut)
		}
	})
}

// Recut tells an agent again of a session that was ended with code.
func (ts *Teams) Recut(t *Team, agent key.ID, id wire.SessionID, code refusal.Code) {
	ts.Bus.Each(t.ID, func(connected key.ID, held bus.Conn) {
		if connected == agent {
			ts.tell(held, live.Cut{Session: live.Session{ID: id}, Code: code})
		}
	})
}

// tell queues a cut if there is room: a channel must not end because of it. The
// agent finds out by itself what it is not told.
func (ts *Teams) tell(held bus.Conn, cut live.Cut) {
	body, err := channel.Body(wire.Cut{Session: cut.ID, Code: cut.Code})
	if err == nil && held.Offer(wire.Frame{Type: wire.FrameCut, Body: body}) {
		ts.Metrics.Count("cut")
	}
}

// One is a why of Cut for one session.
func One(id wire.SessionID, code refusal.Code) func(live.Session) refusal.Code {
	return func(l live.Session) refusal.Code {
		if l.ID == id {
			return code
		}
		return ""
	}
}
