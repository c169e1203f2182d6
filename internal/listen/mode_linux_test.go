package listen

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"
)

// attributeChanges counts what changed the mode of anything in dir, until called.
func attributeChanges(t *testing.T, dir string) func() int {
	t.Helper()
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if _, err := syscall.InotifyAddWatch(fd, dir, syscall.IN_ATTRIB|syscall.IN_CREATE|syscall.IN_MOVED_TO); err != nil {
		t.Fatal(err)
	}
	return func() (changes int) {
		b := make([]byte, 64<<10)
		n, err := syscall.Read(fd, b)
		if err != nil && !errors.Is(err, syscall.EAGAIN) {
			t.Fatal(err)
		}
		for b = b[:max(n, 0)]; len(b) >= syscall.SizeofInotifyEvent; {
			e := (*syscall.InotifyEvent)(unsafe.Pointer(&b[0]))
			if e.Mask&syscall.IN_ATTRIB != 0 {
				changes++
			}
			b = b[syscall.SizeofInotifyEvent+int(e.Len):]
		}
		return changes
	}
}

// The mode is right when the file appears, and no step after that sets it.
func TestP3ASocketIsOneUsersFromItsFirstMomentOn(t *testing.T) {
	dir := t.TempDir()
	changes := attributeChanges(t, dir)
	l, err := Socket(t.Context(), filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Lstat(filepath.Join(dir, "s"))
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if n := changes(); n != 0 {
		t.Errorf("its mode was set %d times after it could be seen", n)
	}
}
