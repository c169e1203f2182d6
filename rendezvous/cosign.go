package rendezvous

import (
	"context"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/agents"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/logbook"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// cosignWithin is how long agents have to cosign the last checkpoint of an export.
// The log is on its way meanwhile. Our choice: one that is there answers in a round
// trip, and what a silent one may cost a small export is 2 s.
const cosignWithin = 2 * time.Second

// cosign takes an operator's cosignature of a checkpoint that is in the database.
func (s *Server) cosign(c *gate.Call) (any, error) {
	var k wire.Cosignature
	if err := strict.Decode(c.Body, &k); err != nil {
		return nil, err
	}
	var notes []string
	err := s.store.View(c.HTTP.Context(), c.Team.ID, func(tx *store.Tx) (err error) {
		notes, err = tx.Checkpoints(k.Size-1, 1)
		return err
	})
	if err != nil {
		return nil, err
	}
	if k.Size < 1 || len(notes) == 0 {
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

// askToCosign shows the newest checkpoint to agents that are connected here: an
// export is worth more when others have seen where it ends. It waits for nobody;
// what it returns does.
func (s *Server) askToCosign(ctx context.Context, t *team.Team) (*asked, error) {
	_, size, err := t.Log.Gossip(ctx, t.Have().Name, 0)
	if err != nil {
		return nil, err
	}
	var list []*agents.Conn
	s.bus.Each(t.ID, func(_ key.ID, held bus.Conn) {
		if c, ok := held.(*agents.Conn); ok && len(list) < checkpoint.MaxCosigners {
			list = append(list, c)
		}
	})
	for _, c := range list {
		c.Beat()
	}
	return &asked{team: t, size: int64(size), n: len(list), until: time.Now().Add(cosignWithin)}, nil
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
