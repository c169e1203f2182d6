//go:build unix

package keyfile

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

func checkPrivate(path string, info fs.FileInfo) error {
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
	if !ok || int(st.Uid) != os.Geteuid() {
		return refusal.New(refusal.BadFileMode, "%q belongs to another user: run chown %d %q", path, os.Geteuid(), path)
	}
	return nil
}

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
