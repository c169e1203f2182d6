package confine

import (
	"io/fs"
	"os"
	"time"
)

// whole is everything that the user may see; names are absolute. It is not an
// os.Root, which needs to read each folder on a way, where the system asks only for
// the right to pass, and which follows no absolute link.
type whole struct{}

// OpenFile is os.OpenFile; below, each is the function of package os of its name.
func (whole) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, perm)
}

// Stat follows links.
func (whole) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// Lstat follows none in the last element.
func (whole) Lstat(name string) (fs.FileInfo, error) { return os.Lstat(name) }

// Readlink says where a link leads.
func (whole) Readlink(name string) (string, error) { return os.Readlink(name) }

// Mkdir makes a folder.
func (whole) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

// Remove takes away a file or an empty folder.
func (whole) Remove(name string) error { return os.Remove(name) }

// Rename replaces what is there.
func (whole) Rename(old, to string) error { return os.Rename(old, to) }

// Link makes a second name.
func (whole) Link(old, to string) error { return os.Link(old, to) }

// Symlink makes a link, whatever its target.
func (whole) Symlink(target, name string) error { return os.Symlink(target, name) }

// Chmod follows links.
func (whole) Chmod(name string, mode fs.FileMode) error { return os.Chmod(name, mode) }

// Chtimes follows links.
func (whole) Chtimes(name string, a, m time.Time) error { return os.Chtimes(name, a, m) }

// Close does nothing: nothing is open.
func (whole) Close() error { return nil }
