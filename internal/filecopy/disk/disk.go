// Package disk is what copying files needs of the system beyond package os: who a
// file is, how much of it is there, locks, holes, and many files on the disk at the
// price of a few.
package disk

import (
	"io/fs"
	"os"
)

// ID tells files apart for as long as they exist.
type ID struct{ dev, ino uint64 }

// Facts are what is known of a file beside fs.FileInfo.
type Facts struct {
	ID        ID     // zero where the system does not say
	Ours      bool   // belongs to the user that asks
	Links     uint64 // names that it has
	Allocated uint64 // bytes on the disk; less than its size where it has holes
}

// FactsOf reads them from what Stat or Lstat gave.
func FactsOf(info fs.FileInfo) Facts { return factsOf(info) }

// Range is a part of a file, in bytes; Start == End is none.
type Range struct{ Start, End int64 }

// NextData finds the next part of f at or behind off that is no hole, and its end.
// Where the system does not know holes, that is all the rest. size is where to stop
// looking.
func NextData(f *os.File, off, size int64) (Range, error) { return nextData(f, off, size) }

// Lock locks f for this open file alone; an error means that somebody else has it.
// The lock ends with the file, and with the process, however it ends.
func Lock(f *os.File) error { return lock(f) }

// Unlock gives the lock back.
func Unlock(f *os.File) error { return unlock(f) }

// Free is how many bytes the user may still write where dir is; ok is false where
// that is not known.
func Free(dir *os.File) (bytes uint64, ok bool) { return free(dir) }

// Umask is the bits that new files do not get.
func Umask() fs.FileMode { return umask() }

// Full reports whether err says that there is no room on a disk, or in a quota.
func Full(err error) bool { return full(err) }

// OpenFlags are for opening a file that may have become a FIFO since it was looked
// at: opening it does not wait then (attack I4).
const OpenFlags = openFlags
