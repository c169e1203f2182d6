//go:build unix

package cli

import (
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// ownerOf returns the login name of the user whose folder dir is, and whether that is
// the caller; "" where it cannot be told.
func ownerOf(dir string) (name string, own bool) {
	info, err := os.Stat(dir)
	if err != nil {
		return "", false
	}
	uid, ok := uidOf(info)
	if !ok {
		return "", false
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return "", int(uid) == os.Geteuid()
	}
	return u.Username, int(uid) == os.Geteuid()
}

func uidOf(info fs.FileInfo) (uint32, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Uid, true
}
