package membership

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// copyOf makes a second descriptor of a file that is open here, as a fork does.
func copyOf(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		var fd int
		if at, _ := os.Readlink("/proc/self/fd/" + e.Name()); at != path {
			continue
		}
		if _, err := fmt.Sscan(e.Name(), &fd); err != nil {
			t.Fatal(err)
		}
		second, err := syscall.Dup(fd)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Close(second) })
		return
	}
	t.Fatalf("%q is not open", path)
}

// An agent that stopped in order is followed by the next one at once, whatever was
// just being started elsewhere in the process.
func TestLockEndsAlthoughAForkedProcessHasACopy(t *testing.T) {
	dir := t.TempDir()
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	copyOf(t, filepath.Join(dir, lockFile))
	if _, err := Lock(dir); err == nil {
		t.Fatal("two agents on one folder")
	}
	unlock()
	again, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock() // a second time is nothing, above all not the end of another's lock
	if _, err := Lock(dir); err == nil {
		t.Error("two agents on one folder")
	}
	again()
}
