package tree

import (
	"fmt"

	"github.com/tucdesk/tucdesk/crypto/key"
)

// TileWidth is how many hashes a full tile has, and how many entries a full bundle
// (C2SP tlog-tiles).
const TileWidth = 256

// EntriesLevel stands for the bundles of entries where a level is asked for.
const EntriesLevel = -1

// TilePath is where the n-th tile of a level stands below a log's prefix, with "/"
// between its parts. A width below TileWidth is that of a partial tile.
func TilePath(level int, n int64, width int) string {
	name := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		name = fmt.Sprintf("x%03d/%s", n%1000, name)
	}
	kind := fmt.Sprint(level)
	if level == EntriesLevel {
		kind = "entries"
	}
	if width < TileWidth {
		return fmt.Sprintf("tile/%s/%s.p/%d", kind, name, width)
	}
	return fmt.Sprintf("tile/%s/%s", kind, name)
}

// Tiles makes the hash tiles of a growing tree, with one unfinished tile per level in
// memory. The zero value is the empty tree.
type Tiles struct {
	levels []level
}

type level struct {
	done  int64      // full tiles
	tail  []key.Hash // of the unfinished one
	above Frontier   // over tail: the hash of the full tile, in the end
}

// Add appends a leaf and hands each tile that it completes to write, which must not
// keep the bytes.
func (t *Tiles) Add(leaf key.Hash, write func(path string, tile []byte) error) error {
	for l, h := 0, leaf; ; l++ {
		if l == len(t.levels) {
			t.levels = append(t.levels, level{})
		}
		at := &t.levels[l]
		at.tail = append(at.tail, h)
		at.above.Add(h)
		if len(at.tail) < TileWidth {
			return nil
		}
		if err := write(TilePath(l, at.done, TileWidth), concat(at.tail)); err != nil {
			return err
		}
		h = at.above.Root()
		*at = level{done: at.done + 1, tail: at.tail[:0]}
	}
}

// Finish hands the partial tiles at the right edge to write.
func (t *Tiles) Finish(write func(path string, tile []byte) error) error {
	for l, at := range t.levels {
		if len(at.tail) == 0 {
			continue
		}
		if err := write(TilePath(l, at.done, len(at.tail)), concat(at.tail)); err != nil {
			return err
		}
	}
	return nil
}

func concat(hashes []key.Hash) []byte {
	b := make([]byte, 0, len(hashes)*len(key.Hash{}))
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}
