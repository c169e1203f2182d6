//go:build unix

package keyfile_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

func TestCreateThenLoadGivesTheSameKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity")
	made, err := keyfile.CreateKey[key.Agent](path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := keyfile.LoadKey[key.Agent](path)
	if err != nil {
		t.Fatal(err)
	}
	if got.Public() != made.Public() {
		t.Error("loaded key differs from the created one")
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("key file has mode %v", info.Mode())
	}
}

func TestCreateNeverOverwrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity")
	if _, err := keyfile.CreateKey[key.Agent](path); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	if _, err := keyfile.CreateKey[key.Agent](path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second CreateKey: %v, want fs.ErrExist", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the first key was touched")
	}
}

func TestB17KeyFileOthersCanReach(t *testing.T) {
	for _, mode := range []fs.FileMode{0o644, 0o640, 0o604, 0o660, 0o601} {
		path := filepath.Join(t.TempDir(), "identity")
		if _, err := keyfile.CreateKey[key.Agent](path); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := keyfile.LoadKey[key.Agent](path)
		if refusal.Of(err) != refusal.BadFileMode {
			t.Errorf("mode %v: %v, want bad_file_mode", mode, err)
		} else if !strings.Contains(err.Error(), "chmod 600") || !strings.Contains(err.Error(), path) {
			t.Errorf("mode %v: %q names neither path nor mend", mode, err)
		}
	}
}

func TestB17SymlinkAndForeignOwner(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	if _, err := keyfile.CreateKey[key.Agent](real); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	if _, err := keyfile.LoadKey[key.Agent](link); refusal.Of(err) != refusal.BadFileMode {
		t.Errorf("symlink: %v, want bad_file_mode", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("giving the file to another user needs root: run the test as root")
	}
	if err := os.Chown(real, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if _, err := keyfile.LoadKey[key.Agent](real); refusal.Of(err) != refusal.BadFileMode {
		t.Errorf("foreign owner: %v, want bad_file_mode", err)
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("there is no user nobody: run the test where there is one")
	}
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(real, uid, uid); err != nil {
		t.Fatal(err)
	}
	if _, err := keyfile.LoadKey[key.Agent](real); err == nil || !strings.Contains(err.Error(), "as nobody") || strings.Contains(err.Error(), "chown") {
		t.Errorf("root, of a service's file: %v, want the owner's name, and no chown that takes it away", err)
	}
}

func TestDamagedKeyFileSaysSoAndLeaksNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity")
	if _, err := keyfile.CreateKey[key.Agent](path); err != nil {
		t.Fatal(err)
	}
	whole, _ := os.ReadFile(path)
	for n := range len(whole) - 1 {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := keyfile.LoadKey[key.Agent](path)
		if err == nil {
			t.Fatalf("a key file cut to %d bytes was taken", n)
		}
		if n > 20 && strings.Contains(err.Error(), string(whole[13:20])) {
			t.Fatal("the error shows the seed")
		}
	}
}

func TestWriteAtomicReplacesAsAWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	for _, want := range []string{"first", "second, longer", "3"} {
		if err := keyfile.WriteAtomic(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := keyfile.ReadPrivate(path, 100); err != nil || string(got) != want {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	}
	if names, _ := os.ReadDir(filepath.Dir(path)); len(names) != 1 {
		t.Errorf("%d files are left, want 1", len(names))
	}
	if _, err := keyfile.ReadPrivate(path, 0); err == nil {
		t.Error("a file over the limit was read")
	}
}

func TestWritableFolderIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := keyfile.CreateDir(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := keyfile.CheckDir(dir); refusal.Of(err) != refusal.BadFileMode {
		t.Errorf("%v, want bad_file_mode", err)
	}
}
