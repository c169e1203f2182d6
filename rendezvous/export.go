package rendezvous

import (
	"errors"
	"net/http"
	"time"

	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/export"
	"github.com/tucdesk/tucdesk/internal/audit/ledger"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

// maxExports is how many exports run at once on this process; each holds a page
// of the log. Our choice.
const maxExports = 4

// exportAudit streams the log. The export is an act of its own and the last thing
// that it shows.
func (s *Server) exportAudit(c *call) (any, error) {
	select {
	case s.exports <- struct{}{}:
		defer func() { <-s.exports }()
	default:
		return nil, refusal.New(refusal.TooMany, "other exports are under way; try again")
	}
	ctx := c.http.Context()
	err := s.store.InTx(ctx, c.team.id, func(tx *store.Tx) error {
		return s.record(tx, c.state, c.entry(entry.AuditExport))
	})
	if err != nil {
		return nil, err
	}
	if err := s.seal(ctx, c.team); err != nil {
		return nil, err
	}
	if err := s.askToCosign(ctx, c.team); err != nil {
		return nil, err
	}
	l, err := ledger.New(c.state.name, c.team.id.Wire(), s.keys.Audit)
	if err != nil {
		return nil, err
	}
	w := &stream{to: c.w, control: http.NewResponseController(c.w)}
	err = export.Write(w, s.store.AuditSource(ctx, c.team.id), l.Origin(), l.Keys()...)
	switch {
	case err == nil:
		return nil, errAnswered
	case !w.begun:
		return nil, err
	}
	s.log.Warn("an export broke off", "request", c.id, "err", err)
	panic(http.ErrAbortHandler) // the reader sees a broken answer, not a short one
}

// stream is an answer that may take longer than one deadline, as long as its
// reader goes on reading.
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
	return w.to.Write(p)
}
