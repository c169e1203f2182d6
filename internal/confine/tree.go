// Package confine keeps whoever copies files inside the folders that a policy names. SFTP
// and copies of our own go through the same one.
//
// A folder of the policy is opened once, at the beginning, and only where it really is: a
// link on the way to it, other than one in the root of the disk, opens nothing, because who
// may write in an outer folder could have put it there (attack I3). From then on everything
// goes through what was opened (os.Root), so that what is exchanged meanwhile leads
// nowhere. Links below are followed as long as they stay in the folders of one tree.
//
// What it does not know is who may do what: a tree is for one direction, and the caller
// has one for each.
package confine

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/internal/drive"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Bounds of a path; our choice, the first that of Linux.
const (
	maxPath  = 4096
	maxLinks = 40
)

// ErrOutside is the answer to every path outside, whether there is something or not.
var ErrOutside = refusal.New(refusal.PolicyDenied, "it is in none of the folders that the policy opens for copies, or a link leads out of them")

// errElsewhere is the answer to a path that leads to another machine.
var errElsewhere = refusal.New(refusal.BadPath, "it is on no drive of this host")

const sep = string(filepath.Separator)

// top is the folder that everything lies in, here and on Windows.
const top = sep

// Tree is the folders that copies in one direction may touch.
type Tree struct {
	roots []root
	names []string // of all, whether they are there or not; absolute and clean, none for everything
	kept  []string // other paths that stay what and where they are, absolute and clean
}

// root is one of them.
type root struct {
	path string // absolute and clean
	in   Folder
}

// Folder is what can be done below a folder; names are relative to it. *os.Root is
// one, and whole the other.
type Folder interface {
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
// knows the names that may not be given to something else. Those of kept may not either:
// what the policy names beside folders, as absolute paths. Whoever calls it calls Close.
func Open(roots []string, kept ...string) (*Tree, error) {
	t := &Tree{}
	for _, path := range kept {
		t.kept = append(t.kept, filepath.Clean(path))
	}
	for _, path := range roots {
		t.names = append(t.names, filepath.Clean(path))
	}
	if roots == nil || slices.Contains(t.names, top) {
		return &Tree{roots: []root{{top, whole{}}}, kept: t.kept}, nil
	}
	slices.SortStableFunc(t.names, func(a, b string) int { return cmp.Compare(strings.Count(a, sep), strings.Count(b, sep)) })
	for _, path := range t.names { // the outer before the inner
		in, real, err := t.enter(path)
		if err != nil {
			continue
		}
		t.roots = append(t.roots, root{path, in})
		if real != path { // it has two names, by a link in the root of the disk
			t.roots = append(t.roots, root{real, in})
		}
	}
	if len(t.roots) == 0 {
		return t, refusal.New(refusal.BadPath, "none of the folders that the policy names can be opened by this user")
	}
	return t, nil
}

// enter opens a folder where it really is, from the one that it lies in if that is open:
// what can be put at its name through that one cannot lead out of it then (attack I3).
// What was opened is compared afterwards, since a part of the name may have become a link
// in between.
func (t *Tree) enter(path string) (*os.Root, string, error) {
	real, info, err := unlinked(path)
	if err != nil {
		return nil, "", err
	}
	var in *os.Root
	if p, ok := t.holding(path); ok && !p.Whole() {
		in, err = p.In.(*os.Root).OpenRoot(p.Rel)
	} else {
		in, err = os.OpenRoot(real)
	}
	if err != nil {
		return nil, "", err
	}
	if opened, err := in.Stat("."); err != nil || !os.SameFile(info, opened) {
		_ = in.Close()
		return nil, "", ErrOutside
	}
	return in, real, nil
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

// Empty reports that it opens nothing; no tree does neither.
func (t *Tree) Empty() bool { return t == nil || len(t.roots) == 0 }

// Place is one path of a tree.
type Place struct {
	In  Folder // what it is reached through
	Rel string // its name there
	Abs string // the same from the top

	root root
}

// OpenRoot opens the folder at the place, for what lies below it.
func (p Place) OpenRoot() (*os.Root, error) {
	if in, is := p.In.(*os.Root); is {
		return in.OpenRoot(p.Rel)
	}
	return os.OpenRoot(p.Abs)
}

// Whole reports that the place is bound by nothing but the user's own rights.
func (p Place) Whole() bool { return p.In == whole{} }

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
func (t *Tree) holding(path string) (best Place, ok bool) {
	for _, r := range t.roots {
		if rel, in := r.rel(path); in && (!ok || len(r.path) > len(best.root.path)) {
			best, ok = Place{r.in, rel, path, r}, true
		}
	}
	return best, ok
}

// Holds reports whether a path lies in the tree, by its name alone.
func (t *Tree) Holds(path string) bool {
	_, ok := t.holding(filepath.Clean(path))
	return ok
}

// Find says where a path leads. Links on the way are followed as long as they stay
// in the tree, the last element's only with follow. What changes between this and
// the use is caught by os.Root, which then refuses.
func (t *Tree) Find(path string, follow bool) (Place, error) {
	if len(path) > maxPath || strings.IndexByte(path, 0) >= 0 || !filepath.IsAbs(path) {
		return Place{}, refusal.New(refusal.BadPath, "a path has at most %d bytes and no zero byte", maxPath)
	}
	if !drive.Own(path) {
		return Place{}, errElsewhere
	}
	path = filepath.Clean(path)
	for range maxLinks {
		p, ok := t.holding(path)
		if !ok {
			return Place{}, ErrOutside
		}
		if p.Whole() { // the system follows links
			return p, nil
		}
		next, linked := p.firstLink(follow)
		if !linked {
			return p, nil
		}
		path = next
	}
	return Place{}, refusal.New(refusal.BadPath, "too many links lead to one another")
}

// firstLink is what a path becomes by its first link. What cannot be looked at is
// none; the use will fail on it.
func (p Place) firstLink(follow bool) (next string, linked bool) {
	parts := strings.Split(p.Rel, sep)
	for i := range parts {
		if i == len(parts)-1 && !follow {
			return "", false
		}
		at := filepath.Join(parts[:i+1]...)
		info, err := p.In.Lstat(at)
		if err != nil {
			return "", false
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		target, err := p.In.Readlink(at)
		if err != nil {
			return "", false
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(p.root.path, filepath.Dir(at), target)
		}
		return filepath.Join(append([]string{target}, parts[i+1:]...)...), true
	}
	return "", false
}

// Together finds a root that both places lie in, for what names two of them.
func (t *Tree) Together(a, b Place) (in Folder, first, second string, err error) {
	for _, r := range t.roots {
		first, inA := r.rel(a.Abs)
		if second, inB := r.rel(b.Abs); inA && inB {
			return r.in, first, second, nil
		}
	}
	return nil, "", "", refusal.New(refusal.BadPath, "the two paths lie in different folders of the policy")
}

// First is the name of the first folder, or "" of a tree that opens nothing.
func (t *Tree) First() string {
	if t.Empty() {
		return ""
	}
	return t.roots[0].path
}
