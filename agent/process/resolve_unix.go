//go:build unix

package process

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Path is the only PATH that programs are found by and that sessions get.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// reserved are names that additions may not have, besides the fixed ones.
var reserved []string

// elsewhere tells programs that they run for somebody at another machine: prompts name
// the host then. The value is that of an sshd that serves a pipe, since the address that a
// session comes from would be a relay's. SSH_CLIENT is left out: decision 18.
var elsewhere = []Variable{{"SSH_CONNECTION", "UNKNOWN 65535 UNKNOWN 65535"}}

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

// find is the file at candidate. Its error is no refusal where there is none.
func find(candidate string) (File, error) {
	real, err := filepath.EvalSymlinks(candidate)
	if err != nil {
		return File{}, err
	}
	info, err := os.Lstat(real)
	if err != nil {
		return File{}, err
	}
	f, ok := fileOf(real, info)
	if !ok || !executable(info) {
		return File{}, notExecutable()
	}
	return f, nil
}

// fileOf is the regular file that info is about.
func fileOf(path string, info fs.FileInfo) (f File, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() {
		return File{}, false
	}
	return File{Path: path, Device: uint64(st.Dev), Inode: st.Ino}, true
}

// executable goes by mode bits.
func executable(info fs.FileInfo) bool { return info.Mode().Perm()&0o111 != 0 }

func searchPath() string { return Path }
