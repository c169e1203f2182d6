// Package requests is the queue of session requests that wait for people: who sees
// them, what a signed decision does to one, and when its time is over.
//
// Every change of a request's state is one transaction with the entry in the log that
// tells of it, under the request's lock (attacks E12, K8). What is approved here opens
// nothing: the agent holds the same decisions against its own roster.
package requests

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

const (
	// MaxOpen is how many requests of one operator wait at once, so that nobody fills
	// the list. Our choice.
	MaxOpen = 20

	// PageLength is how many requests one answer lists; our choice.
	PageLength = 200

	// MaxList is how many bytes the statements in one such answer have, well below what
	// a client reads; our choice.
	MaxList = 8 << 20

	maxWait    = 25          // seconds of one waiting call; our choice, see client.MaxWait
	lookEvery  = time.Second // while waiting: another node may have decided
	retryAfter = time.Second // when the database could not be asked for requests that expired
)

// Queue holds no request: those are in the database. Its fields are set before the
// first call and not changed; all are required. All methods are safe for concurrent
// use.
type Queue struct {
	Store   *store.Store
	Teams   *team.Teams
	Log     *slog.Logger
	Closing <-chan struct{} // closed when the server closes: waiting calls answer now
	Room    int             // bytes of statements in one list: MaxList

	waiting waiters
}

// List lists what there is room for, open requests first. A list that no
// client would read, or one full of somebody's own requests, would keep approvers
// from all others.
//
// It is a read, so that looking again and again holds up nobody who decides; only what
// it shows to be over is settled first.
func (q *Queue) List(c *gate.Call) (any, error) {
	found, err := q.page(c)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(found, func(r store.Request) bool { return lapsed(r, c.Now) }) {
		if err := q.expire(c.HTTP.Context(), c.Team, c.Now); err != nil {
			return nil, err
		}
		if found, err = q.page(c); err != nil {
			return nil, err
		}
	}
	list := wire.RequestList{Requests: []wire.RequestInfo{}}
	room := q.Room
	for _, r := range found {
		if room -= r.Size(); room < 0 {
			break
		}
		list.Requests = append(list.Requests, r.Info())
	}
	return list, nil
}

// page reads the first requests of the team, open ones first.
func (q *Queue) page(c *gate.Call) (found []store.Request, err error) {
	err = q.Store.View(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		found, err = tx.Requests(PageLength)
		return err
	})
	return found, err
}

// lapsed reports an open request whose time has passed.
func lapsed(r store.Request, now time.Time) bool {
	open := r.State == wire.RequestPending || r.State == wire.RequestApproved
	return open && !now.Before(r.ExpiresAt.Time())
}

// Request returns one request, and waits while it is pending if asked to.
func (q *Queue) Request(c *gate.Call) (any, error) {
	hash, err := c.HashVar("request")
	if err != nil {
		return nil, err
	}
	seconds, err := c.NumberOf("wait")
	if err != nil {
		return nil, err
	}
	end := c.Now.Add(time.Duration(min(seconds, maxWait)) * time.Second)
	changed, done := q.waiting.wait(hash)
	defer done()
	for {
		r, err := q.lookAt(c.HTTP.Context(), c.Team, hash)
		if err != nil || r.State != wire.RequestPending || !time.Now().Before(end) {
			return r.Info(), err
		}
		select {
		case <-changed:
		case <-time.After(min(lookEvery, time.Until(end))):
		case <-q.Closing:
			return r.Info(), nil
		case <-c.HTTP.Context().Done():
			return nil, c.HTTP.Context().Err()
		}
	}
}

// lookAt reads a request; if its time is over, that is settled first.
func (q *Queue) lookAt(ctx context.Context, t *team.Team, hash key.Hash) (r store.Request, err error) {
	read := func(tx *store.Tx) error {
		r, err = tx.Request(hash)
		return err
	}
	if err := q.Store.View(ctx, t.ID, read); err != nil {
		return r, err
	}
	if now := time.Now(); lapsed(r, now) {
		if err := q.expire(ctx, t, now); err != nil {
			return r, err
		}
		return r, q.Store.View(ctx, t.ID, read)
	}
	return r, nil
}

// Put stores a request until people have decided about it. refused says why it cannot
// wait; with a fault nothing is known.
func Put(tx *store.Tx, r store.Request) (refused, fault error) {
	open, err := tx.OpenRequests(r.Operator)
	if err != nil {
		return nil, err
	}
	if open >= MaxOpen {
		return refusal.New(refusal.TooMany, "%d of your requests wait already; cancel some", open), nil
	}
	err = tx.PutRequest(r)
	if refusal.Of(err) == refusal.Replay {
		return err, nil
	}
	return nil, err
}

// RoleNames are the roles of set as a stored request has them, the least first.
func RoleNames(set policy.RoleSet) []string {
	names := []string{}
	for r := policy.Viewer; r <= policy.Owner; r++ {
		if set.Has(r) {
			names = append(names, r.String())
		}
	}
	return names
}

// Roles reads what RoleNames wrote; a name that no longer exists drops out,
// which asks for more, never for less.
func Roles(names []string) policy.RoleSet {
	var list []policy.Role
	for _, n := range names {
		if r, err := policy.ParseRole(n); err == nil {
			list = append(list, r)
		}
	}
	return policy.Roles(list...)
}
