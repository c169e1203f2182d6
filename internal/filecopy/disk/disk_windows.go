package disk

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

const openFlags = 0

func factsOf(info fs.FileInfo) Facts {
	return Facts{Ours: true, Links: 1, Allocated: uint64(info.Size())}
}

func nextData(_ *os.File, off, size int64) (Range, error) { return Range{off, size}, nil }

func lock(f *os.File) error {
	const all = ^uint32(0)
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, all, all, new(windows.Overlapped))
}

func unlock(f *os.File) error {
	const all = ^uint32(0)
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, all, all, new(windows.Overlapped))
}

func free(dir *os.File) (bytes uint64, ok bool) {
	name, err := windows.UTF16PtrFromString(dir.Name())
	if err != nil {
		return 0, false
	}
	err = windows.GetDiskFreeSpaceEx(name, &bytes, nil, nil)
	return bytes, err == nil
}

func umask() fs.FileMode { return 0 }

func full(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

func syncTogether([]*os.File) (bool, error) { return false, nil }

func syncOne(f *os.File, _ bool) error { return f.Sync() }
