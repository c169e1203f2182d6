//go:build unix

package process

import (
	"io/fs"
	"syscall"
)

// Path is the only PATH that programs are found by and that sessions get.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const modesCount = true // mode bits say what is executable

func identity(info fs.FileInfo) (device, inode uint64) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0
	}
	return uint64(st.Dev), st.Ino
}

// systemEnvironment are variables without which programs of this system fail.
func systemEnvironment() []string { return nil }
