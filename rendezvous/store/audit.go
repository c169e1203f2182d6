package store

import (
	"fmt"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// The methods in this file are what package audit's log stands on. Nobody else
// should call them: they know nothing of trees and signatures.

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

// PutAuditEntry stores the entry at index, whose room AuditExtend made.
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
