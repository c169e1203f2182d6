package rendezvous

import (
	"time"

	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/logbook"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

func (s *Server) recordLogin(c *gate.Call) error {
	return s.store.InTx(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) error {
		return c.Team.Log.Record(tx, c.State, c.Entry(entry.Login))
	})
}

func (s *Server) recordFounding(tx *store.Tx, next chain.State, now time.Time) error {
	return logbook.Record(tx, s.keys.Audit, next, entry.Entry{Type: entry.TeamFound, Time: wire.At(now)})
}

// checkpoint signs the log's present state first, so that whoever asks after an
// act finds it covered.
func (s *Server) checkpoint(c *gate.Call) (any, error) {
	from, err := c.NumberOf("from")
	if err != nil {
		return nil, err
	}
	name := c.Team.Have().Name
	if err := c.Team.Log.Seal(c.HTTP.Context(), name); err != nil {
		return nil, err
	}
	g, _, err := c.Team.Log.Gossip(c.HTTP.Context(), name, from)
	return g, err
}
