package files

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"go.uber.org/goleak"

	"github.com/tucdesk/tucdesk/internal/confine"
)

func TestMain(m *testing.M) {
	if home := os.Getenv(serveEnv); home != "" {
		os.Exit(actAsServer(home))
	}
	goleak.VerifyTestMain(m)
}

// tree opens folders for a test; none is everything.
func tree(t *testing.T, roots ...string) *confine.Tree {
	t.Helper()
	x, err := confine.Open(roots)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	return x
}

// client is one that speaks with Serve.
func client(t *testing.T, cfg Config) *sftp.Client {
	t.Helper()
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

// write makes a file for a test.
func write(t *testing.T, text string, path ...string) string {
	t.Helper()
	name := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// holds says what a file holds, or how it cannot be read.
func holds(c *sftp.Client, name string) string {
	f, err := c.Open(name)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// put writes a file through the client.
func put(c *sftp.Client, name, text string) error {
	f, err := c.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(text))
	return errors.Join(err, f.Close())
}

func TestFilesAreReadAndWrittenBelowHome(t *testing.T) {
	home := t.TempDir()
	c := client(t, Config{Home: home, Read: tree(t), Write: tree(t)})
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	if err := put(c, "new", string(data)); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(home, "new"))
	if err != nil || !bytes.Equal(got, data) || holds(c, "new") != string(data) {
		t.Errorf("%d bytes: %v", len(got), err)
	}
	f, err := c.OpenFile("new", os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("abc"), 3); err != nil {
		t.Error(err)
	}
	b := make([]byte, 5)
	if _, err := f.ReadAt(b, 2); err != nil || string(b) != "2abc6" {
		t.Errorf("reads %q, %v", b, err)
	}
}

// What OpenSSH's tools and sshfs ask for besides.
func TestWhatClientsAskForBesides(t *testing.T) {
	home := t.TempDir()
	write(t, "one", home, "a")
	c := client(t, Config{Home: home, Read: tree(t), Write: tree(t)})
	at := time.Unix(1_700_000_000, 0)
	for name, err := range map[string]error{
		"mkdir":        c.Mkdir("d"),
		"chmod":        c.Chmod("a", 0o640),
		"times":        c.Chtimes("a", at, at),
		"rename":       c.Rename("a", "d/b"),
		"again":        put(c, "a", "two"),
		"posix-rename": c.PosixRename("d/b", "a"),
		"link":         c.Link("a", "d/linked"),
		"symlink":      c.Symlink("../a", "d/symlink"),
		"remove":       c.Remove("d/linked"),
		"truncate":     c.Truncate("a", 2),
		"mkdir 2":      c.Mkdir("e"),
		"rmdir":        c.RemoveDirectory("e"),
	} {
		if err != nil && name != "posix-rename" && name != "link" && name != "remove" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.StatVFS("."); err != nil {
		t.Logf("statvfs: %v", err)
	}
	if dir, err := c.RealPath("d/../e/.."); err != nil || dir != filepath.ToSlash(home) {
		t.Errorf("realpath is %q, %v", dir, err)
	}
	if c.Rename("a", "d/symlink") == nil {
		t.Error("rename replaces what is there")
	}
	if c.Remove("d") == nil || c.RemoveDirectory("a") == nil {
		t.Error("a folder is removed as a file, or a file as a folder")
	}
}

// changes are every way to change something.
func changes(c *sftp.Client) map[string]func() error {
	return map[string]func() error{
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
	}
}

// Whoever may only read changes nothing, by whatever request.
func TestReadOnlyChangesNothing(t *testing.T) {
	home := t.TempDir()
	write(t, "old", home, "f")
	c := client(t, Config{Home: home, Read: tree(t)})
	for name, change := range changes(c) {
		if err := change(); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v", name, err)
		}
	}
	list, err := c.ReadDir(".")
	if err != nil || len(list) != 1 || list[0].Mode() != 0o644 || holds(c, "f") != "old" {
		t.Errorf("the folder holds %v, %v", list, err)
	}
}

// Whoever may only write puts files there and learns nothing of what was there but
// which folders there are.
func TestWriteOnlyReadsNothing(t *testing.T) {
	home := t.TempDir()
	write(t, "secret", home, "f")
	c := client(t, Config{Home: home, Write: tree(t, home)})
	if err := put(c, "new", "text"); err != nil {
		t.Error(err)
	}
	for name, look := range map[string]func() error{
		"read":     func() error { _, err := c.Open("f"); return err },
		"both":     func() error { _, err := c.OpenFile("f", os.O_RDWR); return err },
		"list":     func() error { _, err := c.ReadDir("."); return err },
		"stat":     func() error { _, err := c.Stat("f"); return err },
		"lstat":    func() error { _, err := c.Lstat("f"); return err },
		"readlink": func() error { _, err := c.ReadLink("f"); return err },
	} {
		if look() == nil {
			t.Errorf("%s tells something", name)
		}
	}
	there, err := c.Stat(".")
	if err != nil || !there.IsDir() || there.Size() != 0 || there.ModTime().Unix() != 0 {
		t.Errorf("the folder is %v, %v", there, err)
	}
	if got, err := os.ReadFile(filepath.Join(home, "new")); string(got) != "text" {
		t.Errorf("the new file holds %q, %v", got, err)
	}
}

// Both directions have folders of their own, and no name or link leads from one to
// the other.
func TestWhatMayBeWrittenIsNotReadByAnotherName(t *testing.T) {
	dir := t.TempDir()
	write(t, "secret", dir, "in", "f")
	write(t, "open", dir, "out", "f")
	write(t, "x", dir, "out", "in", "x")
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	inner := filepath.Join(out, "in")
	c := client(t, Config{Home: dir, Read: tree(t, out), Write: tree(t, in, inner)})
	for name, err := range map[string]error{
		"hard link into what is read":    c.Link(in+"/f", inner+"/f"),
		"rename into what is read":       c.PosixRename(in+"/f", inner+"/f"),
		"symlink into what is read":      c.Symlink(in+"/f", inner+"/s"), // made, and not followed
		"hard link of what is only read": c.Link(out+"/f", inner+"/h"),
		"rename of what is only read":    c.PosixRename(out+"/f", in+"/h"),
		"write to what is only read":     put(c, out+"/f", "changed"),
	} {
		if err == nil && name != "symlink into what is read" {
			t.Errorf("%s is done", name)
		}
	}
	if got := holds(c, inner+"/s"); got == "secret" {
		t.Error("a link shows what may not be read")
	}
	if got := holds(c, out+"/f"); got != "open" {
		t.Errorf("what may be read holds %q", got)
	}
	if err := put(c, inner+"/x", "new"); err != nil || holds(c, inner+"/x") != "new" {
		t.Errorf("what is in both: %v", err)
	}
}

func TestFoldersOfThePolicyThatAreNotThereAreLeftOut(t *testing.T) {
	dir := t.TempDir()
	write(t, "here", dir, "a", "f")
	c := client(t, Config{Home: "/nowhere", Read: tree(t, filepath.Join(dir, "b"), filepath.Join(dir, "a"))})
	if got := holds(c, "f"); got != "here" { // relative paths begin in the first one
		t.Errorf("reads %q", got)
	}
	if _, err := confine.Open([]string{filepath.Join(dir, "b")}); err == nil {
		t.Error("opens nothing")
	}
	if _, err := confine.Open([]string{}); err == nil { // and not everything
		t.Error("opens an empty list")
	}
	names, err := c.ReadDir(".")
	if err != nil || !slices.ContainsFunc(names, func(i fs.FileInfo) bool { return i.Name() == "f" }) {
		t.Errorf("lists %v, %v", names, err)
	}
}

func TestFilesThatAreOpenHaveABound(t *testing.T) {
	home := t.TempDir()
	write(t, "", home, "f")
	c := client(t, Config{Home: home, Read: tree(t)})
	var open []*sftp.File
	for range maxOpen {
		f, err := c.Open("f")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, f)
	}
	if _, err := c.Open("f"); err == nil {
		t.Error("one more is opened")
	}
	_ = open[0].Close()
	if f, err := c.Open("f"); err != nil {
		t.Error(err)
	} else {
		_ = f.Close()
	}
}
