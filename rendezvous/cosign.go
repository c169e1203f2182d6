package rendezvous

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
)

// cosignWithin is how long agents have to cosign the last checkpoint of an export.
// The log is on its way meanwhile. Our choice: one that is there answers in a round
// trip, and what a silent one may cost a small export is 2 s.
const cosignWithin = 2 * time.Second

// cosigners are cosignatures of a team's newest checkpoint that are not stored yet.
// They are written once a second, together: a transaction for each heartbeat of each
// agent would be most of what the database does.
type cosigners struct {
	mu      sync.Mutex // guards all below
	size    int64
	list    []store.Cosigned // not stored yet, the newest last
	came    map[key.ID]bool  // who cosigned the checkpoint of size, stored or not, up to MaxCosigners
	changed chan struct{}    // closed and replaced when list changes; nil before the first
}

// add takes one and forgets those of smaller checkpoints, whose cosigners will see
// this one as well.
func (c *cosigners) add(size int64, s store.Cosigned) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if size < c.size {
		return
	}
	if size > c.size || c.came == nil {
		c.size, c.list, c.came = size, nil, map[key.ID]bool{}
	}
	if len(c.came) < checkpoint.MaxCosigners { // nobody waits for more
		c.came[s.Signer] = true
	}
	c.list = slices.DeleteFunc(c.list, func(old store.Cosigned) bool { return old.Signer == s.Signer })
	if len(c.list) == checkpoint.MaxCosigners {
		c.list = c.list[1:]
	}
	c.list = append(slices.Clip(c.list), s)
	if c.changed != nil {
		close(c.changed)
	}
	c.changed = make(chan struct{})
}

// take returns what is to be stored.
func (c *cosigners) take() (int64, []store.Cosigned) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.list
	c.list = nil
	return c.size, list
}

// await returns when n have come for the checkpoint of size, or ctx ends.
func (c *cosigners) await(ctx context.Context, size int64, n int) {
	for {
		c.mu.Lock()
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed, enough := c.changed, c.size > size || c.size == size && len(c.came) >= n
		c.mu.Unlock()
		if enough {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// storeCosigned writes what has come since the last time.
func (s *Server) storeCosigned(ctx context.Context, t *team) error {
	size, list := t.cosigned.take()
	if len(list) == 0 {
		return nil
	}
	return s.store.InTx(ctx, t.id, func(tx *store.Tx) error {
		return tx.PutCosignatures(size, list, time.Now(), checkpoint.MaxCosigners)
	})
}

// maxShown is of how many checkpoints a channel remembers that its agent was shown
// them: an answer may cross with a newer one. Our choice.
const maxShown = 8

// takeCosignature takes an agent's word on a checkpoint that it was shown here. One
// that does not hold is dropped: it harms nobody, and nobody would believe it.
func (c *conn) takeCosignature(k wire.Cosignature) {
	if k.Line == "" {
		return
	}
	cert, err := c.verified()
	if err != nil {
		return
	}
	c.mu.Lock()
	i := slices.IndexFunc(c.shown, func(h tree.Head) bool { return h.Size == k.Size })
	var head tree.Head
	if i >= 0 {
		head = c.shown[i]
	}
	c.mu.Unlock()
	origin := checkpoint.Origin(c.team.have.Load().Name, c.team.id.Wire())
	if err := cosigned(checkpoint.Checkpoint{Origin: origin, Head: head}, k.Line, cert.Agent); err != nil {
		c.s.count("cosignature_refused")
		return
	}
	c.team.cosigned.add(k.Size, store.Cosigned{Signer: c.agent, Line: k.Line})
}

// cosigned verifies a cosignature that was made just now.
func cosigned[R checkpoint.Cosigner](c checkpoint.Checkpoint, line string, k key.Public[R]) error {
	at, err := checkpoint.CheckCosignature(c, line, k)
	if err != nil {
		return err
	}
	if d := time.Since(at); d < -wire.RegistrationSkew || d > wire.RegistrationSkew {
		return refusal.New(refusal.BadTime, "a cosignature from another time")
	}
	return nil
}

// cosign takes an operator's cosignature of a checkpoint that is in the database.
func (s *Server) cosign(c *call) (any, error) {
	var k wire.Cosignature
	if err := strict.Decode(c.body, &k); err != nil {
		return nil, err
	}
	var notes []string
	err := s.store.View(c.http.Context(), c.team.id, func(tx *store.Tx) (err error) {
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
	if err := cosigned(shown, k.Line, c.op.Key); err != nil {
		return nil, err
	}
	c.team.cosigned.add(k.Size, store.Cosigned{Signer: c.who.Operator, Line: k.Line})
	return struct{}{}, nil
}

// askToCosign shows the newest checkpoint to agents that are connected here: an
// export is worth more when others have seen where it ends. It waits for nobody;
// what it returns does.
func (s *Server) askToCosign(ctx context.Context, t *team) (*asked, error) {
	_, size, err := s.gossip(ctx, t, 0)
	if err != nil {
		return nil, err
	}
	var list []*conn
	s.bus.Each(t.id, func(_ key.ID, held bus.Conn) {
		if c, ok := held.(*conn); ok && len(list) < checkpoint.MaxCosigners {
			list = append(list, c)
		}
	})
	for _, c := range list {
		c.beat()
	}
	return &asked{s: s, team: t, size: int64(size), n: len(list), until: time.Now().Add(cosignWithin)}, nil
}

// asked is how many were asked to cosign a checkpoint, and until when they may.
type asked struct {
	s     *Server
	team  *team
	size  int64
	n     int
	until time.Time
}

// answered waits for those who have not answered yet, and stores what came.
func (a *asked) answered(ctx context.Context) error {
	if a.n > 0 {
		within, cancel := context.WithDeadline(ctx, a.until)
		defer cancel()
		a.team.cosigned.await(within, a.size, a.n)
	}
	return a.s.storeCosigned(ctx, a.team)
}
