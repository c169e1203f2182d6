package membership

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Lock keeps a second agent out: two would both think that an approval was
// not used yet. The file is opened without sharing, so the lock ends with unlock,
// which may be called again, or with the process, however it ends.
func Lock(dir string) (unlock func(), err error) {
	name, err := syscall.UTF16PtrFromString(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("locking the agent's state: %v", err)
	}
	h, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil, syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, fmt.Errorf("locking the agent's state: another agent runs on %q", dir)
	}
	f := os.NewFile(uintptr(h), filepath.Join(dir, lockFile))
	return func() { _ = f.Close() }, nil
}
