package membership

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// Lock keeps a second agent out: two would both think that an approval was
// not used yet. The file is opened without sharing, so the lock ends with unlock,
// which may be called again, or with the process, however it ends.
// While another agent has it, the error is ErrLocked.
func Lock(dir string) (unlock func(), err error) {
	name, err := windows.UTF16PtrFromString(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("locking the agent's state: %v", err)
	}
	h, err := windows.CreateFile(name, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, nil, windows.OPEN_ALWAYS, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err == windows.ERROR_SHARING_VIOLATION { // another process has it
		err = ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("locking %q: %w", dir, err)
	}
	f := os.NewFile(uintptr(h), filepath.Join(dir, lockFile))
	return func() { _ = f.Close() }, nil
}
