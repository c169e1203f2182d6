package filecopy

import (
	"os"
	"path/filepath"

	"github.com/tucdesk/tucdesk/internal/confine"
)

// Folders are where a copy may read or write at one end: below one of these
// absolute paths; nil is wherever the user may. A copy names few places, so the folders
// are opened anew for each.
type Folders []string

// Resolve follows the links in a name that exists. Of a name outside nothing is
// looked at, and one that a link leads out of the folders is refused too (attack I3).
func (f Folders) Resolve(name string) (real string, err error) {
	if f == nil {
		return filepath.EvalSymlinks(name)
	}
	t, err := f.open()
	if err != nil {
		return "", err
	}
	defer t.Close()
	p, err := t.Find(name, true)
	if err != nil {
		return "", err
	}
	if p.Whole() {
		return filepath.EvalSymlinks(name)
	}
	_, err = p.In.Stat(p.Rel)
	return p.Abs, err
}

// OpenFolder opens a folder by the name that Resolve gave. Whoever exchanges a part
// of it for a link meanwhile does not lead out of the folders.
func (f Folders) OpenFolder(real string) (*os.Root, error) {
	if f == nil {
		return os.OpenRoot(real)
	}
	t, err := f.open()
	if err != nil {
		return nil, err
	}
	defer t.Close()
	p, err := t.Find(real, true)
	if err != nil {
		return nil, err
	}
	return p.OpenRoot()
}

// open opens the folders. Without any that can be opened there is nothing to be told.
func (f Folders) open() (*confine.Tree, error) {
	t, err := confine.Open(f)
	if err != nil {
		t.Close()
		return nil, confine.ErrOutside
	}
	return t, nil
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
