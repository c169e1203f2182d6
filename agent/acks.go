package agent

import (
	"sync"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// delivery is how far the server of this connection is with the agent's chain.
type delivery struct {
	mu      sync.Mutex
	sent    uint64 // guarded by mu: last entry of the batch under way
	claimed uint64 // guarded by mu: entry up to which the server says, without proof, that it has them; 0 after a proof
	fork    error  // guarded by mu: see Agent.forked; nil while there is none
}

func (d *delivery) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sent, d.claimed = 0, 0
}

func (d *delivery) sending(seq uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sent = seq
}

// claim reports whether a server that has the chain up to seq has the batch under way.
func (d *delivery) claim(seq uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.claimed = seq
	return seq >= d.sent
}

func (d *delivery) unproven() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.claimed
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
		a.delivery.claim(0)
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
