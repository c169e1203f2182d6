package filecopy

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Folders are where a copy may read or write at one end: below one of these
// absolute paths; nil is wherever the user may.
type Folders []string

var errOutside = refusal.New(refusal.PolicyDenied, "it is in none of the folders that the policy opens for copies")

// Resolve follows the links in a name that exists. Of a name outside nothing is
// looked at, and one that a link leads out of the folders is refused too (attack I3).
func (f Folders) Resolve(name string) (real string, err error) {
	if f == nil {
		return filepath.EvalSymlinks(name)
	}
	if f.anchor(filepath.Clean(name)) == "" {
		return "", errOutside
	}
	real, err = filepath.EvalSymlinks(name)
	there := real
	for dir := filepath.Clean(name); there == ""; { // whether something is there outside is not told either
		up := filepath.Dir(dir)
		if up == dir {
			return "", errOutside
		}
		dir = up
		there, _ = filepath.EvalSymlinks(dir)
	}
	if f.anchor(there) == "" {
		return "", errOutside
	}
	return real, err
}

// OpenFolder opens a folder by the name that Resolve gave. Whoever exchanges a part
// of it for a link meanwhile does not lead out of the folders.
func (f Folders) OpenFolder(real string) (*os.Root, error) {
	if f == nil {
		return os.OpenRoot(real)
	}
	folder, anchor := f.within(real)
	if anchor == "" {
		return nil, errOutside
	}
	rel, err := filepath.Rel(anchor, real)
	if err != nil {
		return nil, errOutside
	}
	root, err := os.OpenRoot(anchor)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	// Afterwards, and of what was opened: the anchor may have become a link in between.
	opened, err := root.Stat(".")
	if err != nil {
		return nil, err
	}
	if _, info, err := unlinked(folder); err != nil || !os.SameFile(info, opened) {
		return nil, errOutside
	}
	return root.OpenRoot(rel)
}

// Holds reports that an open folder lies in the folders, under the name that Resolve
// gave when it was opened.
func (f Folders) Holds(open *os.Root, real string) bool {
	if f == nil {
		return true
	}
	root, err := f.OpenFolder(real)
	if err != nil {
		return false
	}
	defer root.Close()
	mine, err := root.Stat(".")
	if err != nil {
		return false
	}
	other, err := open.Stat(".")
	return err == nil && os.SameFile(mine, other)
}

// anchor is the folder of f that name lies in, as it is spelled or where it really
// is; "" for none. name is clean.
func (f Folders) anchor(name string) string {
	_, anchor := f.within(name)
	return anchor
}

// within is anchor, and the folder as it is spelled.
func (f Folders) within(name string) (folder, anchor string) {
	for _, folder := range f {
		folder = filepath.Clean(folder)
		if inside(name, folder) {
			return folder, folder
		}
		real, _, err := unlinked(folder)
		if err != nil {
			continue
		}
		if real, err = filepath.EvalSymlinks(real); err == nil && inside(name, real) { // Windows: the long names
			return folder, real
		}
	}
	return "", ""
}

// maxLinks bounds the links in the root of the disk that lead to one another; our choice.
const maxLinks = 8

// unlinked is where a folder of the policy really is. Links are followed in the root
// of the disk alone, such as a system's own /tmp: further below, who may write in an
// outer folder could have put the link there, and would open what the policy closes
// (attack I3).
func unlinked(folder string) (real string, info fs.FileInfo, err error) {
	slash := string(filepath.Separator)
	for range maxLinks {
		top := filepath.VolumeName(folder) + slash
		rest, absolute := strings.CutPrefix(folder, top)
		if !absolute {
			break
		}
		first, below, _ := strings.Cut(rest, slash)
		info, err = os.Lstat(top + first)
		if err != nil {
			return "", nil, err
		}
		if info.Mode().Type() != fs.ModeSymlink {
			return folders(top+first, below, info)
		}
		to, err := os.Readlink(top + first)
		if err != nil {
			return "", nil, err
		}
		if !filepath.IsAbs(to) {
			to = top + to
		}
		folder = filepath.Join(to, below)
	}
	return "", nil, errOutside
}

// folders goes on from at, which info is of, and fails at what is no folder itself.
func folders(at, below string, info fs.FileInfo) (string, fs.FileInfo, error) {
	for element := range strings.SplitSeq(below, string(filepath.Separator)) {
		var err error
		if at = filepath.Join(at, element); element != "" {
			info, err = os.Lstat(at)
		}
		if err != nil {
			return "", nil, err
		}
		if info.Mode().Type() != fs.ModeDir {
			return "", nil, errOutside
		}
	}
	return at, info, nil
}

func inside(name, folder string) bool {
	rest, ok := strings.CutPrefix(name, strings.TrimRight(folder, string(filepath.Separator)))
	return ok && (rest == "" || os.IsPathSeparator(rest[0]))
}
