package store

import (
	"context"
	"fmt"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/export"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
)

// The methods in this file are what package audit's log and export stand on.
// Nobody else should call them: they know nothing of trees and signatures.

// AuditExtend makes room for n more entries and returns how many there were. It
// holds the team's row until the transaction ends, so entries have one order.
func (t *Tx) AuditExtend(n int64) (int64, error) {
	var size int64
	ok, err := t.row("extending the log", extendAudit, []any{t.id, n}, &size)
	if err == nil && !ok {
		err = refusal.New(refusal.NotFound, "no such team")
	}
	return size - n, err
}

// AuditSize returns how many entries the log has.
func (t *Tx) AuditSize() (int64, error) {
	var size int64
	ok, err := t.row("reading the log's size", selectAuditSize, []any{t.id}, &size)
	if err == nil && !ok {
		err = refusal.New(refusal.NotFound, "no such team")
	}
	return size, err
}

// PutAuditEntry stores the entry at index, under AuditExtend's lock.
func (t *Tx) PutAuditEntry(index int64, id wire.Nonce, entry statement.Signed) error {
	_, err := t.exec("storing a log entry", insertAuditEntry, t.id, index, id[:], bytesOf(entry))
	return err
}

// AuditEntries returns the entries from index from up to, not including, to.
func (t *Tx) AuditEntries(from, to int64) ([]statement.Signed, error) {
	var list []statement.Signed
	err := t.rows("reading log entries", selectAuditRange, []any{t.id, from, to}, func(scan func(...any) error) error {
		var s statement.Signed
		err := scan((*[]byte)(&s))
		list = append(list, s)
		return err
	})
	return list, err
}

// PutAuditHashes stores tree hashes from index first on.
func (t *Tx) PutAuditHashes(first int64, hashes []key.Hash) error {
	for i, h := range hashes {
		if _, err := t.exec("storing a log hash", insertAuditHash, t.id, first+int64(i), h[:]); err != nil {
			return err
		}
	}
	return nil
}

// AuditHashes returns the tree hashes at the given indexes, all of which exist.
func (t *Tx) AuditHashes(indexes []int64) ([]key.Hash, error) {
	hashes := make([]key.Hash, len(indexes))
	for i, index := range indexes {
		ok, err := t.row("reading a log hash", selectAuditHash, []any{t.id, index}, fixed(hashes[i][:]))
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("reading a log hash: number %d is missing", index)
		}
	}
	return hashes, nil
}

// AuditHead returns the last sequence number and entry hash of one signer's own
// chain, 0 and the zero hash when it has none.
func (t *Tx) AuditHead(signer key.ID) (seq uint64, hash key.Hash, err error) {
	_, err = t.row("reading a chain's head", selectAuditHead, []any{t.id, signer[:]}, &seq, fixed(hash[:]))
	return seq, hash, err
}

// SetAuditHead replaces what AuditHead returns.
func (t *Tx) SetAuditHead(signer key.ID, seq uint64, hash key.Hash) error {
	_, err := t.exec("storing a chain's head", upsertAuditHead, t.id, signer[:], seq, hash[:])
	return err
}

// PutCheckpoint stores the signed checkpoint of one size; a second one of that
// size is an error on whatever node it is tried.
func (t *Tx) PutCheckpoint(size int64, note string) error {
	_, err := t.exec("storing a checkpoint", insertCheckpoint, t.id, size, note)
	return err
}

// LastCheckpoint returns the checkpoint of the largest size, "" without any.
func (t *Tx) LastCheckpoint() (string, error) {
	var note string
	_, err := t.row("reading the last checkpoint", lastCheckpoint, []any{t.id}, &note)
	return note, err
}

// Checkpoints returns up to limit checkpoints of sizes above after, smallest first.
func (t *Tx) Checkpoints(after int64, limit int) ([]string, error) {
	var list []string
	err := t.rows("reading checkpoints", selectCheckpoints, []any{t.id, after, limit}, func(scan func(...any) error) error {
		var note string
		err := scan(&note)
		list = append(list, note)
		return err
	})
	return list, err
}

// AuditIndex returns where the entry with that id stands, if it is there.
func (t *Tx) AuditIndex(id wire.Nonce) (index int64, found bool, err error) {
	found, err = t.row("finding a log entry", selectAuditIndex, []any{t.id, id[:]}, &index)
	return index, found, err
}

// keptCosigned is of how many checkpoints cosignatures are kept, the newest ones: who
// cosigned a newer one has seen that it begins with the older ones. Our choice.
const keptCosigned = 1000

