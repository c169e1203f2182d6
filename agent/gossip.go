package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/agent/trust"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/witness"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// witnesses remember the logs of the team's servers, each log by its origin
// (protocol 5.3). What one server showed says nothing of another's log.
type witnesses struct {
	dir string // set by open

	mu   sync.Mutex
	list map[string]*witness.Witness // guarded by mu
	err  error                       // guarded by mu; of a memory that cannot be read
}

// witnessPath is where the log called origin is remembered.
func witnessPath(dir, origin string) string {
	h := sha256.Sum256([]byte(origin))
	return filepath.Join(dir, witnessPrefix+hex.EncodeToString(h[:8])+".json")
}

// open reads what is remembered of every server in the roster, so that evidence
// against one of them holds from the first moment on.
func (w *witnesses) open(dir string, t *trust.Trust) error {
	w.dir, w.list = dir, map[string]*witness.Witness{}
	for _, s := range t.Roster.Roster().Servers {
		if _, err := w.of(checkpoint.Origin(s.Name, t.Roster.Team())); err != nil {
			return err
		}
	}
	return nil
}

// of returns the memory of one log. A server that is new in the roster gets one when
// it is first met.
func (w *witnesses) of(origin string) (*witness.Witness, error) {
	if known := w.known(origin); known != nil {
		return known, nil
	}
	opened, err := witness.Open(witnessPath(w.dir, origin), origin) // without the lock: a disk may be slow
	w.mu.Lock()
	defer w.mu.Unlock()
	if known := w.list[origin]; known != nil { // another was faster, and its memory may be newer by now
		return known, nil
	}
	if w.err = err; err != nil {
		return nil, err
	}
	w.list[origin] = opened
	return opened, nil
}

func (w *witnesses) known(origin string) *witness.Witness {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.list[origin]
}

// Err returns why no session may begin: there is evidence against a server of this
// team, or nobody can say whether there is.
func (w *witnesses) Err() error {
	w.mu.Lock()
	err, list := w.err, slices.Collect(maps.Values(w.list))
	w.mu.Unlock()
	for _, known := range list {
		err = errors.Join(err, known.Err())
	}
	if err != nil && refusal.Of(err) == "" {
		return refusal.New(refusal.AuditFork, "what was seen of a server's log cannot be read")
	}
	return err
}

// shownLog is the log that this connection's server shows, and its size when it was
// last known to have been shown; the server's next proof starts there.
type shownLog struct {
	mu       sync.Mutex
	server   key.ID // guarded by mu
	size     int64  // guarded by mu
	cosigned int64  // guarded by mu: size of the checkpoint that was cosigned last
	sent     uint64 // guarded by mu: last entry of the batch under way
	claimed  uint64 // guarded by mu: entry up to which the server says, without proof, that it has them; 0 after a proof
}

func (s *shownLog) begin(server key.ID, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server, s.size, s.cosigned, s.sent, s.claimed = server, size, 0, 0, 0
}

func (s *shownLog) sending(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = seq
}

// claim reports whether a server that has the chain up to seq has the batch under way.
func (s *shownLog) claim(seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claimed = seq
	return seq >= s.sent
}

func (s *shownLog) unproven() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claimed
}

func (s *shownLog) set(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size = size
}

func (s *shownLog) is(size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size == size
}

// seenLog returns the memory of the log on this connection and the key that signs it.
func (a *Agent) seenLog() (*witness.Witness, string, key.Public[key.Audit], error) {
	a.shown.mu.Lock()
	access := a.shown.server
	a.shown.mu.Unlock()
	t, _ := a.keeper.Get()
	server, err := t.Roster.Server(access)
	if err != nil {
		return nil, "", key.Public[key.Audit]{}, err // not in the roster any more: nothing it shows would be believed
	}
	origin := checkpoint.Origin(server.Name, t.Roster.Team())
	w, err := a.witness.of(origin)
	return w, origin, server.Keys.Audit, err
}

