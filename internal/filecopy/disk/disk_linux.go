package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

const (
	seekData = unix.SEEK_DATA
	seekHole = unix.SEEK_HOLE
)

// manyFiles is from where on one wait for a whole file system is cheaper than one
// for each file, each of which empties the drive's cache; our choice.
const manyFiles = 16

// syncTogether waits once for each file system that files lie on, which is also for
// what others have written there.
func syncTogether(files []*os.File) (done bool, err error) {
	if len(files) < manyFiles {
		return false, nil
	}
	seen := map[uint64]bool{}
	for _, f := range files {
		var s unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &s); err != nil {
			return true, err
		}
		if seen[uint64(s.Dev)] {
			continue
		}
		seen[uint64(s.Dev)] = true
		if err := unix.Syncfs(int(f.Fd())); err != nil {
			return true, err
		}
	}
	return true, nil
}

func syncOne(f *os.File, _ bool) error { return f.Sync() }
