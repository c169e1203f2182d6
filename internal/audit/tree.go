package audit

import (
	"crypto/sha256"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// maxProof is how many hashes a proof can have: two per level of the tree.
const maxProof = 2 * 64

// frontier is the right edge of a growing tree: enough to add entries and to
// know the root, in logarithmic memory.
type frontier struct {
	size  int64
	nodes []tlog.Hash // roots of the complete subtrees, largest first
}

func (f *frontier) add(leaf tlog.Hash) {
	f.nodes = append(f.nodes, leaf)
	for n := f.size; n&1 == 1; n >>= 1 {
		last := len(f.nodes) - 1
		f.nodes[last-1] = tlog.NodeHash(f.nodes[last-1], f.nodes[last])
		f.nodes = f.nodes[:last]
	}
	f.size++
}

func (f *frontier) root() key.Hash {
	if f.size == 0 {
		return sha256.Sum256(nil) // RFC 6962, 2.1: the hash of an empty list
	}
	h := f.nodes[len(f.nodes)-1]
	for i := len(f.nodes) - 2; i >= 0; i-- {
		h = tlog.NodeHash(f.nodes[i], h)
	}
	return key.Hash(h)
}

// hashReader reads tree hashes by way of a Tx.
func hashReader(tx Tx) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		list, err := tx.AuditHashes(indexes)
		if err != nil {
			return nil, err
		}
		hashes := make([]tlog.Hash, len(list))
		for i, h := range list {
			hashes[i] = tlog.Hash(h)
		}
		return hashes, nil
	})
}

func toKeys(hashes []tlog.Hash) []key.Hash {
	list := make([]key.Hash, len(hashes))
	for i, h := range hashes {
		list[i] = key.Hash(h)
	}
	return list
}

func toTree(hashes []key.Hash) []tlog.Hash {
	list := make([]tlog.Hash, len(hashes))
	for i, h := range hashes {
		list[i] = tlog.Hash(h)
	}
	return list
}

// CheckConsistency verifies that the log of newer begins with all of older. The
// sizes come from checkpoints, the proof from whoever wants to be believed.
func CheckConsistency(older, newer Checkpoint, proof []key.Hash) error {
	bad := refusal.New(refusal.AuditFork, "the log of %d entries does not begin with the %d entries seen before", newer.Size, older.Size)
	switch {
	case older.Size < 1 || newer.Size > MaxSize || older.Size > newer.Size || len(proof) > maxProof:
		return bad
	case older.Size == newer.Size && older.Root != newer.Root:
		return bad
	case older.Size == newer.Size:
		return nil
	}
	if tlog.CheckTree(toTree(proof), newer.Size, tlog.Hash(newer.Root), older.Size, tlog.Hash(older.Root)) != nil {
		return bad
	}
	return nil
}

// CheckInclusion verifies that entry, as it is stored, is number index of the
// checkpoint's log.
func CheckInclusion(c Checkpoint, index int64, entry []byte, proof []key.Hash) error {
	if index < 0 || index >= c.Size || c.Size > MaxSize || len(proof) > maxProof ||
		tlog.CheckRecord(toTree(proof), c.Size, tlog.Hash(c.Root), index, tlog.RecordHash(entry)) != nil {
		return refusal.New(refusal.AuditFork, "the log of %d entries does not hold this entry at %d", c.Size, index)
	}
	return nil
}

// ProveInclusion returns the proof for CheckInclusion in the log of the first
// size entries.
func ProveInclusion(tx Tx, index, size int64) ([]key.Hash, error) {
	have, err := tx.AuditSize()
	if err != nil {
		return nil, err
	}
	if index < 0 || index >= size || size > have {
		return nil, refusal.New(refusal.NotFound, "no such entry")
	}
	proof, err := tlog.ProveRecord(size, index, hashReader(tx))
	if err != nil {
		return nil, fmt.Errorf("proving entry %d of %d: %w", index, size, err)
	}
	return toKeys(proof), nil
}
