package send

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// maxDepth bounds folders in folders, each of which is open meanwhile; our choice.
const maxDepth = 200

// item is the next thing to send, in order. Files are read ahead.
type item struct {
	message filecopy.Message // unless it is a file
	file    *file
	ready   chan struct{} // closed when file was read
}

// folder is an open folder that files are still to be read from.
type folder struct {
	root  *os.Root
	users atomic.Int32
}

func (f *folder) done() {
	if f.users.Add(-1) == 0 {
		_ = f.root.Close()
	}
}

// walk puts what there is to send into items.
type walk struct {
	ctx     context.Context
	flags   filecopy.Flags
	folders filecopy.Folders
	items   chan<- *item
	files   chan<- *item // those of items that are files
}

// put hands an item on; it fails when nobody sends any more.
func (w *walk) put(it *item) error {
	if it.file != nil {
		it.ready = make(chan struct{})
		select {
		case w.files <- it:
		case <-w.ctx.Done():
			it.file.in.done()
			return w.ctx.Err()
		}
	}
	select {
	case w.items <- it:
		return nil
	case <-w.ctx.Done():
		it.drop()
		return w.ctx.Err()
	}
}

func (w *walk) problem(name string, err error) error {
	return w.put(&item{message: filecopy.ProblemOf(name, err)})
}

// source sends what lies at a path, under the path's last element. A link that was
// named is followed; links further below are not.
func (w *walk) source(path string) error {
	name := filepath.Base(path)
	if name == "." || name == ".." || name == string(filepath.Separator) {
		return w.problem(path, refusal.New(refusal.BadPath, "a source needs a name of its own"))
	}
	real, err := w.folders.Resolve(path)
	if err != nil {
		return w.problem(path, err)
	}
	info, err := os.Lstat(real)
	switch {
	case err != nil:
		return w.problem(path, err)
	case info.IsDir() && w.flags&filecopy.Recursive == 0:
		return w.problem(path, refusal.New(refusal.BadFile, "it is a folder; -r copies folders"))
	}
	dir := real
	if !info.IsDir() {
		dir = filepath.Dir(real)
	}
	root, err := w.folders.OpenFolder(dir)
	if err != nil {
		return w.problem(path, err)
	}
	f := &folder{root: root}
	f.users.Store(1)
	defer f.done()
	if info.IsDir() {
		return w.folder(f, name, 0)
	}
	return w.entry(f, filepath.Base(real), name, info.Mode().Type(), 0)
}

// folder sends a folder and all that is in it.
func (w *walk) folder(f *folder, name string, depth int) error {
	if depth >= maxDepth {
		return w.problem(name, refusal.New(refusal.TooMany, "more than %d folders in one another", maxDepth))
	}
	entries, info, err := list(f.root)
	if err != nil {
		return w.problem(name, err)
	}
	if err := w.put(&item{message: filecopy.Folder{Mode: modeOf(info), Time: info.ModTime().UnixNano(), Name: name}}); err != nil {
		return err
	}
	for _, e := range entries {
		if filecopy.IsPart(e.Name()) {
			continue // of a copy to here that is not complete
		}
		if err := w.entry(f, e.Name(), name+"/"+e.Name(), e.Type(), depth); err != nil {
			return err
		}
	}
	return nil
}

func list(root *os.Root) ([]fs.DirEntry, fs.FileInfo, error) {
	d, err := root.Open(".")
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	info, err := d.Stat()
	if err != nil {
		return nil, nil, err
	}
	entries, err := d.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, info, err
}

// entry sends one thing that lies in f as base. Devices, FIFOs and sockets are left
// out: reading them may never end, and they are no data (attack I4).
func (w *walk) entry(f *folder, base, name string, kind fs.FileMode, depth int) error {
	if len(name) > filecopy.MaxName {
		return w.problem(name, refusal.New(refusal.BadPath, "its name is longer than %d bytes", filecopy.MaxName))
	}
	switch kind {
	case 0:
		f.users.Add(1)
		return w.put(&item{file: &file{in: f, base: base, name: name}})
	case fs.ModeDir:
		root, err := f.root.OpenRoot(base)
		if err != nil {
			return w.problem(name, err)
		}
		inner := &folder{root: root}
		inner.users.Store(1)
		defer inner.done()
		return w.folder(inner, name, depth+1)
	case fs.ModeSymlink:
		target, err := f.root.Readlink(base)
		if target = filepath.ToSlash(target); err == nil {
			err = filecopy.CheckLink(name, target)
		}
		if err != nil {
			return w.problem(name, err)
		}
		return w.put(&item{message: filecopy.Link{Name: name, Target: target}})
	}
	return w.problem(name, refusal.New(refusal.BadFile, filecopy.NotData))
}

// modeOf is the mode as it travels.
func modeOf(info fs.FileInfo) uint32 {
	m := uint32(info.Mode().Perm())
	for bit, raw := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if info.Mode()&bit != 0 {
			m |= raw
		}
	}
	return m
}

// Measure is how many files and bytes there are at paths, as far as that can be
// seen without reading them.
func Measure(ctx context.Context, paths []string, folders filecopy.Folders) (files, bytes uint64) {
	for _, p := range paths {
		real, err := folders.Resolve(p)
		if err != nil {
			continue
		}
		_ = filepath.WalkDir(real, func(_ string, d fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return fs.SkipAll
			}
			if err == nil && d.Type().IsRegular() && !filecopy.IsPart(d.Name()) {
				if info, err := d.Info(); err == nil {
					files, bytes = files+1, bytes+uint64(info.Size())
				}
			}
			return nil
		})
	}
	return files, bytes
}

// Expand makes absolute paths of what was asked for at a machine: "~/", paths below
// home, and patterns with "*", "?" and "[...]", which match hidden files only where they
// begin with a dot themselves. What has no match stays as it is, to
// be reported by its name, and so does a pattern whose matches all lie outside of
// folders: their names are nobody's business.
func Expand(paths []string, home string, folders filecopy.Folders) ([]string, error) {
	var all []string
	for _, p := range paths {
		p = Absolute(p, home)
		if !strings.ContainsAny(p, "*?[") || folders.Exists(p) {
			all = append(all, p)
			continue
		}
		found, err := folders.Glob(p)
		if err != nil {
			return nil, err
		}
		found = slices.DeleteFunc(found, func(name string) bool { // hidden: the operator would not take it
			return !filecopy.Asked([]string{filepath.ToSlash(p)}, filepath.Base(name))
		})
		if len(found) == 0 {
			found = []string{p}
		}
		all = append(all, found...)
	}
	return all, nil
}

// Absolute is a path of a machine: "" and "~" are home, and what is not absolute
// lies below it.
func Absolute(p, home string) string {
	if p == "~" {
		p = ""
	}
	p = strings.TrimPrefix(p, "~/")
	if filepath.IsAbs(p) {
		return p
	}
	if p == "" {
		return home
	}
	slash := strings.HasSuffix(p, "/")
	p = filepath.Join(home, p)
	if slash {
		p += string(filepath.Separator)
	}
	return p
}
