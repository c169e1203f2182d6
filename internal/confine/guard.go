package confine

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tucdesk/tucdesk/internal/drive"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

var (
	errMoved = refusal.New(refusal.BadPath, "a link stays in its folder and a folder at its depth, since a link elsewhere leads elsewhere; copy it instead")
	errDots  = refusal.New(refusal.BadPath, `a link's target has ".." only in front`)
)

// Entry is what one name stands for at this moment, by what it is and where it lies.
type Entry struct{ step }

// EntryAt looks at a place.
func EntryAt(p Place) (Entry, error) {
	dir, err := p.In.Stat(filepath.Dir(p.Rel))
	if err != nil {
		return Entry{}, err
	}
	own, err := p.In.Lstat(p.Rel)
	if err != nil {
		own = nil // a folder of the policy that is not there yet has its place as well
	}
	return Entry{step{dir, filepath.Base(p.Abs), own}}, nil
}

// Needs reports that a path, or the entry that it is, leads to a folder of the policy, or
// to something else that it names.
func (t *Tree) Needs(abs string, e Entry) bool {
	for _, r := range t.roots {
		if info, err := r.in.Stat("."); r.in != (whole{}) && err == nil && same(info, e.own) {
			return true
		}
	}
	leads := func(name string) bool {
		return name == abs || strings.HasPrefix(name, strings.TrimRight(abs, sep)+sep) || slices.ContainsFunc(way(name), e.is)
	}
	return slices.ContainsFunc(t.names, leads) || slices.ContainsFunc(t.kept, leads)
}

// step is an entry of a folder.
type step struct {
	dir  fs.FileInfo
	name string
	own  fs.FileInfo // not followed; nil when there is nothing
}

func (s step) is(o step) bool { return same(s.own, o.own) || s.name == o.name && same(s.dir, o.dir) }

func same(a, b fs.FileInfo) bool { return a != nil && b != nil && os.SameFile(a, b) }

// way is every entry that the system looks at on its way to a path, links and where
// they lead too, up to the first that is not there. It is asked for anew at each
// change, because the last one may have made what was not there.
func way(path string) (steps []step) {
	base := filepath.VolumeName(path) + sep
	at, rest, links := base, strings.Split(path[len(base)-1:], sep), 0
	for len(rest) > 0 {
		name := rest[0]
		if rest = rest[1:]; name == "" || name == "." {
			continue
		}
		if name == ".." { // there is no link in at
			at = filepath.Dir(at)
			continue
		}
		dir, err := os.Stat(at)
		if err != nil {
			return steps
		}
		next := filepath.Join(at, name)
		own, err := os.Lstat(next)
		if err != nil {
			return append(steps, step{dir, name, nil})
		}
		if steps = append(steps, step{dir, name, own}); own.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		target, err := os.Readlink(next)
		if links++; err != nil || links > maxLinks {
			return steps
		}
		if filepath.IsAbs(target) {
			at = base
			target = target[len(filepath.VolumeName(target)):]
		}
		rest = append(strings.Split(filepath.FromSlash(target), sep), rest...)
	}
	return steps
}

// Shows reports that what gets the name p can be read there, now or in a later
// session. It goes by what the folders are, for one has several names.
func (t *Tree) Shows(p Place) (bool, error) {
	if t == nil {
		return false, nil
	}
	open := []fs.FileInfo{}
	for _, r := range t.roots {
		if r.in == (whole{}) {
			return true, nil
		}
		if info, err := r.in.Stat("."); err == nil {
			open = append(open, info)
		}
	}
	for _, name := range t.names { // one that was not there when the session began may be now
		if info, err := os.Stat(name); err == nil {
			open = append(open, info)
		}
	}
	at, err := filepath.EvalSymlinks(filepath.Dir(p.Abs))
	for ; err == nil; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(open, func(o fs.FileInfo) bool { return os.SameFile(o, info) }) {
			return true, nil
		}
		if at == filepath.Dir(at) {
			return false, nil
		}
	}
	return false, err
}

// Leads refuses targets of a link that lead out of the tree. We would not follow it,
// but other programs of the machine would. After a name, ".." is where the name leads
// and not where it stands, so it comes only in front, where we know the folder.
func (t *Tree) Leads(p Place, target string) error {
	if filepath.IsAbs(target) && !drive.Own(target) {
		return errElsewhere
	}
	if p.Whole() {
		return nil
	}
	front := !filepath.IsAbs(target)
	for _, part := range strings.Split(target, sep) {
		if part == ".." && !front {
			return errDots
		}
		front = front && (part == ".." || part == "." || part == "")
	}
	if filepath.IsAbs(target) {
		if !t.Holds(target) {
			return ErrOutside
		}
		return nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(p.Abs))
	if err != nil {
		return err
	}
	target = filepath.Join(dir, target)
	for _, r := range t.roots {
		real, err := filepath.EvalSymlinks(r.path)
		if err != nil {
			continue
		}
		if _, in := (root{real, r.in}).rel(target); in {
			return nil
		}
	}
	return ErrOutside
}

// Stays refuses renames after which a link leads elsewhere than when it was judged.
// At the same depth below the same folder, ".." in front leads out no more than before.
func Stays(in Folder, from, to string) error {
	if in == (whole{}) || filepath.Dir(from) == filepath.Dir(to) {
		return nil
	}
	info, err := in.Lstat(from)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 || info.IsDir() && strings.Count(from, sep) != strings.Count(to, sep) {
		return errMoved
	}
	return nil
}
