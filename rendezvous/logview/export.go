package logview

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/export"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/rendezvous/agents"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// Export streams the log. The export is an act of its own and the last thing
// that it shows.
func (d *Desk) Export(c *gate.Call) (any, error) {
	select {
	case d.Exports <- struct{}{}:
		defer func() { <-d.Exports }()
	default:
		return nil, refusal.New(refusal.TooMany, "other exports are under way; try again")
	}
	ctx := c.HTTP.Context()
	err := d.Store.InTx(ctx, c.Team.ID, func(tx *store.Tx) error {
		return c.Team.Log.Record(tx, c.State, c.Entry(entry.AuditExport))
	})
	if err != nil {
		return nil, err
	}
	if err := c.Team.Log.Seal(ctx, c.State.Name); err != nil {
		return nil, err
	}
	asked, err := d.askToCosign(ctx, c.Team)
	if err != nil {
		return nil, err
	}
	l, err := c.Team.Log.Ledger(c.State.Name)
	if err != nil {
		return nil, err
	}
	w := &stream{to: c.W, control: http.NewResponseController(c.W)}
	src := cosignedSource{d.Store.AuditSource(ctx, c.Team.ID), ctx, asked}
	err = export.Write(w, src, l.Origin(), l.Keys()...)
	switch {
	case err == nil:
		return nil, gate.ErrAnswered
	case !w.begun:
		return nil, err
	}
	d.Log.Warn("an export broke off", "request", c.ID, "err", err)
	panic(http.ErrAbortHandler) // the reader sees a broken answer, not a short one
}

// cosignedSource reads the log while agents cosign its end: only who wants to know
// what they said waits for them.
type cosignedSource struct {
	export.Source
	ctx   context.Context
	asked *asked
}

// Cosignatures implements export.Source.
func (c cosignedSource) Cosignatures(after, last int64) (map[int64][]string, error) {
	if last >= c.asked.size {
		if err := c.asked.answered(c.ctx); err != nil {
			return nil, err
		}
	}
	return c.Source.Cosignatures(after, last)
}

// stream is an answer that may take longer than one deadline, as long as its
// reader goes on reading. What is written leaves at once.
type stream struct {
	to      http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

// Write implements io.Writer.
func (w *stream) Write(p []byte) (int, error) {
	if err := w.control.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	if !w.begun {
		w.begun = true
		w.to.Header().Set("Content-Type", "application/x-ndjson")
		w.to.WriteHeader(http.StatusOK)
	}
	n, err := w.to.Write(p)
	if flushed := w.control.Flush(); err == nil && !errors.Is(flushed, http.ErrNotSupported) {
		err = flushed
	}
	return n, err
}

// askToCosign shows the newest checkpoint to agents that are connected here: an
// export is worth more when others have seen where it ends. It waits for nobody;
// what it returns does.
func (d *Desk) askToCosign(ctx context.Context, t *team.Team) (*asked, error) {
	_, size, err := t.Log.Gossip(ctx, t.Have().Name, 0)
	if err != nil {
		return nil, err
	}
	var list []*agents.Conn
	d.Bus.Each(t.ID, func(_ key.ID, held bus.Conn) {
		if c, ok := held.(*agents.Conn); ok && len(list) < checkpoint.MaxCosigners {
			list = append(list, c)
		}
	})
	for _, c := range list {
		c.Beat()
	}
	return &asked{team: t, size: int64(size), n: len(list), until: time.Now().Add(d.Within)}, nil
}

// asked is how many were asked to cosign a checkpoint, and until when they may.
type asked struct {
	team  *team.Team
	size  int64
	n     int
	until time.Time
}

// answered waits for those who have not answered yet, and stores what came.
func (a *asked) answered(ctx context.Context) error {
	if a.n > 0 {
		within, cancel := context.WithDeadline(ctx, a.until)
		defer cancel()
		a.team.Log.AwaitCosigned(within, a.size, a.n)
	}
	return a.team.Log.StoreCosigned(ctx)
}
