//go:build unix

package files

import (
	"io/fs"
	"syscall"
)

// noWait keeps an open from waiting for the other end of a FIFO, and from making a
// terminal ours.
const noWait = syscall.O_NONBLOCK | syscall.O_NOCTTY

// local and remote are a path here and as clients write it.
func local(name string) string  { return name }
func remote(name string) string { return name }

// owned reports whether a file has these owners already.
func owned(info fs.FileInfo, uid, gid uint32) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && s.Uid == uid && s.Gid == gid
}
