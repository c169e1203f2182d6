package filecopy

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/tucdesk/tucdesk/internal/confine"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

const sep = string(filepath.Separator)

// Exists reports whether there is something of that name, not followed. Outside of the
// folders there is nothing.
func (f Folders) Exists(name string) bool {
	if f == nil {
		_, err := os.Lstat(name)
		return err == nil
	}
	t, err := f.open()
	if err != nil {
		return false
	}
	defer t.Close()
	return exists(t, name)
}

func exists(t *confine.Tree, name string) bool {
	p, err := t.Find(name, false)
	if err != nil {
		return false
	}
	_, err = p.In.Lstat(p.Rel)
	return err == nil
}

// Glob finds what an absolute pattern with "*", "?" and "[...]" stands for, sorted folder
// by folder, as filepath.Glob does. Outside of the folders no name is looked at: how long
// a pattern takes would tell what lies there (attack I3). There the pattern is held
// against the names of the folders themselves, which the policy has told.
func (f Folders) Glob(pattern string) ([]string, error) {
	if _, err := filepath.Match(pattern, ""); err != nil {
		return nil, refusal.New(refusal.BadPath, "a pattern is malformed")
	}
	if f == nil {
		return filepath.Glob(pattern)
	}
	t, err := f.open()
	if err != nil {
		return nil, nil
	}
	defer t.Close()
	base := filepath.VolumeName(pattern) + sep
	at := []string{base}
	for e := range strings.SplitSeq(strings.TrimPrefix(filepath.Clean(pattern), base), sep) {
		var next []string
		for _, dir := range at {
			next = append(next, f.matches(t, dir, e)...)
			if len(next) > MaxEntries {
				return nil, refusal.New(refusal.TooMany, "a pattern stands for more than %d names", MaxEntries)
			}
		}
		at = next
	}
	return slices.DeleteFunc(at, func(name string) bool {
		_, err := t.Find(name, true)
		return errors.Is(err, confine.ErrOutside) || !exists(t, name)
	}), nil
}

// matches is what one element of a pattern stands for in dir.
func (f Folders) matches(t *confine.Tree, dir, element string) (found []string) {
	magic := "*?["
	if runtime.GOOS != "windows" {
		magic += `\`
	}
	names := []string{element}
	if strings.ContainsAny(element, magic) {
		if t.Holds(dir) {
			names = listed(t, dir)
		} else {
			names = f.below(dir)
		}
		names = slices.DeleteFunc(names, func(name string) bool {
			ok, err := filepath.Match(element, name)
			return !ok || err != nil
		})
	}
	for _, name := range names {
		found = append(found, filepath.Join(dir, name))
	}
	return found
}

// listed are the names in a folder of the tree, sorted; none where it is no folder.
func listed(t *confine.Tree, dir string) []string {
	p, err := t.Find(dir, true)
	if err != nil {
		return nil
	}
	if info, err := p.In.Stat(p.Rel); err != nil || !info.IsDir() { // opening a FIFO could wait
		return nil
	}
	root, err := p.OpenRoot()
	if err != nil {
		return nil
	}
	defer root.Close()
	d, err := root.Open(".")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	slices.Sort(names)
	return names
}

// below are the elements that lead from dir to folders of the policy, sorted.
func (f Folders) below(dir string) (names []string) {
	dir = strings.TrimSuffix(dir, sep) + sep
	for _, folder := range f {
		if rest, ok := strings.CutPrefix(filepath.Clean(folder), dir); ok && rest != "" {
			name, _, _ := strings.Cut(rest, sep)
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