// beginLog says which size of its log the server will be told to have been seen
// here, at the begin of a connection to it.
func (a *Agent) beginLog(server key.ID) (size int64) {
	a.shown.begin(server, 0)
	w, _, _, err := a.seenLog()
	if err != nil {
		return 0
	}
	size = w.Size()
	a.shown.begin(server, size)
	return size
}

// gossip takes a checkpoint of the team's log (protocol 5.3), and returns it when it
// is verified and remembered. The server knows from registration what was seen here,
// so a newer one without a proof is as bad as one with a wrong proof. Only when this
// side could not store what it was shown does the next proof start elsewhere; then
// the next connection sorts it out.
func (a *Agent) gossip(g wire.AuditGossip) (c checkpoint.Checkpoint, verified bool) {
	if g.Checkpoint == "" {
		return c, false
	}
	w, origin, by, err := a.seenLog()
	if err != nil {
		return c, false
	}
	if c, _, err = checkpoint.Open(g.Checkpoint, origin, by); err != nil {
		a.log.Warn("the server showed a checkpoint that is not signed rightly", "err", err)
		return c, false
	}
	known := w.Size()
	if known > 0 && c.Size > known && !a.shown.is(known) {
		a.shown.set(c.Size)
		return c, false
	}
	err = w.Update(g, by)
	a.shown.set(c.Size) // also when it could not be stored: the next proof starts here
	switch {
	case refusal.Of(err) == refusal.AuditFork:
		a.log.Error("the server shows different logs", "err", err)
	case err != nil:
		a.log.Error("storing what the server showed of the log", "err", err)
	}
	return c, err == nil
}

// claimed hears up to which entry the server says that it has the agent's chain.
func (a *Agent) claimed(seq uint64) bool {
	err := a.spool.Claimed(seq)
	if err != nil {
		a.log.Error("the server and this agent disagree on the audit log", "err", err)
	}
	return err == nil
}

// acked takes the proofs that the log holds entries of this agent; without them the
// entries stay (protocol 5.2).
func (a *Agent) acked(k wire.AuditAck) {
	if !a.claimed(k.Seq) {
		return
	}
	if a.proved(k) {
		a.shown.claim(0)
	} else if !a.shown.claim(k.Seq) {
		return // it lacks what came before these: sent again at once they would be refused again
	}
	poke(a.acks)
}

// proved reports whether entries could be forgotten. A proof that does not hold under
// a checkpoint that does is a lie that the server has signed one half of: nothing is
// forgotten, and no session begins here any more.
func (a *Agent) proved(k wire.AuditAck) bool {
	c, verified := a.gossip(k.Checkpoint)
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
		a.accuse(k, err)
	case err != nil:
		a.log.Error("removing proven entries from the audit log", "err", err)
	}
	return n > 0
}

// accuse keeps what the server said, beside the checkpoint that it does not fit to.
func (a *Agent) accuse(k wire.AuditAck, lie error) {
	w, _, _, err := a.seenLog()
	if err != nil {
		return
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%v\nentries from %d on:\n", lie, k.First)
	for _, p := range k.Proofs {
		fmt.Fprintf(&text, "at %d:", p.Index)
		for _, h := range p.Path {
			text.WriteString(" " + h.String())
		}
		text.WriteString("\n")
	}
	if err := w.Accuse(text.String()); err != nil {
		a.log.Error("no session begins here until a person has looked", "err", err)
	}
	a.publish()
}

// cosign says of the newest verified checkpoint that it was seen, once on each
// connection.
func (a *Agent) cosign() wire.Cosignature {
	w, _, _, err := a.seenLog()
	if err != nil {
		return wire.Cosignature{}
	}
	size := w.Size()
	a.shown.mu.Lock()
	done := a.shown.cosigned >= size || a.shown.size != size
	a.shown.mu.Unlock()
	if done {
		return wire.Cosignature{}
	}
	k, err := witness.Cosign(w, a.identity, time.Now())
	if err != nil {
		return wire.Cosignature{} // evidence: it was said when it was found
	}
	a.shown.mu.Lock()
	a.shown.cosigned = k.Size
	a.shown.mu.Unlock()
	return k
}
