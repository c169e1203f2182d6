package disk

import (
	"os"
	"syscall"
)

const (
	seekHole = 3
	seekData = 4
)

func syncTogether([]*os.File) (bool, error) { return false, nil }

// syncOne: fsync gives the data to the drive; only the last one has to wait until
// the drive's own cache is empty, which Sync does and takes milliseconds.
func syncOne(f *os.File, last bool) error {
	if last {
		return f.Sync()
	}
	return syscall.Fsync(int(f.Fd()))
}
