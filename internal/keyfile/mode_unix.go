//go:build unix

package keyfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

func checkPrivate(f *os.File, info fs.FileInfo) error {
	path := f.Name()
	if info.Mode().Perm()&0o077 != 0 {
		return refusal.New(refusal.BadFileMode, "%q has mode %04o, others may read it: run chmod 600 %q", path, info.Mode().Perm(), path)
	}
	return checkOwner(path, info)
}

func checkDirPrivate(path string, info fs.FileInfo) error {
	if info.Mode().Perm()&0o022 != 0 {
		return refusal.New(refusal.BadFileMode, "folder %q has mode %04o, others may write to it: run chmod 700 %q", path, info.Mode().Perm(), path)
	}
	return checkOwner(path, info)
}

func checkOwner(path string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(st.Uid) == os.Geteuid() {
		return nil
	}
	if ok && os.Geteuid() == 0 {
		if u, err := user.LookupId(strconv.FormatUint(uint64(st.Uid), 10)); err == nil {
			// Most often a service's user, which could not start any more if root were told to take the file over.
			return refusal.New(refusal.BadFileMode, "%q belongs to the user %s: run this as %s", path, u.Username, u.Username)
		}
	}
	return refusal.New(refusal.BadFileMode, "%q belongs to another user: run chown %d %q", path, os.Geteuid(), path)
}

func makeDir(path string) error { return os.MkdirAll(path, 0o700) }

func createNew(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// createTemp makes a file of a new name beside path.
func createTemp(path string, mode fs.FileMode) (*os.File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(mode); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}

func replace(from, to string) error { return os.Rename(from, to) }

// syncDir makes a new name in dir survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing folder %q: %v", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing folder %q: %v", dir, err)
	}
	return nil
}
