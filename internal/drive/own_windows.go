package drive

import (
	"path/filepath"
	"strings"
)

// Own reports a path as C:\folder\file, with slashes of either kind. All else is none:
// shares, devices, what is relative to a folder or drive that nobody named, and streams
// beside files, whose names end as they like.
func Own(path string) bool {
	path = filepath.FromSlash(path)
	return len(path) >= 3 && letter(path[0]) && path[1] == ':' && path[2] == '\\' && !strings.ContainsRune(path[2:], ':')
}

func letter(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }
