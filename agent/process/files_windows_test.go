//go:build windows

package process

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"

	"github.com/tucdesk/tucdesk/internal/drive"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

func TestOnlyFilesThatWindowsRunsItselfAreFound(t *testing.T) {
	dir := folder(t)
	for _, name := range []string{"tool.exe", "batch.bat", "batch.cmd", "script.ps1", "plain"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("MZ"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, code := range map[string]refusal.Code{
		`.\tool.exe`: "", `.\tool`: "", `./TOOL.EXE`: "", filepath.Join(dir, "tool"): "", "cmd": "", "cmd.exe": "",
		`.\batch.bat`: refusal.NotExecutable, `.\batch.cmd`: refusal.NotExecutable, `.\batch.bat.`: refusal.NotExecutable, `.\script.ps1`: refusal.NotExecutable, `.\plain`: refusal.NotExecutable,
		"NUL": refusal.NotExecutable, `.\batch`: refusal.CommandNotFound, "tool": refusal.CommandNotFound, `\tool.exe`: refusal.CommandNotFound,
		filepath.Join(dir, "plain:tool.exe"): refusal.CommandNotFound, `\\server\share\tool.exe`: refusal.CommandNotFound,
		`\\?\` + filepath.Join(dir, "tool.exe"): refusal.CommandNotFound, `\\.\pipe\tool.exe`: refusal.CommandNotFound, "C:tool.exe": refusal.CommandNotFound,
	} {
		f, err := Resolve(name, dir)
		if got := refusal.Of(err); got != code || code == "" && (f.Inode == 0 || !drive.Own(f.Path)) {
			t.Errorf("%q: %+v, %v", name, f, err)
		}
	}
}

func TestE6AFileThatWasReplacedDoesNotRun(t *testing.T) {
	dir := folder(t)
	path, other := filepath.Join(dir, "tool.exe"), filepath.Join(dir, "other.exe")
	for _, name := range []string{path, other} {
		if err := os.WriteFile(name, []byte("MZ"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Resolve(path, dir)
	if err != nil {
		t.Fatal(err)
	}
	release, err := holdProgram(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, path); err == nil {
		t.Error("a file was replaced between judging and running it")
	}
	if _, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
		t.Error("a file could be written to between judging and running it")
	}
	release()
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Spec{File: f, Argv: []string{"tool"}, Dir: dir}); refusal.Of(err) != refusal.CommandNotFound {
		t.Errorf("%v", err)
	}
}

// Policies judge by paths, so one file has one, whatever way leads to it.
func TestAProgramHasOnePath(t *testing.T) {
	dir := folder(t)
	path := filepath.Join(dir, "tool.exe")
	if err := os.WriteFile(path, []byte("MZ"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Resolve(path, dir)
	if err != nil {
		t.Fatal(err)
	}
	by := filepath.Join(dir, "by")
	if err := junction(by, dir); err != nil {
		t.Logf("no junction to try it with: %v", err) // Wine 8 makes none
		by = dir + `\..\` + filepath.Base(dir)
	} else {
		defer os.Remove(by)
	}
	for _, name := range []string{by + `\tool`, by + `\TOOL.exe`, strings.ToLower(path)} {
		if got, err := Resolve(name, dir); err != nil || got != f {
			t.Errorf("%q: %+v, %v, want %+v", name, got, err, f)
		}
	}
	crooked := f
	crooked.Path = by + `\tool.exe`
	if release, err := holdProgram(crooked); refusal.Of(err) != refusal.CommandNotFound {
		t.Errorf("a way that may lead elsewhere next time: %v", err)
		if err == nil {
			release()
		}
	}
}

// junction makes the folder from lead to another one.
func junction(from, to string) error {
	if err := os.Mkdir(from, 0o700); err != nil {
		return err
	}
	err := mount(from, to)
	if err != nil {
		_ = os.Remove(from)
	}
	return err
}

// mount writes what a junction is, as Windows keeps it: kind and length, offset and
// length of the name to go to and of the one to show, both ended by a zero.
func mount(from, to string) error {
	name, err := windows.UTF16FromString(`\??\` + to)
	if err != nil {
		return err
	}
	size := uint16(2 * (len(name) - 1))
	b := binary.LittleEndian.AppendUint32(nil, windows.IO_REPARSE_TAG_MOUNT_POINT)
	for _, v := range append([]uint16{8 + size + 4, 0, 0, size, size + 2, 0}, append(name, 0)...) {
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	path, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	h, err := windows.CreateFile(path, windows.GENERIC_WRITE, 0, nil, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(h)
	var n uint32
	return windows.DeviceIoControl(h, windows.FSCTL_SET_REPARSE_POINT, &b[0], uint32(len(b)), nil, 0, &n, nil)
}

func TestAFinalPathIsOnADrive(t *testing.T) {
	if got, err := plain(`\\?\C:\Users\a b.exe`); err != nil || got != `C:\Users\a b.exe` {
		t.Errorf("%q, %v", got, err)
	}
	for _, final := range []string{"", `C:\a.exe`, `\\?\`, `\\?\UNC\host\share\a.exe`, `\\?\Volume{01234567-89ab-cdef-0123-456789abcdef}\a.exe`, `\\?\C:\a:b.exe`, `\\host\share\a.exe`} {
		if got, err := plain(final); err == nil {
			t.Errorf("%q is %q", final, got)
		}
	}
}

func TestAFolderIsOnADrive(t *testing.T) {
	for _, dir := range []string{`\\server\share`, `\`, "", `\\.\C:\`, `C:\no such folder`, "C:"} {
		if _, err := Start(Spec{File: self(t), Argv: []string{"helper"}, Dir: dir}); refusal.Of(err) != refusal.BadArgument {
			t.Errorf("%q: %v", dir, err)
		}
	}
}
