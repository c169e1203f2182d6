package agent

import (
	"slices"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// delivery is how far the server of this connection is with the agent's chain.
type delivery struct {
	mu       sync.Mutex
	underway []uint64  // guarded by mu: last entries of the batches without an answer, oldest first, at most window
	claimed  uint64    // guarded by mu: entry up to which the server says, without proof, that it has them; 0 after a proof
	moved    time.Time // guarded by mu: of the last proof, or of the first batch after nothing was under way
	fork     error     // guarded by mu: see Agent.forked; nil while there is none
}

// begin forgets what was sent: all that is not proven is to be sent again.
func (d *delivery) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.underway, d.claimed = nil, 0
}

// next returns behind which entry the next batch begins, if it is not proven, and how
// many batches are under way.
func (d *delivery) next() (after uint64, underway int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.underway); n > 0 {
		return max(d.claimed, d.underway[n-1]), n
	}
	return d.claimed, 0
}

// sending notes a batch that ends with entry last.
func (d *delivery) sending(last uint64, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.underway) == 0 && d.claimed == 0 {
		d.moved = now
	}
	d.underway = append(d.underway, last)
}

// patience returns how long to wait for a proof before all that has none is sent again,
// and whether there is something that could be proven.
func (d *delivery) patience(now time.Time) (left time.Duration, waits bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.underway) == 0 && d.claimed == 0 {
		return ackLimit, false
	}
	return d.moved.Add(ackLimit).Sub(now), true
}

// proved notes that the log holds the entries up to seq.
func (d *delivery) proved(seq uint64, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.claimed, d.moved = 0, now
	d.answeredLocked(seq)
}

// claim notes that the server says that it has the chain up to seq, and reports whether
// that has a batch in it that is under way.
func (d *delivery) claim(seq uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := len(d.underway)
	d.answeredLocked(seq)
	if len(d.underway) == before {
		return false
	}
	d.claimed = seq
	return true
}

func (d *delivery) answeredLocked(seq uint64) {
	d.underway = slices.DeleteFunc(d.underway, func(last uint64) bool { return last <= seq })
}

// forks says why the team's log and this agent's own do not go together, nil while they do.
func (d *delivery) forks() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fork
}

// forked notes that the log holds other entries of this agent than it has itself, so
// that nothing it writes from here on arrives there. Until the program ends: a claim
// that was too high looks right once enough was written, and the fork is still there.
func (a *Agent) forked(err error) {
	a.log.Error("the server and this agent disagree on this agent's own log: was its disk set back or cloned?", "err", err)
	a.delivery.mu.Lock()
	a.delivery.fork = err
	a.delivery.mu.Unlock()
	a.publish()
}

// claimed hears up to which entry the server says that it has the agent's chain.
func (a *Agent) claimed(seq uint64) bool {
	err := a.spool.Claimed(seq)
	if err != nil {
		a.forked(err)
	}
	return err == nil
}

// acked takes the proofs that the log holds entries of this agent; without them the
// entries stay (protocol 5.2). The checkpoint is taken before the claim is looked at: the
// proof that comes with the next one begins there, also when this disk was set back.
func (a *Agent) acked(k wire.AuditAck) {
	proved, fits := a.proved(k), a.claimed(k.Seq)
	if proved {
		a.delivery.proved(k.First+uint64(len(k.Proofs))-1, time.Now())
		_ = a.recordStarted() // there may be room for it now
	} else if !fits || !a.delivery.claim(k.Seq) {
		return // it lacks what came before these: sent again at once they would be refused again
	}
	poke(a.acks)
}

// proved reports whether entries could be forgotten. A proof that does not hold under
// a checkpoint that does is a lie that the server has signed one half of: nothing is
// forgotten, and no session begins here any more.
func (a *Agent) proved(k wire.AuditAck) bool {
	c, verified := a.gossip.Take(k.Checkpoint)
	if len(k.Proofs) == 0 {
		return false
	}
	if !verified {
		a.log.Warn("the server proves log entries under a checkpoint that is not verified; they are kept")
		return false
	}
	n, err := a.spool.Proved(c.Head, k.First, k.Proofs)
	switch {
	case refusal.Of(err) == refusal.AuditFork:
		a.log.Error("the server lies about what its log holds", "err", err)
		a.gossip.Accuse(k, err)
		a.publish()
	case err != nil:
		a.log.Error("removing proven entries from the audit log", "err", err)
	}
	return n > 0
}
