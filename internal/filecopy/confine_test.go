package filecopy

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

func TestI3FoldersOfThePolicyAreNotLeft(t *testing.T) {
	outer := t.TempDir()
	open, closed := filepath.Join(outer, "open"), filepath.Join(outer, "closed")
	for _, d := range []string{filepath.Join(open, "sub"), closed, open + "ed"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"out": closed, "up": "..", "in": "sub"} {
		if err := os.Symlink(to, filepath.Join(open, name)); err != nil {
			t.Skip(err)
		}
	}
	if err := os.Symlink(open, filepath.Join(outer, "alias")); err != nil {
		t.Skip(err)
	}
	for _, f := range []Folders{{open}, {open + "/"}, {filepath.Join(outer, "none"), open}, {filepath.Join(outer, "alias"), open}} {
		for _, name := range []string{open, open + "/sub", open + "/in", open + "/sub/../in"} {
			real, err := f.Resolve(name)
			if err != nil {
				t.Errorf("%q in %q: %v", name, f, err)
				continue
			}
			root, err := f.OpenFolder(real)
			if err != nil {
				t.Errorf("opening %q in %q: %v", name, f, err)
				continue
			}
			_ = root.Close()
		}
		if _, err := f.Resolve(open + "/none/none"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a name inside that is not there: %v", err)
		}
		for _, name := range []string{closed, open + "ed", outer, "/", open + "/..", open + "/../closed", open + "/out", open + "/up/closed", closed + "/none", open + "/out/none", open + "/out/none/none"} {
			if real, err := f.Resolve(name); refusal.Of(err) != refusal.PolicyDenied {
				t.Errorf("%q in %q is %q, %v", name, f, real, err)
			}
			if root, err := f.OpenFolder(filepath.Clean(name)); err == nil {
				_ = root.Close()
				t.Errorf("%q in %q was opened", name, f)
			}
		}
	}
}

// Who may write in an outer folder exchanges a folder that others read in for a link.
func TestI3ARootThatBecameALinkOpensNothing(t *testing.T) {
	outer, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	srv, secret := filepath.Join(outer, "srv"), filepath.Join(outer, "secret")
	pub := filepath.Join(srv, "pub")
	for _, d := range []string{filepath.Join(pub, "docs"), filepath.Join(secret, "docs")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(pub, pub+"2"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../secret", pub); err != nil {
		t.Skip(err)
	}
	for _, f := range []Folders{{pub}, {pub + "/docs"}, {srv, pub}, {pub, srv}} {
		for _, name := range []string{pub, pub + "/docs", pub + "/none", secret, secret + "/docs"} {
			if real, err := f.Resolve(name); refusal.Of(err) != refusal.PolicyDenied {
				t.Errorf("%q in %q is %q, %v", name, f, real, err)
			}
			if root, err := f.OpenFolder(name); err == nil {
				_ = root.Close()
				t.Errorf("%q in %q was opened", name, f)
			}
		}
	}
}
