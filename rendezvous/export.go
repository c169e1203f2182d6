package rendezvous

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/export"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

// maxExports is how many exports run at once on this process; each holds a page
// of the log. Our choice.
const maxExports = 4

// exportAudit streams the log. The export is an act of its own and the last thing
// that it shows.
func (s *Server) exportAudit(c *gate.Call) (any, error) {
	select {
	case s.exports <- struct{}{}:
		defer func() { <-s.exports }()
	default:
		return nil, refusal.New(refusal.TooMany, "other exports are under way; try again")
	}
	ctx := c.HTTP.Context()
	err := s.store.InTx(ctx, c.Team.ID, func(tx *store.Tx) error {
		return c.Team.Log.Record(tx, c.State, c.Entry(entry.AuditExport))
	})
	if err != nil {
		return nil, err
	}
	if err := c.Team.Log.Seal(ctx, c.State.Name); err != nil {
		return nil, err
	}
	asked, err := s.askToCosign(ctx, c.Team)
	if err != nil {
		return nil, err
	}
	l, err := c.Team.Log.Ledger(c.State.Name)
	if err != nil {
		return nil, err
	}
	w := &stream{to: c.W, control: http.NewResponseController(c.W)}
	src := cosignedSource{s.store.AuditSource(ctx, c.Team.ID), ctx, asked}
	err = export.Write(w, src, l.Origin(), l.Keys()...)
	switch {
	case err == nil:
		return nil, gate.ErrAnswered
	case !w.begun:
		return nil, err
	}
	s.log.Warn("an export broke off", "request", c.ID, "err", err)
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
	if err := w.control.SetWriteDeadline(time.Now().Add(replyWithin)); err != nil && !errors.Is(err, http.ErrNotSupported) {
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
