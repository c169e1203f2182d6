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

func (whole) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, perm)
}
func (whole) Stat(name string) (fs.FileInfo, error)     { return os.Stat(name) }
func (whole) Lstat(name string) (fs.FileInfo, error)    { return os.Lstat(name) }
func (whole) Readlink(name string) (string, error)      { return os.Readlink(name) }
func (whole) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }
func (whole) Remove(name string) error                  { return os.Remove(name) }
func (whole) Rename(old, to string) error               { return os.Rename(old, to) }
func (whole) Link(old, to string) error                 { return os.Link(old, to) }
func (whole) Symlink(target, name string) error         { return os.Symlink(target, name) }
func (whole) Chmod(name string, mode fs.FileMode) error { return os.Chmod(name, mode) }
func (whole) Chtimes(name string, a, m time.Time) error { return os.Chtimes(name, a, m) }
func (whole) Close() error                              { return nil }
