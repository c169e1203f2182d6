package send

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tucdesk/tucdesk/internal/filecopy"
)

// watched tells whether anybody has opened one of some folders since the last call.
func watched(t *testing.T, folders ...string) func() bool {
	t.Helper()
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	if err != nil {
		t.Skipf("no inotify: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	for _, f := range folders {
		if _, err := syscall.InotifyAddWatch(fd, f, syscall.IN_OPEN); err != nil {
			t.Skip(err)
		}
	}
	return func() bool {
		n, _ := syscall.Read(fd, make([]byte, 1<<16))
		return n > 0
	}
}

// A pattern is matched in the folders of the policy and by their names. What lies beside
// them is not walked: how long that takes tells what is there.
func TestI3PatternsLookAtNothingOutside(t *testing.T) {
	top := t.TempDir()
	for _, name := range []string{"srv/in/a/1.log", "srv/in/a/2.log", "srv/in/b/3.txt", "srv/out/9.log", "other/deep/8.log", "srv/side/deep/7.log"} {
		if err := os.MkdirAll(filepath.Join(top, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(top, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../side", filepath.Join(top, "srv/in/l")); err != nil {
		t.Skip(err)
	}
	if err := os.Symlink("a", filepath.Join(top, "srv/in/m")); err != nil {
		t.Skip(err)
	}
	roots := filecopy.Folders{filepath.Join(top, "srv/in"), filepath.Join(top, "srv/out"), filepath.Join(top, "srv/none")}
	opened := watched(t, filepath.Join(top, "other"), filepath.Join(top, "other/deep"), filepath.Join(top, "srv/side"), filepath.Join(top, "srv/side/deep"))
	for pattern, want := range map[string]string{
		"srv/*":            "srv/in srv/out",
		"*/*/*":            "srv/in/a srv/in/b srv/in/m srv/out/9.log",
		"*/*/*/*.log":      "srv/in/a/1.log srv/in/a/2.log srv/in/m/1.log srv/in/m/2.log",
		"srv/in/*/[13].*":  "srv/in/a/1.log srv/in/b/3.txt srv/in/m/1.log",
		"srv/*/a/1.log":    "srv/in/a/1.log",
		"srv/in/*/1.log":   "srv/in/a/1.log srv/in/m/1.log",
		"srv/in/l/*/*":     "",
		"srv/in/*/deep/*":  "",
		"other/*/*":        "",
		"srv/in/../side/*": "",
		"srv/*/../side/*":  "",
		"srv/no*/*":        "",
	} {
		got, err := Expand([]string{filepath.Join(top) + "/" + pattern}, "/", roots)
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			want = pattern // stays as it is, to be refused by its name
		}
		for i := range got {
			got[i] = strings.TrimPrefix(got[i], top+"/")
		}
		if !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: %q, want %s", pattern, got, want)
		}
		if opened() {
			t.Errorf("%s was looked for outside", pattern)
		}
	}
	if all, err := Expand([]string{top + "/*/deep/*"}, "/", nil); err != nil || len(all) != 1 || !opened() {
		t.Errorf("without folders: %q, %v, and nothing was seen", all, err)
	}
}
