package files

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/pkg/sftp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client is one that speaks with Serve.
func client(t *testing.T, cfg Config) *sftp.Client {
	t.Helper()
	t.Chdir(cfg.Home) // and back
	in, toServer := io.Pipe()
	fromServer, out := io.Pipe()
	served := make(chan error, 1)
	go func() {
		err := Serve(in, out, cfg)
		_ = out.Close()
		served <- err
	}()
	c, err := sftp.NewClientPipe(fromServer, toServer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		_ = toServer.Close()
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	return c
}

func TestFilesAreReadAndWrittenBelowHome(t *testing.T) {
	home := t.TempDir()
	c := client(t, Config{Home: home, Write: true})
	f, err := c.Create("new")
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	got, err := os.ReadFile(filepath.Join(home, "new"))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes: %v", len(got), err)
	}
}

// Whoever may only read changes nothing, by whatever request.
func TestReadOnlyChangesNothing(t *testing.T) {
	home := t.TempDir()
	file := filepath.Join(home, "f")
	if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := client(t, Config{Home: home})
	for name, change := range map[string]func() error{
		"create":       func() error { _, err := c.Create("g"); return err },
		"write":        func() error { _, err := c.OpenFile("f", os.O_WRONLY); return err },
		"append":       func() error { _, err := c.OpenFile("f", os.O_RDWR|os.O_APPEND); return err },
		"truncate":     func() error { return c.Truncate("f", 0) },
		"remove":       func() error { return c.Remove("f") },
		"rename":       func() error { return c.Rename("f", "g") },
		"posix-rename": func() error { return c.PosixRename("f", "g") },
		"mkdir":        func() error { return c.Mkdir("d") },
		"chmod":        func() error { return c.Chmod("f", 0o777) },
		"symlink":      func() error { return c.Symlink("f", "g") },
		"link":         func() error { return c.Link("f", "g") },
	} {
		if change() == nil {
			t.Errorf("%s is allowed", name)
		}
	}
	list, err := c.ReadDir(".")
	if err != nil || len(list) != 1 || list[0].Mode() != 0o644 {
		t.Errorf("the folder holds %v, %v", list, err)
	}
	if got, err := os.ReadFile(file); string(got) != "old" {
		t.Errorf("the file holds %q, %v", got, err)
	}
}
