package logbook

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

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

// StoreCosigned writes the cosignatures that have come since the last time. One at a
// time: who finds that none have come must not return while another still writes them,
// or an export would read the database before they are there.
func (l *Log) StoreCosigned(ctx context.Context) error {
	l.storing.Lock()
	defer l.storing.Unlock()
	size, list := l.cosigned.take()
	if len(list) == 0 {
		return nil
	}
	return l.db.InTx(ctx, l.team, func(tx *store.Tx) error {
		return tx.PutCosignatures(size, list, time.Now(), checkpoint.MaxCosigners)
	})
}

// TakeCosignature keeps signer's cosignature of c until it is stored, if it holds and
// was made just now.
func TakeCosignature[R checkpoint.Cosigner](l *Log, c checkpoint.Checkpoint, line string, signer key.Public[R]) error {
	at, err := checkpoint.CheckCosignature(c, line, signer)
	if err != nil {
		return err
	}
	if d := time.Since(at); d < -wire.RegistrationSkew || d > wire.RegistrationSkew {
		return refusal.New(refusal.BadTime, "a cosignature from another time")
	}
	l.cosigned.add(c.Size, store.Cosigned{Signer: signer.ID(), Line: line})
	return nil
}

// AwaitCosigned returns when n have cosigned the checkpoint of size, or ctx ends.
func (l *Log) AwaitCosigned(ctx context.Context, size int64, n int) {
	l.cosigned.await(ctx, size, n)
}
