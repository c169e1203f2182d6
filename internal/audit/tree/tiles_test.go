package tree

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/tucdesk/tucdesk/crypto/key"
)

// standardPath turns the library's path, which names the height, into that of C2SP.
func standardPath(t tlog.Tile) string {
	return strings.Replace(t.Path(), "tile/8/", "tile/", 1)
}

// shelf is tiles by path, as the library's client wants to read them.
type shelf map[string][]byte

func (s shelf) Height() int { return 8 }

func (s shelf) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var list [][]byte
	for _, t := range tiles {
		data, ok := s[standardPath(t)]
		if !ok {
			return nil, fmt.Errorf("no tile %q", standardPath(t))
		}
		list = append(list, data)
	}
	return list, nil
}

func (s shelf) SaveTiles([]tlog.Tile, [][]byte) {}

// A client that knows nothing but a checkpoint and the tiles proves any entry and any
// older tree with them; it verifies every tile from the root down.
func TestTilesAreReadByAnIndependentClient(t *testing.T) {
	for _, size := range []int64{1, 2, 255, 256, 257, 512, 1000, 70_000} {
		s := shelf{}
		write := func(path string, tile []byte) error {
			if s[path] != nil {
				return fmt.Errorf("%q twice", path)
			}
			s[path] = slices.Clone(tile)
			return nil
		}
		var tiles Tiles
		var f Frontier
		var third key.Hash
		leaf := func(i int64) key.Hash { return Leaf(fmt.Appendf(nil, "entry %d", i)) }
		for i := range size {
			check(t, tiles.Add(leaf(i), write))
			f.Add(leaf(i))
			if i == size/3 {
				third = f.Root()
			}
		}
		check(t, tiles.Finish(write))
		root := tlog.Hash(f.Root())
		r := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, s)
		got, err := tlog.TreeHash(size, r)
		if err != nil || got != root {
			t.Fatalf("size %d: root %v, %v", size, got, err)
		}
		for _, i := range []int64{0, size / 2, size - 1} {
			proof, err := tlog.ProveRecord(size, i, r)
			check(t, err)
			check(t, tlog.CheckRecord(proof, size, root, i, tlog.Hash(leaf(i))))
		}
		proof, err := tlog.ProveTree(size, size/3+1, r)
		check(t, err)
		check(t, tlog.CheckTree(proof, size, root, size/3+1, tlog.Hash(third)))
		for _, want := range tlog.NewTiles(8, 0, size) {
			if s[standardPath(want)] == nil {
				t.Errorf("size %d: no %s", size, standardPath(want))
			}
			delete(s, standardPath(want))
		}
		for path := range s {
			if !strings.Contains(path, ".p/") {
				t.Errorf("size %d: %s is too much", size, path)
			}
		}
	}
}

func TestTilePathsAreTheStandards(t *testing.T) {
	for want, got := range map[string]string{
		"tile/0/000":                 TilePath(0, 0, TileWidth),
		"tile/3/x001/x234/067":       TilePath(3, 1234067, TileWidth),
		"tile/1/x001/000.p/17":       TilePath(1, 1000, 17),
		"tile/entries/x273/999.p/1":  TilePath(EntriesLevel, 273999, 1),
		"tile/entries/x001/x000/000": TilePath(EntriesLevel, 1000000, TileWidth),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
