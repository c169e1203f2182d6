// Package tree is the Merkle tree of the log: RFC 6962 hashing, the proofs that an
// entry is in a tree and that one tree begins with another, and the tiles in which
// a whole tree is written down (C2SP tlog-tiles).
//
// The hashes of leaves and of complete subtrees are stored in the order in which
// they become known, as golang.org/x/mod/sumdb/tlog numbers them. What comes from a
// peer is sizes and hashes; no value of either makes a function here panic
// (attack N11).
//
// Source: protocol 5.1.
package tree

import (
	"crypto/sha256"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// MaxSize is the largest number of entries that a log may have. Our choice: it
// keeps every index of the tree far below 2^63.
const MaxSize = 1 << 48

// maxProof is how many hashes a proof can have: two per level of the tree.
const maxProof = 2 * 64

// Head is one state of a log.
type Head struct {
	Size int64    // entries, 1 to MaxSize
	Root key.Hash // of the tree over all of them
}

// Reader returns stored hashes by their numbers, all of which exist.
type Reader interface {
	// AuditHashes returns one hash for each index, in that order, or an error.
	AuditHashes(indexes []int64) ([]key.Hash, error)
}

// hashes lets the library read from r. Within one proof, and between proofs made
// through the same value, no hash is asked for twice: on a database over a network
// each costs a round trip.
type hashes struct {
	from  Reader
	known map[int64]tlog.Hash
}

func reading(r Reader) hashes { return hashes{r, map[int64]tlog.Hash{}} }

// ReadHashes implements tlog.HashReader.
func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var missing []int64
	for _, i := range indexes {
		if _, ok := h.known[i]; !ok {
			missing = append(missing, i)
		}
	}
	list, err := h.from.AuditHashes(missing)
	if err != nil {
		return nil, err
	}
	for n, i := range missing {
		h.known[i] = tlog.Hash(list[n])
	}
	out := make([]tlog.Hash, len(indexes))
	for n, i := range indexes {
		out[n] = h.known[i]
	}
	return out, nil
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

// Leaf is the hash of an entry as it is stored.
func Leaf(entry []byte) key.Hash { return key.Hash(tlog.RecordHash(entry)) }

// Grow returns the hashes that entry number index completes, and the number of the
// first of them.
func Grow(r Reader, index int64, entry []byte) (first int64, list []key.Hash, err error) {
	h, err := tlog.StoredHashes(index, entry, reading(r))
	return tlog.StoredHashIndex(0, index), toKeys(h), err
}

// HeadOf returns the head of the first size entries.
func HeadOf(r Reader, size int64) (Head, error) {
	root, err := tlog.TreeHash(size, reading(r))
	if err != nil {
		return Head{}, fmt.Errorf("reading the log's root: %w", err)
	}
	return Head{size, key.Hash(root)}, nil
}

// Frontier is the right edge of a growing tree: enough to add entries and to know
// the root, in logarithmic memory. The zero value is the empty tree.
type Frontier struct {
	size  int64
	nodes []tlog.Hash // roots of the complete subtrees, largest first
}

// Size returns the number of leaves.
func (f *Frontier) Size() int64 { return f.size }

// Add appends a leaf.
func (f *Frontier) Add(leaf key.Hash) {
	f.nodes = append(f.nodes, tlog.Hash(leaf))
	for n := f.size; n&1 == 1; n >>= 1 {
		last := len(f.nodes) - 1
		f.nodes[last-1] = tlog.NodeHash(f.nodes[last-1], f.nodes[last])
		f.nodes = f.nodes[:last]
	}
	f.size++
}

// Root returns the hash of the tree.
func (f *Frontier) Root() key.Hash {
	if f.size == 0 {
		return sha256.Sum256(nil) // RFC 6962, 2.1: the hash of an empty list
	}
	h := f.nodes[len(f.nodes)-1]
	for i := len(f.nodes) - 2; i >= 0; i-- {
		h = tlog.NodeHash(f.nodes[i], h)
	}
	return key.Hash(h)
}

// CheckConsistency verifies that the log of newer begins with all of older. The
// heads come from checkpoints, the proof from whoever wants to be believed.
// Refusal: audit_fork.
func CheckConsistency(older, newer Head, proof []key.Hash) error {
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

// ProveConsistency returns the proof for CheckConsistency, for a log of at least
// newer entries; none is needed between equal sizes.
func ProveConsistency(r Reader, older, newer int64) ([]key.Hash, error) {
	if older < 1 || older > newer || newer > MaxSize {
		return nil, refusal.New(refusal.AuditFork, "the log has %d entries and had %d", newer, older)
	}
	if older == newer {
		return nil, nil
	}
	proof, err := tlog.ProveTree(newer, older, reading(r))
	if err != nil {
		return nil, fmt.Errorf("proving that %d entries begin with %d: %w", newer, older, err)
	}
	return toKeys(proof), nil
}

// CheckInclusion verifies that entry, as it is stored, is number index of the log
// at head. Refusal: audit_fork.
func CheckInclusion(head Head, index int64, entry []byte, proof []key.Hash) error {
	if index < 0 || index >= head.Size || head.Size > MaxSize || len(proof) > maxProof ||
		tlog.CheckRecord(toTree(proof), head.Size, tlog.Hash(head.Root), index, tlog.RecordHash(entry)) != nil {
		return refusal.New(refusal.AuditFork, "the log of %d entries does not hold this entry at %d", head.Size, index)
	}
	return nil
}

// ProveInclusion returns the proofs for CheckInclusion of several entries in the
// log of the first size, which the log has. Refusal: not_found.
func ProveInclusion(r Reader, size int64, indexes ...int64) ([][]key.Hash, error) {
	from := reading(r)
	proofs := make([][]key.Hash, len(indexes))
	for n, index := range indexes {
		if index < 0 || index >= size || size > MaxSize {
			return nil, refusal.New(refusal.NotFound, "no such entry")
		}
		proof, err := tlog.ProveRecord(size, index, from)
		if err != nil {
			return nil, fmt.Errorf("proving entry %d of %d: %w", index, size, err)
		}
		proofs[n] = toKeys(proof)
	}
	return proofs, nil
}
