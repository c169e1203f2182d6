package sshconfig

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestInstallIncludesOnceAndUninstallLeavesTheFileAsItWas(t *testing.T) {
	const own = "# mine\r\nHost *\n  User me\n\nMatch all\n"
	f := folder(t.TempDir())
	if err := os.WriteFile(f.config(), []byte(own), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"first\n", "second\n"} {
		if err := f.install(text); err != nil {
			t.Fatal(err)
		}
		if got := read(t, f.config()); got != include+own {
			t.Errorf("the file is %q", got)
		}
		if got := read(t, f.dropIn()); got != text {
			t.Errorf("the drop-in is %q", got)
		}
	}
	for range 2 {
		if err := f.uninstall(); err != nil {
			t.Fatal(err)
		}
		if got := read(t, f.config()); got != own {
			t.Errorf("after uninstalling the file is %q", got)
		}
	}
	if info, err := os.Stat(f.config()); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := os.Stat(f.dropIn()); !os.IsNotExist(err) {
		t.Errorf("the drop-in is still there: %v", err)
	}
}

// Where there was nothing before, nothing is left: not an empty file or folder either.
func TestUninstallLeavesNothingThatWasNotThere(t *testing.T) {
	f := folder(filepath.Join(t.TempDir(), ".ssh"))
	if err := f.uninstall(); err != nil {
		t.Errorf("where nothing was installed: %v", err)
	}
	if _, err := os.Stat(string(f)); !os.IsNotExist(err) {
		t.Errorf("it made %q: %v", f, err)
	}
	if err := f.install("x\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.uninstall(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(string(f)); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if err := f.install("x\n"); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(filepath.Dir(f.dropIn()), "work")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.uninstall(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("a file of the person's own: %v", err)
	}
}

func TestInstallKeepsALinkedConfigurationALink(t *testing.T) {
	f := folder(t.TempDir())
	real := filepath.Join(t.TempDir(), "dotfiles-config")
	if err := os.WriteFile(real, []byte("Host a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, f.config()); err != nil {
		t.Skip("this system makes no links:", err)
	}
	if err := f.install("x\n"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(f.config()); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v", err)
	}
	if got := read(t, real); got != include+"Host a\n" {
		t.Errorf("the file behind the link is %q", got)
	}
}

func TestBareNamesWithADotAreNotTaken(t *testing.T) {
	got := bare([]string{"web", "github.com", "db", "web"})
	if !slices.Equal(got, []string{"db", "web"}) {
		t.Errorf("got %q", got)
	}
	b := block{program: "/opt/a b/50%/tucdesk", state: "/home/x/state", names: got}.String()
	for _, want := range []string{"Host *.tucdesk db web\n", `ProxyCommand "/opt/a b/50%%/tucdesk" proxy --state "/home/x/state" -- %h`, `KnownHostsCommand "/opt/a b/50%%/tucdesk" ssh-config --state "/home/x/state" --known-hosts %H`} {
		if !strings.Contains(b, want) {
			t.Errorf("no %q in\n%s", want, b)
		}
	}
}

func TestPathsThatAShellWouldReadAreRefused(t *testing.T) {
	for _, path := range []string{"/a$(id)", "/a`id`", `/a"b`, "/a\nb"} {
		if quotable(path) {
			t.Errorf("%q is written", path)
		}
	}
}
