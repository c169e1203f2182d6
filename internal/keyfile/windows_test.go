//go:build windows

package keyfile_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/windows"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// folder is a new private one. That of testing is removed by a call that Wine 8 lacks.
func folder(t *testing.T) string {
	t.Helper()
	outer, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(outer, "state")
	if err := keyfile.CreateDir(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		list, _ := os.ReadDir(dir)
		for _, e := range list {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err := errors.Join(os.Remove(dir), os.Remove(outer)); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// open gives a right to everybody.
func open(t *testing.T, path, rights string) {
	t.Helper()
	sd, err := windows.SecurityDescriptorFromString("D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;" + rights + ";;;WD)")
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := sd.DACL()
	if err != nil {
		t.Fatal(err)
	}
	if err := windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, list, nil); err != nil {
		t.Fatal(err)
	}
}

func TestB17KeyFileOthersCanReach(t *testing.T) {
	dir := folder(t)
	path := filepath.Join(dir, "identity")
	made, err := keyfile.CreateKey[key.Agent](path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := keyfile.LoadKey[key.Agent](path); err != nil || got.Public() != made.Public() {
		t.Fatalf("%v", err)
	}
	if _, err := keyfile.CreateKey[key.Agent](path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second key: %v", err)
	}
	for _, rights := range []string{"FR", "FA"} {
		open(t, path, rights)
		if _, err := keyfile.LoadKey[key.Agent](path); refusal.Of(err) != refusal.BadFileMode {
			t.Errorf("everybody has %s: %v", rights, err)
		}
	}
	open(t, dir, "FR")
	if err := keyfile.CheckDir(dir); err != nil {
		t.Errorf("a folder that others may list: %v", err)
	}
	open(t, dir, "FA")
	if err := keyfile.CheckDir(dir); refusal.Of(err) != refusal.BadFileMode {
		t.Errorf("a folder that others may write to: %v", err)
	}
}

func TestAFileIsReplacedWhenItsReaderIsDone(t *testing.T) {
	path := filepath.Join(folder(t), "status.json")
	for _, text := range []string{"one", "two"} {
		if err := keyfile.WriteAtomic(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	begun, done := make(chan bool), make(chan error)
	go func() {
		close(begun)
		done <- keyfile.WriteAtomic(path, []byte("three"), 0o600)
	}()
	<-begun
	got := make([]byte, 3)
	if _, err := reader.Read(got); err != nil || string(got) != "two" {
		t.Errorf("%q, %v", got, err)
	}
	_ = reader.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(path); err != nil || !bytes.Equal(text, []byte("three")) {
		t.Errorf("%q, %v", text, err)
	}
}
