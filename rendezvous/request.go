package rendezvous

import (
	"context"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

const (
	maxWait    = 25          // seconds of one waiting call; our choice, see client.MaxWait
	lookEvery  = time.Second // while waiting: another node may have decided
	sweepEvery = time.Second // between two looks for requests that expired
)

// waiters wakes calls that wait for a request to change. It holds an entry only
// while somebody waits.
type waiters struct {
	mu    sync.Mutex // guards calls
	calls map[key.Hash]map[chan struct{}]struct{}
}

func (w *waiters) wait(hash key.Hash) (changed <-chan struct{}, done func()) {
	ch := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls == nil {
		w.calls = map[key.Hash]map[chan struct{}]struct{}{}
	}
	if w.calls[hash] == nil {
		w.calls[hash] = map[chan struct{}]struct{}{}
	}
	w.calls[hash][ch] = struct{}{}
	return ch, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if delete(w.calls[hash], ch); len(w.calls[hash]) == 0 {
			delete(w.calls, hash)
		}
	}
}

func (w *waiters) wake(hash key.Hash) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.calls[hash] {
		select {
		case ch <- struct{}{}:
		default: // it is awake already
		}
	}
}

// requests lists what there is room for, open requests first. A list that no
// client would read, or one full of somebody's own requests, would keep approvers
// from all others.
func (s *Server) requests(c *gate.Call) (any, error) {
	if err := s.expire(c.HTTP.Context(), c.Team, c.Now); err != nil {
		return nil, err
	}
	list := wire.RequestList{Requests: []wire.RequestInfo{}}
	err := s.store.View(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		found, err := tx.Requests(pageRequests)
		room := maxRequestList
		for _, r := range found {
			if room -= r.Size(); room < 0 {
				break
			}
			list.Requests = append(list.Requests, r.Info())
		}
		return err
	})
	return list, err
}

// request returns one request, and waits while it is pending if asked to.
func (s *Server) request(c *gate.Call) (any, error) {
	hash, err := c.HashVar("request")
	if err != nil {
		return nil, err
	}
	seconds, err := c.NumberOf("wait")
	if err != nil {
		return nil, err
	}
	end := c.Now.Add(time.Duration(min(seconds, maxWait)) * time.Second)
	changed, done := s.waiting.wait(hash)
	defer done()
	for {
		r, err := s.lookAt(c.HTTP.Context(), c.Team, hash)
		if err != nil || r.State != wire.RequestPending || !time.Now().Before(end) {
			return r.Info(), err
		}
		select {
		case <-changed:
		case <-time.After(min(lookEvery, time.Until(end))):
		case <-s.closing:
			return r.Info(), nil
		case <-c.HTTP.Context().Done():
			return nil, c.HTTP.Context().Err()
		}
	}
}

// lookAt reads a request; if its time is over, that is settled first.
func (s *Server) lookAt(ctx context.Context, t *team.Team, hash key.Hash) (r store.Request, err error) {
	read := func(tx *store.Tx) error {
		r, err = tx.Request(hash)
		return err
	}
	if err := s.store.View(ctx, t.ID, read); err != nil {
		return r, err
	}
	open := r.State == wire.RequestPending || r.State == wire.RequestApproved
	if now := time.Now(); open && !now.Before(r.ExpiresAt.Time()) {
		if err := s.expire(ctx, t, now); err != nil {
			return r, err
		}
		return r, s.store.View(ctx, t.ID, read)
	}
	return r, nil
}

func (s *Server) requestSubject(c *gate.Call) (gate.Subject, error) {
	hash, err := c.HashVar("request")
	return gate.Subject{Request: hash}, err
}

// approve takes a signed decision. What it does to the request is settled in the
// transaction that stores it, under the request's lock (attacks E12, K8).
func (s *Server) approve(c *gate.Call) (any, error) {
	hash, err := c.HashVar("request")
	if err != nil {
		return nil, err
	}
	var body wire.ApprovalPublish
	if err := strict.Decode(c.Body, &body); err != nil {
		return nil, err
	}
	var r store.Request
	var late bool
	err = s.store.InTx(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		stored, err := tx.Request(hash)
		if err != nil {
			return err
		}
		decision, err := readApproval(c, stored, body.Approval)
		if err != nil {
			return err
		}
		r, err = tx.AddApproval(store.Approval{Request: hash, ID: decision.ID, Approver: c.Who.Operator,
			Decision: string(decision.Decision), Statement: body.Approval}, c.Now)
		late = refusal.Of(err) == refusal.ApprovalUsed && decision.Decision == approval.Deny
		if err != nil {
			r = stored
			return err
		}
		if err := conclude(c, tx, &r); err != nil {
			return err
		}
		return s.recordApproval(tx, c, r, decision, body.Approval)
	})
	if late { // too late for the request, not for what it opened
		s.teams.Cut(c.Team, c.Now, team.One(r.Session, refusal.ApprovalDenied))
	}
	if err != nil {
		return nil, err
	}
	s.waiting.wake(hash)
	return r.Info(), nil
}

// readApproval verifies one decision as the agent will: made by the caller, for
// this request and content, by somebody who may.
func readApproval(c *gate.Call, r store.Request, signed statement.Signed) (approval.Approval, error) {
	req, _, err := statement.Open[wire.Request](r.Statement, c.State.Roster.FindOperator(c.Now))
	if err != nil {
		return approval.Approval{}, err
	}
	a, kid, err := statement.Open[approval.Approval](signed, c.State.Roster.FindOperator(c.Now))
	if err != nil {
		return a, err
	}
	if kid != c.Who.Operator {
		return a, refusal.New(refusal.NotYours, "the decision was signed by another key")
	}
	one := policy.Approval{Count: 1, Roles: rolesOf(r.Roles)}
	_, err = approval.Check(c.State.Roster, req, r.Hash, one, []statement.Signed{signed}, c.Now)
	if refusal.Of(err) == refusal.ApprovalDenied && a.Decision == approval.Deny {
		err = nil
	}
	return a, err
}

