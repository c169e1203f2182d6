// Package logview is what people see of their team's log: its newest checkpoint, which
// they may cosign, and the whole of it as an export that is verified offline.
package logview

import (
	"log/slog"
	"time"

	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/logbook"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
)

const (
	// MaxExports is how many exports run at once on this process; each holds a page
	// of the log. Our choice.
	MaxExports = 4

	// CosignWithin is how long agents have to cosign the last checkpoint of an export.
	// The log is on its way meanwhile. Our choice: one that is there answers in a round
	// trip, and what a silent one may cost a small export is 2 s.
	CosignWithin = 2 * time.Second

	// writeWithin is how long the reader of an export may take for what was written; our
	// choice.
	writeWithin = 60 * time.Second
)

// Desk shows logs. Its fields are set before the first call and not changed; all are
// required. All methods are safe for concurrent use.
type Desk struct {
	Store   *store.Store
	Bus     *bus.Bus
	Log     *slog.Logger
	Exports chan struct{} // MaxExports places

	// Within is how long agents have to cosign the end of an export: CosignWithin.
	Within time.Duration
}

// Checkpoint signs the log's present state first, so that whoever asks after an
// act finds it covered.
func (d *Desk) Checkpoint(c *gate.Call) (any, error) {
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

// Cosign takes an operator's cosignature of a checkpoint that is in the database.
func (d *Desk) Cosign(c *gate.Call) (any, error) {
	var k wire.Cosignature
	if err := strict.Decode(c.Body, &k); err != nil {
		return nil, err
	}
	if k.Size < 1 { // before the database is asked; one below it would be the first checkpoint there is
		return nil, refusal.New(refusal.NotFound, "no such checkpoint")
	}
	var notes []string
	err := d.Store.View(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) (err error) {
		notes, err = tx.Checkpoints(k.Size-1, 1)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(notes) == 0 {
		return nil, refusal.New(refusal.NotFound, "no such checkpoint")
	}
	shown, err := checkpoint.Peek(notes[0])
	if err != nil {
		return nil, err
	}
	if shown.Size != k.Size {
		return nil, refusal.New(refusal.NotFound, "no such checkpoint")
	}
	if err := logbook.TakeCosignature(c.Team.Log, shown, k.Line, c.Op.Key); err != nil {
		return nil, err
	}
	return struct{}{}, nil
}
