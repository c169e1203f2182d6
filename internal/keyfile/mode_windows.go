package keyfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/tucdesk/tucdesk/internal/acl"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Rights of access lists by which others could read, or put something else in place.
const (
	mayRead  = windows.FILE_READ_DATA | windows.GENERIC_READ | windows.GENERIC_ALL
	mayWrite = windows.FILE_WRITE_DATA | windows.FILE_APPEND_DATA | fileDeleteChild | windows.DELETE | windows.WRITE_DAC | windows.WRITE_OWNER |
		windows.GENERIC_WRITE | windows.GENERIC_ALL
	fileDeleteChild = 0x40
)

// allowedTypes are the entries of an access list that give something: plain ones, those
// for an object, and both with a condition.
const (
	aceAllowed         = 0
	aceAllowedObject   = 5
	aceAllowedCallback = 9
	aceAllowedBoth     = 11
)

func checkPrivate(f *os.File, _ fs.FileInfo) error {
	if err := checkAccess(f, mayRead|mayWrite); err != nil {
		return refusal.New(refusal.BadFileMode, "%q: %v: run icacls %q /inheritance:r /grant:r \"%%USERNAME%%:F\"", f.Name(), err, f.Name())
	}
	return nil
}

func checkDirPrivate(path string, _ fs.FileInfo) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening folder %q: %w", path, unwrapPath(err))
	}
	defer f.Close()
	if err := checkAccess(f, mayWrite); err != nil {
		return refusal.New(refusal.BadFileMode, "folder %q: %v: run icacls %q /inheritance:r /grant:r \"%%USERNAME%%:(OI)(CI)F\"", path, err, path)
	}
	return nil
}

// checkAccess refuses what is not ours, or whose access list gives one of the rights to
// others. The machine itself and its administrators are none: they can take any right.
// What cannot be read or understood is refused. It asks about what is open, since by its
// name another file could be found in between.
func checkAccess(f *os.File, rights windows.ACCESS_MASK) error {
	sd, err := windows.GetSecurityInfo(windows.Handle(f.Fd()), windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("reading its access list: %v", err)
	}
	self, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return fmt.Errorf("reading whose process this is: %v", err)
	}
	owner, _, err := sd.Owner()
	if err != nil || owner == nil || !trusted(owner, self.User.Sid) {
		return errors.New("it belongs to another user")
	}
	list, _, err := sd.DACL()
	if err != nil || list == nil { // without a list everybody may do everything
		return errors.New("it has no access list")
	}
	for i := range uint32(list.AceCount) {
		var entry *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(list, i, &entry); err != nil {
			return fmt.Errorf("reading its access list: %v", err)
		}
		if entry.Header.AceFlags&windows.INHERIT_ONLY_ACE != 0 || entry.Mask&rights == 0 {
			continue
		}
		switch entry.Header.AceType {
		case aceAllowed:
			if !trusted((*windows.SID)(unsafe.Pointer(&entry.SidStart)), self.User.Sid) {
				return errors.New("others may read it or write to it")
			}
		case aceAllowedObject, aceAllowedCallback, aceAllowedBoth:
			return errors.New("its access list has entries of an unusual kind")
		}
	}
	return nil
}

// trusted are this user, the system, administrators, and whoever is the owner, who is
// one of them.
func trusted(sid, self *windows.SID) bool {
	return sid.Equals(self) || sid.IsWellKnown(windows.WinLocalSystemSid) || sid.IsWellKnown(windows.WinBuiltinAdministratorsSid) ||
		sid.IsWellKnown(windows.WinCreatorOwnerRightsSid)
}

// makeDir makes a folder that only this user, the system and administrators may open,
// and what is made in it likewise, whatever is the custom of the folder above: that of a
// drive lets every user write.
func makeDir(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	sa, err := acl.Attributes(acl.Private)
	if err != nil {
		return err
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return err
	}
	if err := windows.CreateDirectory(name, sa); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// createNew makes a file that was not there, private from its first moment, in whatever
// folder.
func createNew(path string) (*os.File, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	sa, err := acl.Attributes(acl.Private)
	if err != nil {
		return nil, err
	}
	h, err := windows.CreateFile(name, windows.GENERIC_READ|windows.GENERIC_WRITE, windows.FILE_SHARE_READ, sa, windows.CREATE_NEW, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(h), path), nil
}

// createTemp makes a file of a new name beside path. It is private whatever mode says.
func createTemp(path string, _ fs.FileMode) (*os.File, error) {
	return createNew(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+rand.Text()))
}

// replaceWithin is how long a file may be held open by who looks at new files, as
// scanners do; our choice.
const replaceWithin = 2 * time.Second

// replace renames a file over another one and returns when that is on the disk. Nobody
// may have the other one open at that moment, so it is tried again.
func replace(from, to string) error {
	old, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	name, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(replaceWithin)
	for pause := time.Millisecond; ; pause *= 2 {
		err := windows.MoveFileEx(old, name, windows.MOVEFILE_REPLACE_EXISTING|windows.MOVEFILE_WRITE_THROUGH)
		if err == nil || time.Now().After(deadline) || !errors.Is(err, windows.ERROR_SHARING_VIOLATION) && !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
			return err
		}
		time.Sleep(pause)
	}
}

// syncDir does nothing: NTFS journals names, and replace waits for that.
func syncDir(string) error { return nil }
