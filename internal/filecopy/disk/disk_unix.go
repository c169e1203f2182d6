//go:build unix

package disk

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

const openFlags = syscall.O_NONBLOCK | syscall.O_NOFOLLOW

// blockUnit is the unit of st_blocks, whatever the file system's own one.
const blockUnit = 512

func factsOf(info fs.FileInfo) Facts {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Facts{Allocated: uint64(info.Size())}
	}
	return Facts{
		ID: ID{uint64(s.Dev), uint64(s.Ino)}, Ours: int(s.Uid) == os.Geteuid(), Links: uint64(s.Nlink),
		Allocated: uint64(s.Blocks) * blockUnit,
	}
}

func nextData(f *os.File, off, size int64) (Range, error) {
	start, err := f.Seek(off, seekData)
	if errors.Is(err, syscall.ENXIO) { // a hole up to the end
		return Range{size, size}, nil
	}
	if err != nil || start < off { // a file system without holes
		return Range{off, size}, nil
	}
	end, err := f.Seek(start, seekHole)
	if err != nil {
		return Range{}, err
	}
	return Range{min(start, size), min(end, size)}, nil
}

func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

func unlock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }

func free(dir *os.File) (uint64, bool) {
	var s syscall.Statfs_t
	if err := syscall.Fstatfs(int(dir.Fd()), &s); err != nil || s.Bsize <= 0 {
		return 0, false
	}
	return s.Bavail * uint64(s.Bsize), true
}

// umask can only be read by setting it. What another goroutine creates meanwhile
// gets less rights than it may have, never more.
func umask() fs.FileMode {
	old := syscall.Umask(0o077)
	syscall.Umask(old)
	return fs.FileMode(old) & fs.ModePerm
}

func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
