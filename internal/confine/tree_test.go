package confine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// disk makes files of a test; what ends in a slash is a folder.
func disk(t *testing.T, names ...string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if name[len(name)-1] == '/' {
			err = errors.Join(err, os.MkdirAll(path, 0o755))
		} else {
			err = errors.Join(err, os.WriteFile(path, []byte(name), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func link(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		t.Skip(err)
	}
}

func opened(t *testing.T, roots ...string) *Tree {
	t.Helper()
	x, err := Open(roots)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	return x
}

// What a tree has opened it keeps: a folder that is exchanged for a link afterwards leads
// nowhere else.
func TestI3AFolderExchangedAfterwardsLeadsNowhere(t *testing.T) {
	dir := disk(t, "pub/docs/file", "secret/docs/file")
	x := opened(t, dir+"/pub")
	if err := os.Rename(dir+"/pub", dir+"/old"); err != nil {
		t.Fatal(err)
	}
	link(t, "secret", dir+"/pub")
	p, err := x.Find(dir+"/pub/docs/file", true)
	if err != nil {
		t.Fatal(err)
	}
	f, err := p.In.OpenFile(p.Rel, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 100)
	if n, _ := f.Read(b); string(b[:n]) != "pub/docs/file" {
		t.Errorf("it reads %q", b[:n])
	}
	if again, err := Open([]string{dir + "/pub"}); err == nil {
		t.Error("the link opens something for the next one")
	} else {
		again.Close()
	}
}

// Links are followed inside the folders of one tree, and a chain that leaves them on its
// way is outside even if it comes back.
func TestI3LinksAreFollowedInsideAlone(t *testing.T) {
	dir := disk(t, "a/file", "a/sub/", "b/file", "secret/file")
	for name, target := range map[string]string{
		"a/over": "../b/file", "a/abs": dir + "/b/file", "a/out": "../secret/file", "a/back": "../secret/home", "secret/home": "../a/file",
		"a/chain": "chain2", "a/chain2": "sub/up/file", "a/sub/up": "..", "a/loop": "loop", "a/dir": "../secret",
	} {
		link(t, target, filepath.Join(dir, name))
	}
	x := opened(t, dir+"/a", dir+"/b")
	for name, want := range map[string]string{"a/over": "b/file", "a/abs": "b/file", "a/chain": "a/file", "a/sub/up/sub/../file": "a/file", "a/none": "a/none"} {
		if p, err := x.Find(filepath.Join(dir, name), true); err != nil || p.Abs != filepath.Join(dir, want) {
			t.Errorf("%s leads to %q, %v", name, p.Abs, err)
		}
	}
	for _, name := range []string{"a/out", "a/back", "a/dir/file", "a/dir/none", "secret/file", "a/../secret/file", "ab"} {
		if p, err := x.Find(filepath.Join(dir, name), true); refusal.Of(err) != refusal.PolicyDenied {
			t.Errorf("%s leads to %q, %v", name, p.Abs, err)
		}
	}
	for _, name := range []string{dir + "/a/loop", "a/file", "", dir + "/a/\x00"} {
		if p, err := x.Find(name, true); err == nil {
			t.Errorf("%q leads to %q", name, p.Abs)
		}
	}
	if p, err := x.Find(dir+"/a/out", false); err != nil || p.Rel != "out" {
		t.Errorf("the link itself: %+v, %v", p, err)
	}
}

// No folder, or no tree, opens nothing; nil is everything.
func TestNothingIsNotEverything(t *testing.T) {
	dir := disk(t, "f")
	for _, roots := range [][]string{{}, {dir + "/none"}, {dir + "/f"}} {
		x, err := Open(roots)
		if err == nil || !x.Empty() || x.First() != "" {
			t.Errorf("%q opens something", roots)
		}
		if _, err := x.Find(dir+"/f", true); err == nil {
			t.Errorf("%q finds something", roots)
		}
		x.Close()
	}
	var none *Tree
	if !none.Empty() {
		t.Error("no tree opens something")
	}
	none.Close()
	all := opened(t)
	if p, err := all.Find(dir+"/f", true); err != nil || !p.Whole() {
		t.Errorf("everything: %+v, %v", p, err)
	}
	if _, err := all.Find(dir+"/none", true); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
