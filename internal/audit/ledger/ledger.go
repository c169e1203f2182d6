// Package ledger is the log at the rendezvous: it appends what the server says of
// itself and what agents hand in, signs checkpoints, and proves what they hold.
//
// Source: protocol 5.1, 5.2, 5.3.
package ledger

import (
	"fmt"
	"slices"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Tx is the transaction of one team's database that the log stands on, the same
// one in which the recorded change is made.
type Tx interface {
	// AuditExtend makes room for n entries, locks the log's end until the
	// transaction is over, and returns the size before.
	AuditExtend(n int64) (size int64, err error)
	// AuditSize returns the size without locking anything.
	AuditSize() (int64, error)
	// PutAuditEntry stores an entry at an index, under AuditExtend's lock.
	PutAuditEntry(index int64, id wire.Nonce, entry statement.Signed) error
	// PutAuditHashes stores tree hashes from index first on.
	PutAuditHashes(first int64, hashes []key.Hash) error
	// AuditHashes returns the tree hashes at these indexes, all of which exist.
	AuditHashes(indexes []int64) ([]key.Hash, error)
	// AuditHead returns the end of one signer's own chain, zero without any.
	AuditHead(signer key.ID) (seq uint64, hash key.Hash, err error)
	// SetAuditHead replaces it.
	SetAuditHead(signer key.ID, seq uint64, hash key.Hash) error
	// PutCheckpoint stores the checkpoint of a size that has none.
	PutCheckpoint(size int64, note string) error
	// LastCheckpoint returns the checkpoint of the largest size, "" without any.
	LastCheckpoint() (string, error)
	// AuditIndex returns where the entry with that id stands, if it is there.
	AuditIndex(id wire.Nonce) (index int64, found bool, err error)
}

// Log is one team's log at the rendezvous. It holds no state of its own, so any
// number of nodes may have one; the database puts their entries in order.
type Log struct {
	origin string
	team   wire.TeamID
	signer key.Private[key.Audit]
	keys   []key.Public[key.Audit]
}

// New returns the log of a team on the rendezvous called server in the
// roster. former are audit keys that this log's earlier checkpoints may be
// signed with.
func New(server string, team wire.TeamID, signer key.Private[key.Audit], former ...key.Public[key.Audit]) (*Log, error) {
	l := &Log{origin: checkpoint.Origin(server, team), team: team, signer: signer}
	if server == "" || !checkpoint.ValidOrigin(l.origin) || signer.IsZero() {
		return nil, fmt.Errorf("opening a log: %q cannot be the name of a log, or the key is missing", l.origin)
	}
	l.keys = append([]key.Public[key.Audit]{signer.Public()}, former...)
	return l, nil
}

// Origin returns the log's name.
func (l *Log) Origin() string { return l.origin }

// Keys returns the keys that its checkpoints are signed with, the present one first.
func (l *Log) Keys() []key.Public[key.Audit] { return slices.Clone(l.keys) }

// Record redacts, signs and appends an entry of the rendezvous' own and returns
// its index. It comes last in a transaction, because it holds the lock that
// every other change of the team waits for.
func (l *Log) Record(tx Tx, e entry.Entry) (int64, error) {
	if e.Type.ByAgent() {
		return 0, fmt.Errorf("recording %q: only an agent may say so", e.Type)
	}
	index, err := tx.AuditExtend(1)
	if err != nil {
		return 0, err
	}
	seq, head, err := tx.AuditHead(l.signer.ID())
	if err != nil {
		return 0, err
	}
	e, s, err := entry.Sign(l.signer, e, l.team, seq+1, head)
	if err != nil {
		return 0, err
	}
	if err := put(tx, index, e.ID, s); err != nil {
		return 0, err
	}
	return index, tx.SetAuditHead(l.signer.ID(), e.Seq, s.Hash())
}

// put stores an entry and the tree hashes that it completes.
func put(tx Tx, index int64, id wire.Nonce, s statement.Signed) error {
	first, hashes, err := tree.Grow(tx, index, s)
	if err != nil {
		return err
	}
	if err := tx.PutAuditEntry(index, id, s); err != nil {
		return err
	}
	return tx.PutAuditHashes(first, hashes)
}

// Accept appends an agent's entries and returns up to which of them the log now
// holds. Entries that it holds already are skipped, so an agent may always send
// again. Refusals: gap (an entry is missing before these, attack N3), audit_fork
// (another entry of that number is here), bad_chain, wrong_type, wrong_team,
// too_many and those of statement.Open.
func (l *Log) Accept(tx Tx, agent key.Public[key.Agent], entries []statement.Signed) (uint64, error) {
	if len(entries) > wire.MaxAuditBatch {
		return 0, refusal.New(refusal.TooMany, "%d log entries at once; at most %d", len(entries), wire.MaxAuditBatch)
	}
	size, err := tx.AuditExtend(0) // the lock first: two connections of one agent may race
	if err != nil {
		return 0, err
	}
	seq, head, err := tx.AuditHead(agent.ID())
	if err != nil {
		return 0, err
	}
	start := seq
	for _, s := range entries {
		e, err := l.openAgents(agent, s)
		if err != nil {
			return 0, err
		}
		known, err := follows(e, s.Hash(), seq, head)
		if err == nil && known {
			err = holds(tx, e)
		}
		if err != nil {
			return 0, err
		}
		if known {
			continue
		}
		if err := put(tx, size, e.ID, s); err != nil {
			return 0, err
		}
		seq, head, size = e.Seq, s.Hash(), size+1
	}
	if seq == start {
		return seq, nil
	}
	if _, err := tx.AuditExtend(int64(seq - start)); err != nil {
		return 0, err
	}
	return seq, tx.SetAuditHead(agent.ID(), seq, head)
}

func (l *Log) openAgents(agent key.Public[key.Agent], s statement.Signed) (entry.Entry, error) {
	e, _, err := statement.Open[entry.Entry](s, func(kid key.ID) (statement.Verifier, error) {
		if kid != agent.ID() {
			return nil, refusal.New(refusal.UnknownKey, "log entry of another signer")
		}
		return agent, nil
	})
	switch {
	case err != nil:
		return e, err
	case !e.Type.ByAgent():
		return e, refusal.New(refusal.WrongType, "an agent cannot say that")
	case e.Team != l.team:
		return e, refusal.New(refusal.WrongTeam, "log entry of another team")
	}
	return e, nil
}

// follows reports whether e, with that hash, is known already, or refuses it if
// it is not the next one after seq and head.
func follows(e entry.Entry, hash key.Hash, seq uint64, head key.Hash) (known bool, err error) {
	switch {
	case e.Seq == 0 || e.Seq > seq+1:
		return false, refusal.New(refusal.Gap, "log entry %d follows %d: some are missing", e.Seq, seq)
	case e.Seq == seq && hash != head:
		return false, refusal.New(refusal.AuditFork, "there is another log entry %d of this signer", e.Seq)
	case e.Seq <= seq:
		return true, nil
	case e.Previous != head:
		return false, refusal.New(refusal.BadChain, "log entry %d does not name the entry before it", e.Seq)
	}
	return false, nil
}

// holds refuses an entry whose number the log has and which is none of its own. Only
// the last one's hash is kept, and an agent that was set back may begin before it: what
// it writes there would be taken for known, and be in no log.
func holds(tx Tx, e entry.Entry) error {
	_, found, err := tx.AuditIndex(e.ID)
	if err == nil && !found {
		err = refusal.New(refusal.AuditFork, "there is another log entry %d of this signer", e.Seq)
	}
	return err
}

// Checkpoint signs the log's present state, unless its last checkpoint has that
// size, and returns the newest one, "" for an empty log. The last signed
// checkpoint is read under the log's lock and must be a prefix of what is signed
// now: a database that was set back or altered gets no second signature for one
// size (protocol 5.1). The note must not leave before the transaction committed.
func (l *Log) Checkpoint(tx Tx) (string, error) {
	size, err := tx.AuditExtend(0)
	if err != nil || size == 0 {
		return "", err
	}
	signed, err := tx.LastCheckpoint()
	if err != nil {
		return "", err
	}
	var last checkpoint.Checkpoint
	if signed != "" {
		if last, _, err = checkpoint.Open(signed, l.origin, l.keys...); err != nil {
			return "", fmt.Errorf("reading the last checkpoint: %w", err)
		}
		if last.Size == size {
			return signed, l.unchanged(tx, last)
		}
	}
	return l.signNext(tx, last, size)
}

// unchanged looks whether the tree still has the root that was signed.
func (l *Log) unchanged(tx Tx, last checkpoint.Checkpoint) error {
	now, err := tree.HeadOf(tx, last.Size)
	if err != nil {
		return err
	}
	return tree.CheckConsistency(last.Head, now, nil)
}

func (l *Log) signNext(tx Tx, last checkpoint.Checkpoint, size int64) (string, error) {
	head, err := tree.HeadOf(tx, size)
	if err != nil {
		return "", err
	}
	next := checkpoint.Checkpoint{Origin: l.origin, Head: head}
	if last.Size != 0 {
		proof, err := tree.ProveConsistency(tx, last.Size, size)
		if err != nil {
			return "", err
		}
		if err := tree.CheckConsistency(last.Head, next.Head, proof); err != nil {
			return "", err
		}
	}
	signed, err := checkpoint.Sign(next, l.signer)
	if err != nil {
		return "", err
	}
	return signed, tx.PutCheckpoint(size, signed)
}

// Gossip returns the newest checkpoint for somebody who last saw the one of
// size from (0 for never), with the proof that it extends that one; also when
// nothing is new, since the same size with another root is news of the worst
// kind. from comes from a client; a size that the log never had gets the
// checkpoint alone, which the client will call by its name.
func (l *Log) Gossip(tx Tx, from int64) (wire.AuditGossip, error) {
	signed, err := tx.LastCheckpoint()
	if err != nil || signed == "" {
		return wire.AuditGossip{}, err
	}
	c, _, err := checkpoint.Open(signed, l.origin, l.keys...)
	if err != nil {
		return wire.AuditGossip{}, fmt.Errorf("reading the last checkpoint: %w", err)
	}
	g := wire.AuditGossip{Checkpoint: signed}
	if from > 0 && from < c.Size {
		g.Consistency, err = tree.ProveConsistency(tx, from, c.Size)
	}
	return g, err
}

// Acknowledge proves to an agent, which last saw the checkpoint of size from, that
// the log holds the entries it has just sent, as many of them as the newest
// checkpoint covers. They come from its own hand: what Accept would refuse is not
// found, and not proven.
func (l *Log) Acknowledge(tx Tx, agent key.ID, entries []statement.Signed, from int64) (ack wire.AuditAck, err error) {
	if ack.Seq, _, err = tx.AuditHead(agent); err != nil || len(entries) == 0 || len(entries) > wire.MaxAuditBatch {
		return ack, err
	}
	if ack.Checkpoint, err = l.Gossip(tx, from); err != nil || ack.Checkpoint.Checkpoint == "" {
		return ack, err
	}
	c, err := checkpoint.Peek(ack.Checkpoint.Checkpoint) // verified in Gossip
	if err != nil {
		return ack, err
	}
	indexes, err := places(tx, entries, c.Size)
	if err != nil {
		return ack, err
	}
	paths, err := tree.ProveInclusion(tx, c.Size, indexes...)
	if err != nil {
		return ack, err
	}
	ack.First = entry.Peek(entries[0]).Seq
	for i, path := range paths {
		ack.Proofs = append(ack.Proofs, wire.Inclusion{Index: indexes[i], Path: path})
	}
	return ack, nil
}

// places finds entries in the log of size, up to the first that is not there.
func places(tx Tx, entries []statement.Signed, size int64) (list []int64, err error) {
	for _, s := range entries {
		index, found, err := tx.AuditIndex(entry.Peek(s).ID)
		if err != nil || !found || index >= size {
			return list, err
		}
		list = append(list, index)
	}
	return list, nil
}
