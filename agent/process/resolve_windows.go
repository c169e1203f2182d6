package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/windows"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// searchPath is the only one that programs are found by: the system's own folders,
// in which only administrators can put something.
func searchPath() string {
	system, err := windows.GetSystemDirectory()
	if err != nil {
		return ""
	}
	return strings.Join([]string{system, filepath.Dir(system), filepath.Join(system, "wbem"), filepath.Join(system, "WindowsPowerShell", "v1.0")}, string(filepath.ListSeparator))
}

// extensions are those of what CreateProcess runs itself. A batch file would be handed to
// cmd.exe, which finds commands in what are arguments here.
var extensions = [...]string{".exe", ".com"}

// candidates are the files that argv0 may stand for, extension or not. What is not on a
// drive of this host is none: looking at a share shows the agent's credentials to
// whoever an operator, who may have no right here, names as its server. Nor are streams
// beside files, whose name ends as they like.
func candidates(argv0, dir string) (list []string) {
	folders := []string{dir}
	switch {
	case filepath.IsAbs(argv0):
		folders = []string{""}
	case strings.IndexAny(argv0, `/\`) == 0: // on which drive depends on nothing that was signed
		return nil
	case !strings.ContainsAny(argv0, `/\`):
		folders = filepath.SplitList(searchPath())
	}
	for _, folder := range folders {
		for _, end := range append([]string{""}, extensions[:]...) {
			if path := filepath.Join(folder, argv0+end); onDrive(path) {
				list = append(list, path)
			}
		}
	}
	return list
}

// onDrive reports a path as C:\folder\file, without streams.
func onDrive(path string) bool {
	return len(path) > 3 && path[1] == ':' && path[2] == '\\' && !strings.ContainsRune(path[2:], ':')
}

// executable reports whether CreateProcess runs the file itself.
func executable(path string, _ os.FileInfo) bool {
	return onDrive(path) && slices.Contains(extensions[:], strings.ToLower(filepath.Ext(path)))
}

// identity is the number of the volume and that of the file on it.
func identity(path string, _ os.FileInfo) (device, inode uint64, err error) {
	h, device, inode, err := open(path)
	if err != nil {
		return 0, 0, err
	}
	return device, inode, windows.CloseHandle(h)
}

// open opens a file so that nobody can write to it, move it or put another in its place,
// nor do so with a folder above it, until the handle is closed.
func open(path string) (h windows.Handle, device, inode uint64, err error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, 0, 0, err
	}
	h, err = windows.CreateFile(name, windows.FILE_READ_DATA, windows.FILE_SHARE_READ, nil, windows.OPEN_EXISTING, windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return 0, 0, 0, err
	}
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &info); err != nil {
		_ = windows.CloseHandle(h)
		return 0, 0, 0, err
	}
	device, inode = uint64(info.VolumeSerialNumber), uint64(info.FileIndexHigh)<<32|uint64(info.FileIndexLow)
	if inode == 0 { // a file system that numbers no files; a file without number is compared with nothing
		_ = windows.CloseHandle(h)
		return 0, 0, 0, errors.New("files here have no numbers")
	}
	return h, device, inode, nil
}

// holdProgram compares the file with the judged one and keeps it from being replaced
// until release (attack E6). The user's shell is compared with nothing.
func holdProgram(f File) (release func(), err error) {
	if f.Inode == 0 {
		return func() {}, nil
	}
	h, device, inode, err := open(f.Path)
	if err != nil {
		return nil, fmt.Errorf("opening %q: %w", f.Path, err)
	}
	if device != f.Device || inode != f.Inode {
		_ = windows.CloseHandle(h)
		return nil, refusal.New(refusal.CommandNotFound, "it is not the file any more that the request was judged by")
	}
	return func() { _ = windows.CloseHandle(h) }, nil
}

// SealDescriptors has nothing to do: handles are inherited by name only.
func SealDescriptors() error { return nil }
