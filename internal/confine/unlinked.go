package confine

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxTopLinks bounds the links in the root of the disk that lead to one another; our choice.
const maxTopLinks = 8

// unlinked is where a folder of the policy really is. Links are followed in the root
// of the disk alone, such as a system's own /tmp: further below, who may write in an
// outer folder could have put the link there, and would open what the policy closes
// (attack I3).
func unlinked(folder string) (real string, info fs.FileInfo, err error) {
	slash := string(filepath.Separator)
	for range maxTopLinks {
		top := filepath.VolumeName(folder) + slash
		rest, absolute := strings.CutPrefix(folder, top)
		if !absolute {
			break
		}
		first, below, _ := strings.Cut(rest, slash)
		info, err = os.Lstat(top + first)
		if err != nil {
			return "", nil, err
		}
		if info.Mode().Type() != fs.ModeSymlink {
			return folders(top+first, below, info)
		}
		to, err := os.Readlink(top + first)
		if err != nil {
			return "", nil, err
		}
		if !filepath.IsAbs(to) {
			to = top + to
		}
		folder = filepath.Join(to, below)
	}
	return "", nil, ErrOutside
}

// folders goes on from at, which info is of, and fails at what is no folder itself.
func folders(at, below string, info fs.FileInfo) (string, fs.FileInfo, error) {
	for element := range strings.SplitSeq(below, string(filepath.Separator)) {
		var err error
		if at = filepath.Join(at, element); element != "" {
			info, err = os.Lstat(at)
		}
		if err != nil {
			return "", nil, err
		}
		if info.Mode().Type() != fs.ModeDir {
			return "", nil, ErrOutside
		}
	}
	return at, info, nil
}
