//go:build unix

package membership

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Lock keeps a second agent out: two would both think that an approval was
// not used yet. The lock ends with the process, however it ends.
func Lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the agent's state: %v", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("locking the agent's state: another agent runs on %q", dir)
	}
	return f, nil
}