// Cosigned is one cosignature: by whom, and the line of the note.
type Cosigned struct {
	Signer key.ID
	Line   string
}

// PutCosignatures stores cosignatures of the checkpoint of one size, a newer one of
// a signer in the place of an older, and forgets the oldest beyond keep of them.
func (t *Tx) PutCosignatures(size int64, list []Cosigned, now time.Time, keep int) error {
	for _, c := range list {
		if _, err := t.exec("storing a cosignature", upsertCosignature, t.id, size, c.Signer[:], c.Line, wire.At(now)); err != nil {
			return err
		}
	}
	if _, err := t.exec("forgetting cosignatures", trimCosignatures, t.id, size, keep); err != nil {
		return err
	}
	_, err := t.exec("forgetting cosignatures", pruneCosignatures, t.id, keptCosigned-1)
	return err
}

// Cosignatures returns the lines for checkpoints of sizes above after up to last,
// the newest first for each size.
func (t *Tx) Cosignatures(after, last int64) (map[int64][]string, error) {
	lines := map[int64][]string{}
	err := t.rows("reading cosignatures", selectCosignatures, []any{t.id, after, last}, func(scan func(...any) error) error {
		var size int64
		var line string
		err := scan(&size, &line)
		lines[size] = append(lines[size], line)
		return err
	})
	return lines, err
}

// AuditSource is one team's log and what proves it, for an export. Each call is
// a View of its own, so an export of any length holds up nobody.
type AuditSource struct {
	ctx   context.Context
	store *Store
	team  principal.TeamID
}

// AuditSource returns the source of the team's export; it is good while ctx is.
func (s *Store) AuditSource(ctx context.Context, team principal.TeamID) *AuditSource {
	return &AuditSource{ctx: ctx, store: s, team: team}
}

// view runs look and returns what it found.
func view[T any](a *AuditSource, look func(*Tx) (T, error)) (v T, err error) {
	err = a.store.View(a.ctx, a.team, func(t *Tx) error {
		v, err = look(t)
		return err
	})
	return v, err
}

// Root returns the team's root.
func (a *AuditSource) Root() (statement.Signed, error) {
	team, err := view(a, (*Tx).Record)
	return team.Root, err
}

// Rosters returns the versions after from.
func (a *AuditSource) Rosters(from uint64) ([]wire.RosterUpdate, error) {
	return view(a, func(t *Tx) ([]wire.RosterUpdate, error) { return t.RosterUpdates(from) })
}

// Hosts returns up to limit agents by key id, deleted ones too, and the last one's.
func (a *AuditSource) Hosts(after key.ID, limit int) ([]export.Host, key.ID, error) {
	agents, err := view(a, func(t *Tx) ([]Agent, error) { return t.agents(selectAllByKid, t.id, after[:], limit) })
	var hosts []export.Host
	for _, agent := range agents {
		hosts = append(hosts, export.Host{Token: agent.Token, Certificate: agent.Certificate, Registration: agent.Registration})
		after = agent.Kid
	}
	return hosts, after, err
}

// Entries returns the entries from index from up to, not including, to.
func (a *AuditSource) Entries(from, to int64) ([]statement.Signed, error) {
	return view(a, func(t *Tx) ([]statement.Signed, error) { return t.AuditEntries(from, to) })
}

// Checkpoints returns up to limit checkpoints of sizes above after.
func (a *AuditSource) Checkpoints(after int64, limit int) ([]string, error) {
	return view(a, func(t *Tx) ([]string, error) { return t.Checkpoints(after, limit) })
}

// Cosignatures returns the cosignatures of checkpoints of sizes above after up to last.
func (a *AuditSource) Cosignatures(after, last int64) (map[int64][]string, error) {
	return view(a, func(t *Tx) (map[int64][]string, error) { return t.Cosignatures(after, last) })
}

// LastCheckpoint returns the checkpoint of the largest size, "" without any.
func (a *AuditSource) LastCheckpoint() (string, error) { return view(a, (*Tx).LastCheckpoint) }

// Approval returns the approval with that hash, nil when it is not there.
func (a *AuditSource) Approval(hash key.Hash) (statement.Signed, error) {
	return view(a, func(t *Tx) (s statement.Signed, err error) {
		_, err = t.row("reading an approval", selectApprovalByHash, []any{t.id, hash[:]}, (*[]byte)(&s))
		return s, err
	})
}
