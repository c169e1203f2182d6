package drive

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows"
)

// Own reports a path as C:\folder\file on a disk of this machine, with slashes of either
// kind. All else is none: shares, also those that have a letter, devices, letters of
// nothing, what is relative to a folder or drive that nobody named, and streams beside
// files, whose names end as they like.
func Own(path string) bool {
	path = filepath.FromSlash(path)
	return len(path) >= 3 && letter(path[0]) && path[1] == ':' && path[2] == '\\' && !strings.ContainsRune(path[2:], ':') && here(path[:3])
}

func letter(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }

// here reports that the disk of a letter is this machine's. Only kinds that are known to
// be count: what the system cannot tell may be a share whose server does not answer now.
func here(root string) bool {
	p, err := windows.UTF16PtrFromString(root)
	if err != nil {
		return false
	}
	switch windows.GetDriveType(p) {
	case windows.DRIVE_FIXED, windows.DRIVE_REMOVABLE, windows.DRIVE_CDROM, windows.DRIVE_RAMDISK:
		return true
	}
	return false
}
