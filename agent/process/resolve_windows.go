package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/windows"

	"github.com/tucdesk/tucdesk/internal/drive"
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
			if path := filepath.Join(folder, argv0+end); drive.Own(path) {
				list = append(list, path)
			}
		}
	}
	return list
}

// find is the file at candidate. Its error is no refusal where there is none. Looking
// comes before opening, because opening a device can do something already.
func find(candidate string) (File, error) {
	info, err := os.Stat(candidate)
	if err != nil {
		return File{}, err
	}
	if !info.Mode().IsRegular() {
		return File{}, notExecutable()
	}
	h, f, err := open(candidate)
	if err != nil {
		return File{}, refusal.New(refusal.NotExecutable, "there is such a file on this host, and it cannot be opened now")
	}
	defer windows.CloseHandle(h)
	if !slices.Contains(extensions[:], strings.ToLower(filepath.Ext(f.Path))) {
		return File{}, notExecutable()
	}
	return f, nil
}

// open opens a file so that nobody can write to it, move it or put another in its place,
// nor do so with a folder above it, until the handle is closed. What it says of the file
// it knows from the handle, so the path is the one without links and junctions, by which
// policies judge, as the file has it that is open.
func open(path string) (h windows.Handle, f File, err error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, File{}, err
	}
	h, err = windows.CreateFile(name, windows.FILE_READ_DATA, windows.FILE_SHARE_READ, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		return 0, File{}, err
	}
	if f, err = about(h); err != nil {
		_ = windows.CloseHandle(h)
		return 0, File{}, err
	}
	return h, f, nil
}

// about says which file is open.
func about(h windows.Handle) (f File, err error) {
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &info); err != nil {
		return File{}, err
	}
	f.Device, f.Inode = uint64(info.VolumeSerialNumber), uint64(info.FileIndexHigh)<<32|uint64(info.FileIndexLow)
	if f.Inode == 0 { // a file system that numbers no files; a file without number is compared with nothing
		return File{}, errors.New("files here have no numbers")
	}
	name := make([]uint16, windows.MAX_LONG_PATH)
	n, err := windows.GetFinalPathNameByHandle(h, &name[0], uint32(len(name)), 0) // with its drive, in the spelling of the disk
	if err != nil {
		return File{}, err
	}
	if n >= uint32(len(name)) {
		return File{}, errors.New("its path is too long")
	}
	f.Path, err = plain(windows.UTF16ToString(name[:n]))
	return f, err
}

// plain makes a final path one as policies write it. A link can lead to a share, and a
// volume can have no letter; neither has such a form.
func plain(final string) (string, error) {
	path, ok := strings.CutPrefix(final, `\\?\`)
	if !ok || !drive.Own(path) {
		return "", errors.New("it is on no drive of this host")
	}
	return path, nil
}

// holdProgram compares the file with the judged one and keeps it from being replaced
// until release (attack E6). It has to have the judged path still, without links: of a
// folder with something open in it no junction can be made, so nothing that CreateProcess
// walks through can lead elsewhere. The user's shell is compared with nothing.
func holdProgram(f File) (release func(), err error) {
	if f.Inode == 0 {
		return func() {}, nil
	}
	h, now, err := open(f.Path)
	if err != nil {
		return nil, fmt.Errorf("opening %q: %w", f.Path, err)
	}
	if now != f {
		_ = windows.CloseHandle(h)
		return nil, refusal.New(refusal.CommandNotFound, "it is not the file any more that the request was judged by")
	}
	return func() { _ = windows.CloseHandle(h) }, nil
}

// SealDescriptors has nothing to do: handles are inherited by name only.
func SealDescriptors() error { return nil }
