package files

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Bounds of a path; our choice, the first that of Linux.
const (
	maxPath  = 4096
	maxLinks = 40
)

// errOutside is the answer to every path outside, whether there is something or not.
var errOutside = refusal.New(refusal.BadPath, "it is outside the folders that the policy names, or a link leads there")

const sep = string(filepath.Separator)

// Tree is the folders that copies in one direction may touch.
type Tree struct {
	roots []root
	names []string // of all, whether they are there or not; absolute and clean, none for everything
}

// root is one of them.
type root struct {
	path string // absolute and clean
	in   folder
}

// folder is what can be done below a folder; names are relative to it. *os.Root is
// one, and whole the other.
type folder interface {
	OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error)
	Stat(name string) (fs.FileInfo, error)
	Lstat(name string) (fs.FileInfo, error)
	Readlink(name string) (string, error)
	Mkdir(name string, perm fs.FileMode) error
	Remove(name string) error
	Rename(old, to string) error
	Link(old, to string) error
	Symlink(target, name string) error
	Chmod(name string, mode fs.FileMode) error
	Chtimes(name string, atime, mtime time.Time) error
	Close() error
}

// Open opens the folders that a policy names, as absolute paths; nil is everything
// that the user may see. Folders that are not there, or not for this user, are left
// out. Without any left there is an error and still a tree: it opens nothing, and
// knows the names that may not be given to something else. Whoever calls it calls
// Close.
func Open(roots []string) (*Tree, error) {
	t := &Tree{}
	for _, path := range roots {
		t.names = append(t.names, filepath.Clean(path))
	}
	if roots == nil || slices.Contains(t.names, top) {
		return &Tree{roots: []root{{top, whole{}}}}, nil
	}
	slices.SortStableFunc(t.names, func(a, b string) int { return cmp.Compare(strings.Count(a, sep), strings.Count(b, sep)) })
	for _, path := range t.names { // the outer before the inner
		if in, err := t.enter(path); err == nil {
			t.roots = append(t.roots, root{path, in})
		}
	}
	if len(t.roots) == 0 {
		return t, refusal.New(refusal.BadPath, "none of the folders that the policy names can be opened by this user")
	}
	return t, nil
}

// enter opens a folder, from the one that it lies in if that is open: what can be put
// at its name through that one cannot lead out of it then (attack I3).
func (t *Tree) enter(path string) (*os.Root, error) {
	if p, ok := t.holding(path); ok {
		if outer, is := p.in.(*os.Root); is {
			return outer.OpenRoot(p.rel)
		}
	}
	return os.OpenRoot(path)
}

// Close closes them. It may be called more than once, and of no tree.
func (t *Tree) Close() {
	if t == nil {
		return
	}
	for _, r := range t.roots {
		_ = r.in.Close()
	}
}

// empty reports that it opens nothing; no tree does neither.
func (t *Tree) empty() bool { return t == nil || len(t.roots) == 0 }

// place is one path of a tree.
type place struct {
	root
	rel string // below the root
	abs string // the same from the top
}

// rel is what path is below r.
func (r root) rel(path string) (rel string, ok bool) {
	if r.in == (whole{}) {
		return path, true
	}
	if path == r.path {
		return ".", true
	}
	return strings.CutPrefix(path, r.path+sep)
}

// holding finds the innermost root that a clean path lies in.
func (t *Tree) holding(path string) (best place, ok bool) {
	for _, r := range t.roots {
		if rel, in := r.rel(path); in && (!ok || len(r.path) > len(best.path)) {
			best, ok = place{r, rel, path}, true
		}
	}
	return best, ok
}

// holds reports whether a path lies in the tree, by its name alone.
func (t *Tree) holds(path string) bool {
	_, ok := t.holding(filepath.Clean(path))
	return ok
}

// find says where a path leads. Links on the way are followed as long as they stay
// in the tree, the last element's only with follow. What changes between this and
// the use is caught by os.Root, which then refuses.
func (t *Tree) find(path string, follow bool) (place, error) {
	if len(path) > maxPath || strings.IndexByte(path, 0) >= 0 || !filepath.IsAbs(path) {
		return place{}, refusal.New(refusal.BadPath, "a path has at most %d bytes and no zero byte", maxPath)
	}
	path = filepath.Clean(path)
	for range maxLinks {
		p, ok := t.holding(path)
		if !ok {
			return place{}, errOutside
		}
		if p.in == (whole{}) { // the system follows links
			return p, nil
		}
		next, linked := p.firstLink(follow)
		if !linked {
			return p, nil
		}
		path = next
	}
	return place{}, refusal.New(refusal.BadPath, "too many links lead to one another")
}

// firstLink is what a path becomes by its first link. What cannot be looked at is
// none; the use will fail on it.
func (p place) firstLink(follow bool) (next string, linked bool) {
	parts := strings.Split(p.rel, sep)
	for i := range parts {
		if i == len(parts)-1 && !follow {
			return "", false
		}
		at := filepath.Join(parts[:i+1]...)
		info, err := p.in.Lstat(at)
		if err != nil {
			return "", false
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		target, err := p.in.Readlink(at)
		if err != nil {
			return "", false
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(p.path, filepath.Dir(at), target)
		}
		return filepath.Join(append([]string{target}, parts[i+1:]...)...), true
	}
	return "", false
}

// together finds a root that both places lie in, for what names two of them.
func (t *Tree) together(a, b place) (in folder, first, second string, err error) {
	for _, r := range t.roots {
		first, inA := r.rel(a.abs)
		if second, inB := r.rel(b.abs); inA && inB {
			return r.in, first, second, nil
		}
	}
	return nil, "", "", refusal.New(refusal.BadPath, "the two paths lie in different folders of the policy")
}