// conclude moves a request that has what it needs, or that somebody denied.
func conclude(c *gate.Call, tx *store.Tx, r *store.Request) error {
	req, _, err := statement.Open[wire.Request](r.Statement, c.State.Roster.FindOperator(c.Now))
	if err != nil {
		return err
	}
	_, err = approval.Check(c.State.Roster, req, r.Hash, policy.Approval{Count: r.Need, Roles: rolesOf(r.Roles)}, r.Approvals, c.Now)
	next := r.State
	switch {
	case err == nil:
		next = wire.RequestApproved
	case refusal.Of(err) == refusal.ApprovalDenied:
		next = wire.RequestDenied
	case refusal.Of(err) == "":
		return err
	}
	if next == r.State {
		return nil
	}
	if err := tx.SetRequestState(r.Hash, r.State, next, c.Now); err != nil {
		return err
	}
	r.State = next
	return nil
}

// cancel withdraws a request; only whoever made it may. One that was used stays
// so, and the refusal says it, but the session that it opened ends: the operator
// has given up, perhaps in the very moment in which the agent accepted.
func (s *Server) cancel(c *gate.Call) (any, error) {
	hash, err := c.HashVar("request")
	if err != nil {
		return nil, err
	}
	var r store.Request
	err = s.store.InTx(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		if r, err = tx.Request(hash); err != nil {
			return err
		}
		if r.Operator != c.Who.Operator {
			return refusal.New(refusal.NotYours, "only the requester may withdraw a request; others may deny it")
		}
		from := r.State
		if from != wire.RequestApproved {
			from = wire.RequestPending // any other state is named by the refusal
		}
		if err := tx.SetRequestState(hash, from, wire.RequestCancelled, c.Now); err != nil {
			return err
		}
		r.State = wire.RequestCancelled
		return s.recordCancel(tx, c, r)
	})
	if refusal.Of(err) == refusal.ApprovalUsed {
		s.teams.Cut(c.Team, c.Now, team.One(r.Session, refusal.ApprovalCancelled))
	}
	if err != nil {
		return nil, err
	}
	s.waiting.wake(hash)
	return r.Info(), nil
}

// sweepUntilClosed runs the sweep as part of what Close waits for, because it uses
// the database that Close takes away.
func (s *Server) sweepUntilClosed() error {
	end, err := s.hold()
	if err != nil {
		return nil // closed before it ran
	}
	defer end()
	return s.sweep(s.base)
}

// sweep ends requests whose time is over, so that they are recorded as expired
// also when nobody asks. It runs until ctx ends.
func (s *Server) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	pruned := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			s.sweepTeams(ctx, now)
			s.sealTeams(ctx)
			if now.Sub(pruned) > pruneEvery {
				pruned = now
				s.prune(ctx, now)
			}
		}
	}
}

// pruneEvery is how often expired ids and settled requests are forgotten; our choice.
const pruneEvery = 10 * time.Minute

func (s *Server) prune(ctx context.Context, now time.Time) {
	if err := s.store.Prune(ctx, now); err != nil && ctx.Err() == nil {
		s.log.Warn("forgetting old ids", "err", err)
	}
	for _, t := range s.teams.All() {
		err := s.store.InTx(ctx, t.ID, func(tx *store.Tx) error {
			if _, err := tx.PruneRequests(now); err != nil {
				return err
			}
			return tx.PruneEnds(now)
		})
		if err != nil && ctx.Err() == nil {
			s.log.Warn("forgetting settled requests and ended sessions", "team", t.ID.String(), "err", err)
		}
	}
}

func (s *Server) sweepTeams(ctx context.Context, now time.Time) {
	for _, t := range s.teams.All() {
		if !t.Due.Take(now) {
			continue
		}
		if err := s.expire(ctx, t, now); err != nil && ctx.Err() == nil { // at the end of the server nothing broke
			t.Due.Note(wire.At(now.Add(sweepEvery)))
			s.log.Warn("expiring requests", "team", t.ID.String(), "err", err)
		}
	}
}

// sealTeams signs checkpoints for logs that grew, at most one a second for each.
func (s *Server) sealTeams(ctx context.Context) {
	for _, t := range s.teams.All() {
		have := t.Have()
		if have == nil {
			continue
		}
		if err := t.Log.Seal(ctx, have.Name); err != nil && ctx.Err() == nil {
			s.log.Error("signing a checkpoint", "team", t.ID.String(), "err", err)
		}
	}
}

// expire moves what is over, records it, and notes when the next one is.
func (s *Server) expire(ctx context.Context, t *team.Team, now time.Time) error {
	state, err := s.teams.Refresh(ctx, t)
	if err != nil {
		return err
	}
	var over []store.Request
	var next wire.Millis
	err = s.store.InTx(ctx, t.ID, func(tx *store.Tx) error {
		over, next = nil, 0
		hashes, err := tx.ExpireRequests(now)
		if err != nil {
			return err
		}
		for _, h := range hashes {
			r, err := tx.Request(h)
			if err != nil {
				return err
			}
			over = append(over, r)
		}
		if next, err = tx.NextDue(); err != nil || len(over) == 0 {
			return err
		}
		return recordExpired(tx, t, state, over, now)
	})
	if err != nil {
		return err
	}
	if next != 0 {
		t.Due.Note(next)
	}
	for _, r := range over {
		s.waiting.wake(r.Hash)
	}
	return nil
}
