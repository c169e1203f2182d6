package requests

import (
	"context"
	"time"

	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// Sweep ends the requests of all teams whose time is over, so that they are recorded as
// expired also when nobody asks.
func (q *Queue) Sweep(ctx context.Context, now time.Time) {
	for _, t := range q.Teams.All() {
		if !t.Due.Take(now) {
			continue
		}
		if err := q.expire(ctx, t, now); err != nil && ctx.Err() == nil { // at the end of the server nothing broke
			t.Due.Note(wire.At(now.Add(retryAfter)))
			q.Log.Warn("expiring requests", "team", t.ID.String(), "err", err)
		}
	}
}

// expire moves what is over, records it, and notes when the next one is.
func (q *Queue) expire(ctx context.Context, t *team.Team, now time.Time) error {
	state, err := q.Teams.Refresh(ctx, t)
	if err != nil {
		return err
	}
	var over []store.Request
	var next wire.Millis
	err = q.Store.InTx(ctx, t.ID, func(tx *store.Tx) error {
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
		q.waiting.wake(r.Hash)
	}
	return nil
}

func recordExpired(tx *store.Tx, t *team.Team, state chain.State, over []store.Request, now time.Time) error {
	for _, r := range over {
		e := about(entry.Entry{Type: entry.RequestExpire, Time: wire.At(now), Actor: entry.Actor{Kid: r.Operator}}, r)
		e.Refusal = refusal.ApprovalExpired
		if err := t.Log.Record(tx, state, e); err != nil {
			return err
		}
	}
	return nil
}
