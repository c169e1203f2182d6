//go:build unix

package process

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
)

// Path is the only PATH that programs are found by and that sessions get.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// reserved are names that additions may not have, besides the fixed ones.
var reserved []string

// sameName reports names of one variable.
func sameName(a, b string) bool { return a == b }

// candidates are the files that argv0 may stand for.
func candidates(argv0, dir string) []string {
	if filepath.IsAbs(argv0) {
		return []string{argv0}
	}
	if strings.ContainsRune(argv0, '/') {
		return []string{filepath.Join(dir, argv0)}
	}
	var list []string
	for _, d := range filepath.SplitList(Path) {
		list = append(list, filepath.Join(d, argv0))
	}
	return list
}

// executable goes by mode bits.
func executable(_ string, info fs.FileInfo) bool { return info.Mode().Perm()&0o111 != 0 }

func identity(_ string, info fs.FileInfo) (device, inode uint64, err error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, errors.New("the system tells no identity of a file")
	}
	return uint64(st.Dev), st.Ino, nil
}

func searchPath() string { return Path }
