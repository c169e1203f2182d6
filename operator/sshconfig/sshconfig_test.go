package sshconfig

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
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
		if _, err := f.uninstall(); err != nil {
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
	if _, err := f.uninstall(); err != nil {
		t.Errorf("where nothing was installed: %v", err)
	}
	if _, err := os.Stat(string(f)); !os.IsNotExist(err) {
		t.Errorf("it made %q: %v", f, err)
	}
	if err := f.install("x\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.uninstall(); err != nil {
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
	if _, err := f.uninstall(); err != nil {
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
	for _, want := range []string{"Host db web\n    HostName %h.tucdesk\nHost *.tucdesk db web\n", `ProxyCommand "/opt/a b/50%%/tucdesk" proxy --state "/home/x/state" -- %h`, `KnownHostsCommand "/opt/a b/50%%/tucdesk" ssh-config --state "/home/x/state" --known-hosts %H`} {
		if !strings.Contains(b, want) {
			t.Errorf("no %q in\n%s", want, b)
		}
	}
}

func TestOnlyBareNamesGetTheSuffix(t *testing.T) {
	if b := (block{program: "/opt/tucdesk"}).String(); strings.Contains(b, "HostName ") || !strings.Contains(b, "\nHost *.tucdesk\n") {
		t.Errorf("without names:\n%s", b)
	}
}

func TestPathsThatAShellWouldReadAreRefused(t *testing.T) {
	for _, path := range []string{"/a$(id)", "/a`id`", `/a"b`, "/a\nb"} {
		if quotable(path) {
			t.Errorf("%q is written", path)
		}
	}
}

func TestInstallWithoutATeamSaysHowToEnterOne(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	var out, talk bytes.Buffer
	status := cli.Run(t.Context(), &cli.IO{Out: &out, Err: &talk}, &cli.Command{Use: "tucdesk", Sub: []*cli.Command{Command()}},
		[]string{"ssh-config", "--install", "--state", filepath.Join(home, "none")})
	if status != cli.ExitNotLoggedIn || !strings.Contains(talk.String(), "hint: to enter a team: tucdesk login") {
		t.Errorf("status %d, said %q", status, talk.String())
	}
	if left, err := os.ReadDir(home); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

// OpenSSH takes the home from the list of accounts, not from $HOME.
func TestInstallClaimsNothingWhereSSHReadsAnotherHome(t *testing.T) {
	f, other := folder(t.TempDir()), folder(t.TempDir())
	if err := f.install("x\n"); err != nil {
		t.Fatal(err)
	}
	for _, reads := range []folder{"", f} {
		if got := f.installed(reads); !strings.Contains(got, "works now") {
			t.Errorf("ssh reads %q: %s", reads, got)
		}
	}
	got := f.installed(other)
	if strings.Contains(got, "works now") || !strings.Contains(got, other.config()) || !strings.Contains(got, "ssh -F "+f.dropIn()) {
		t.Errorf("said %s", got)
	}
}

func TestInstallRefusesAConfigurationThatSSHRefuses(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	f := folder(t.TempDir())
	if err := f.check(); err != nil {
		t.Errorf("without a file: %v", err)
	}
	if err := os.WriteFile(f.config(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, refused := range map[os.FileMode]bool{0o600: false, 0o644: false, 0o664: false, 0o666: true} {
		if err := os.Chmod(f.config(), mode); err != nil {
			t.Fatal(err)
		}
		var talk bytes.Buffer
		cli.Report(&talk, f.check())
		if strings.Contains(talk.String(), "hint: chmod go-w "+f.config()) != refused {
			t.Errorf("mode %o: said %q", mode, talk.String())
		}
		if group := mode == 0o664; strings.Contains(f.installed(f), "chmod g-w ") != (group || refused) {
			t.Errorf("mode %o: said %s", mode, f.installed(f))
		}
	}
}

// Both answers are said: silence is what a typing error in a script looks like.
func TestUninstallSaysWhatItRemoved(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	f, err := sshFolder()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.install("text\n"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"removed ", "nothing to remove"} {
		var talk bytes.Buffer
		if err := remove(&cli.IO{Err: &talk}); err != nil || !strings.HasPrefix(talk.String(), want) {
			t.Errorf("%v, said %q, want %q", err, talk.String(), want)
		}
	}
}
