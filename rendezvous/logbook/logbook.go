// Package logbook is a team's audit log as one process of the server writes it:
// entries, each in the transaction of what it records, checkpoints over them, and
// the cosignatures of those who were shown a checkpoint.
//
// What an entry says is up to whoever records it, what is signed and chained to
// package ledger, and where all of it lies to the store. Here it is decided when a
// checkpoint is due: at most one a second for each log that grew, and one at once for
// whoever asks, so that nobody finds what he did uncovered (protocol 5).
package logbook

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/ledger"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

// Log is one team's log. name, where a method takes it, is the server's in the
// team's roster: the first part of the log's origin, which never changes. All methods
// are safe for concurrent use.
type Log struct {
	db   *store.Store
	key  key.Private[key.Audit]
	log  *slog.Logger
	team principal.TeamID

	grew    atomic.Bool // there are entries that no checkpoint of ours covers
	sealing sync.Mutex  // serialises checkpoints; held across the database on purpose, the next one has to wait for it

	cosigned cosigners
	storing  sync.Mutex // serialises what writes them; held across the database on purpose, as sealing is
}

// New returns the log of a team, whose last entry may have no checkpoint yet.
func New(db *store.Store, k key.Private[key.Audit], log *slog.Logger, team principal.TeamID) *Log {
	l := &Log{db: db, key: k, log: log, team: team}
	l.grew.Store(true)
	return l
}

// Record appends one entry of the server's to the log of tx's team, in the
// transaction of what it records. It comes last in there, because it holds the log's
// lock. For a team that is only being founded; others have a Log, which has to know.
func Record(tx *store.Tx, k key.Private[key.Audit], state chain.State, e entry.Entry) error {
	l, err := ledger.New(state.Name, tx.Team().Wire(), k)
	if err != nil {
		return err
	}
	e.RosterVersion = state.Roster.Version()
	_, err = l.Record(tx, e)
	return err
}

// Record is the function Record for the team of l.
func (l *Log) Record(tx *store.Tx, state chain.State, e entry.Entry) error {
	err := Record(tx, l.key, state, e)
	l.grew.Store(true)
	return err
}

// Ledger returns what signs this log, and checks what agents add to it.
func (l *Log) Ledger(name string) (*ledger.Log, error) {
	return ledger.New(name, l.team.Wire(), l.key)
}

// Accept appends an agent's own entries, and remembers which sessions they say are
// over. The errors are ledger.Log.Accept's.
func (l *Log) Accept(ctx context.Context, name string, agent key.Public[key.Agent], entries []statement.Signed) error {
	book, err := l.Ledger(name)
	if err != nil {
		return err
	}
	err = l.db.InTx(ctx, l.team, func(tx *store.Tx) error {
		if _, err := book.Accept(tx, agent, entries); err != nil {
			return err
		}
		return noteEnds(tx, agent.ID(), entries, time.Now())
	})
	if err == nil {
		l.grew.Store(true)
	}
	return err
}

// Acknowledge returns the proof that the log holds an agent's entries, under a
// checkpoint that covers them and extends the one of size from. The caller has
// sealed the log after it took them.
func (l *Log) Acknowledge(ctx context.Context, name string, agent key.ID, entries []statement.Signed, from uint64) (ack wire.AuditAck, err error) {
	book, err := l.Ledger(name)
	if err != nil {
		return ack, err
	}
	err = l.db.View(ctx, l.team, func(tx *store.Tx) (err error) {
		ack, err = book.Acknowledge(tx, agent, entries, int64(min(from, tree.MaxSize)))
		return err
	})
	return ack, err
}

// Gossip returns the newest checkpoint, the proof that it extends the one of size
// from, and its size; zero values while there is none.
func (l *Log) Gossip(ctx context.Context, name string, from uint64) (g wire.AuditGossip, size uint64, err error) {
	book, err := l.Ledger(name)
	if err != nil {
		return g, 0, err
	}
	err = l.db.View(ctx, l.team, func(tx *store.Tx) error {
		g, err = book.Gossip(tx, int64(min(from, tree.MaxSize)))
		return err
	})
	if err != nil || g.Checkpoint == "" {
		return g, 0, err
	}
	c, _, err := checkpoint.Open(g.Checkpoint, book.Origin(), l.key.Public())
	return g, uint64(c.Size), err
}

// Seal signs a checkpoint if the log grew since the last one. One at a time: who
// finds that nothing grew must not return while another still signs what did.
func (l *Log) Seal(ctx context.Context, name string) error {
	l.sealing.Lock()
	defer l.sealing.Unlock()
	if err := l.StoreCosigned(ctx); err != nil { // those who cosigned will be asked again
		l.log.Warn("storing cosignatures", "team", l.team.String(), "err", err)
	}
	if !l.grew.Swap(false) {
		return nil
	}
	book, err := l.Ledger(name)
	if err != nil {
		return err
	}
	err = l.db.InTx(ctx, l.team, func(tx *store.Tx) error {
		_, err := book.Checkpoint(tx)
		return err
	})
	if err != nil {
		l.grew.Store(true)
	}
	return err
}

// noteEnds remembers which of an agent's entries, all of them verified, say that a
// session is over.
func noteEnds(tx *store.Tx, agent key.ID, entries []statement.Signed, now time.Time) error {
	for _, s := range entries {
		e := entry.Peek(s)
		end := store.End{Agent: agent, Seq: e.Seq, Entry: e.ID}
		switch e.Type {
		case entry.SessionEnd:
			end.Session, end.Operator = e.Session, e.Actor.Kid
		case entry.AgentStart:
		default:
			continue
		}
		if err := tx.PutEnd(end, now); err != nil {
			return err
		}
	}
	return nil
}
