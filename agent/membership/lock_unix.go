//go:build unix

package membership

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Lock keeps a second agent out: two would both think that an approval was
// not used yet. The lock ends with unlock, which may be called again, or with the
// process, however it ends. While another agent has it, the error is ErrLocked.
//
// Closing the file is not enough for unlock. A process that was forked and does not
// run its program yet, for a session or for anything else, holds a copy of every
// descriptor of ours, and the lock stays as long as the last copy.
func Lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the agent's state: %v", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if err == syscall.EWOULDBLOCK {
			err = ErrLocked
		}
		return nil, fmt.Errorf("locking %q: %w", dir, err)
	}
	return func() {
		_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
		_ = f.Close()
	}, nil
}
