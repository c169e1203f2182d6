//go:build unix

package files

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pkg/sftp"

	"github.com/tucdesk/tucdesk/internal/confine"
)

// steps are requests of which an attack needs each; the refusal of any ends it.
type steps []func() error

// run does them until one is refused.
func (s steps) run() {
	for _, do := range s {
		if do() != nil {
			return
		}
	}
}

// nested is a folder that may be read below one that may be written.
func nested(t *testing.T) (dir string, session func() *sftp.Client) {
	dir = t.TempDir()
	write(t, "open", dir, "srv", "pub", "file")
	write(t, "secret", dir, "srv", "wonly", "file")
	write(t, "secret", dir, "secret", "key")
	return dir, func() *sftp.Client {
		return client(t, Config{Home: dir, Read: tree(t, dir+"/srv/pub"), Write: tree(t, dir+"/srv")})
	}
}

func TestI3FolderOfThePolicyBecomesALinkForTheNextSession(t *testing.T) {
	dir, session := nested(t)
	srv := dir + "/srv"
	c := session()
	steps{
		func() error { return c.Rename(srv+"/pub", srv+"/pub.old") },
		func() error { return c.Mkdir(srv + "/s") },
		func() error { return c.Mkdir(srv + "/s/t") },
		func() error { return c.Symlink(srv, srv+"/s/t/up") },
		func() error { return c.Symlink("s/t/up/../secret", srv+"/pub") },
	}.run()
	if got := holds(session(), srv+"/pub/key"); got == "secret" {
		t.Error("the next session reads outside")
	}
}

// Each way to take a folder of the policy, or one above it, from its place.
func TestI3FoldersOfThePolicyStayWhatTheyAre(t *testing.T) {
	dir := t.TempDir()
	write(t, "open", dir, "srv", "a", "pub", "file")
	write(t, "", dir, "srv", "x", "file")
	if err := os.Symlink("srv", dir+"/alias"); err != nil { // the policy may name it by a link, which opens nothing and still has its place
		t.Fatal(err)
	}
	srv := dir + "/srv"
	c := client(t, Config{Home: srv, Read: tree(t, srv+"/a/pub", dir+"/alias/a/pub", dir+"/alias/later"), Write: tree(t, srv)})
	for name, err := range map[string]error{
		"rename":              c.Rename("a/pub", "a/old"),
		"posix-rename":        c.PosixRename("a/pub", "a/old"),
		"rename of above":     c.PosixRename("a", "b"),
		"posix-rename over":   c.PosixRename("x", "a/pub"),
		"rename to later":     c.Rename("x", "later"),
		"symlink at later":    c.Symlink("x", "later"),
		"link at later":       c.Link("x/file", "later"),
		"rmdir":               c.RemoveDirectory("a/pub"),
		"remove":              c.Remove("a/pub"),
		"rename of the root":  c.Rename(srv, srv+"/y"),
		"remove of the root":  c.RemoveDirectory(srv),
		"symlink at the root": c.Symlink("x", srv),
	} {
		if err == nil {
			t.Errorf("%s is done", name)
		}
	}
	if got := holds(c, srv+"/a/pub/file"); got != "open" {
		t.Errorf("the file holds %q", got)
	}
	if err := c.Mkdir("later"); err != nil {
		t.Error(err)
	}
	if c.PosixRename("x/file", "later/file") == nil {
		t.Error("what may not be read moves to where the next session reads it")
	}
}

// Another program of the machine, or a person with a shell, exchanges a folder of the
// policy for a link: sessions after that get nothing through it.
func TestI3ARootThatAnotherProgramMadeALinkOpensNothing(t *testing.T) {
	dir := t.TempDir()
	write(t, "secret", dir, "secret", "key")
	if err := os.Symlink("secret", dir+"/pub"); err != nil {
		t.Fatal(err)
	}
	for _, roots := range [][]string{{dir + "/pub"}, {dir + "/pub/"}, {dir + "/secret/../pub"}} {
		if x, err := confine.Open(roots); err == nil {
			t.Errorf("%q opens something", roots)
		} else {
			x.Close()
		}
	}
	write(t, "open", dir, "srv", "file")
	c := client(t, Config{Home: dir, Read: tree(t, dir+"/pub", dir+"/srv")})
	if got := holds(c, dir+"/pub/key"); got == "secret" {
		t.Error("reads outside")
	}
	if got := holds(c, dir+"/srv/file"); got != "open" {
		t.Errorf("the other folder's file is %q", got)
	}
}

// Inner folders are opened from the outer ones, so a link at their place stays inside.
func TestI3InnerFolderIsALinkThatLeadsOut(t *testing.T) {
	dir := t.TempDir()
	write(t, "secret", dir, "secret", "key")
	write(t, "open", dir, "srv", "file")
	if err := os.Symlink("../secret", dir+"/srv/pub"); err != nil {
		t.Fatal(err)
	}
	c := client(t, Config{Home: dir, Read: tree(t, dir+"/srv/pub", dir+"/srv")})
	if got := holds(c, dir+"/srv/pub/key"); got == "secret" {
		t.Error("reads outside")
	}
	if got := holds(c, dir+"/srv/file"); got != "open" {
		t.Errorf("the outer folder's file is %q", got)
	}
}

// The name of an unfinished copy says whose it is, and its operator is told hashes of it;
// so nothing gets such a name here, nor a second one.
func TestI9NothingIsRenamedToAnUnfinishedCopy(t *testing.T) {
	home := t.TempDir()
	write(t, "secret", home, "f")
	c := client(t, Config{Home: home, Write: tree(t, home)})
	for _, name := range []string{".x.tucdesk-part", ".x.TUCDESK-Part"} {
		for what, err := range map[string]error{"rename": c.Rename("f", name), "posix-rename": c.PosixRename("f", name), "link": c.Link("f", name)} {
			if err == nil {
				t.Errorf("%s to %s", what, name)
			}
		}
	}
	write(t, "part", home, ".x.tucdesk-part")
	if err := c.Remove(".x.tucdesk-part"); err != nil {
		t.Errorf("one that was given up cannot be removed: %v", err)
	}
}

func TestI9WhatMayOnlyBeWrittenIsReadAfterARename(t *testing.T) {
	dir, session := nested(t)
	srv := dir + "/srv"
	c := session()
	steps{
		func() error { return c.Rename(srv+"/pub", srv+"/p2") },
		func() error { return c.Remove(srv + "/p2/file") },
		func() error { return c.Link(srv+"/wonly/file", srv+"/p2/file") },
	}.run()
	if got := holds(c, srv+"/pub/file"); got == "secret" {
		t.Error("reads what may only be written")
	}
}

// Somebody else moves the folder while the session has it open: what it is counts.
func TestI9SecondNameInAFolderThatMovedMeanwhile(t *testing.T) {
	dir, session := nested(t)
	srv := dir + "/srv"
	c := session()
	if err := os.Rename(srv+"/pub", srv+"/p2"); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"link":   c.Link(srv+"/wonly/file", srv+"/p2/second"),
		"rename": c.Rename(srv+"/wonly/file", srv+"/p2/third"),
	} {
		if err == nil {
			t.Errorf("%s is done", name)
		}
	}
	if got := holds(c, srv+"/pub/second"); got == "secret" {
		t.Error("reads what may only be written")
	}
}

// Where everything may be written and little read, a link in the latter is no way to
// read the rest by opening it for both.
func TestI9OpenForBothReadsNoMoreThanReading(t *testing.T) {
	dir := t.TempDir()
	write(t, "open", dir, "pub", "file")
	key := write(t, "secret", dir, "secret", "key")
	c := client(t, Config{Home: dir, Read: tree(t, dir+"/pub"), Write: tree(t)})
	if err := c.Symlink(key, dir+"/pub/l"); err != nil {
		t.Fatal(err)
	}
	if f, err := c.OpenFile(dir+"/pub/l", os.O_RDWR); err == nil {
		_ = f.Close()
		t.Error("opens what may not be read")
	}
	f, err := c.OpenFile(dir+"/pub/file", os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
}

// No row of requests leaves a link behind that leads another program out.
func TestI3LinksThatOtherProgramsFollowStayInside(t *testing.T) {
	dir, session := nested(t)
	srv := dir + "/srv"
	c := session()
	for _, name := range []string{"/a", "/a/b", "/s", "/s/t", "/d"} {
		if err := c.Mkdir(srv + name); err != nil {
			t.Fatal(err)
		}
	}
	for _, attack := range []steps{
		{
			func() error { return c.Symlink("../secret", srv+"/a/l") },
			func() error { return c.Rename(srv+"/a/l", srv+"/esc") },
		}, {
			func() error { return c.Symlink("../../secret", srv+"/a/b/l2") },
			func() error { return c.Rename(srv+"/a/b", srv+"/esc2") },
		}, {
			func() error { return c.Symlink(srv, srv+"/s/t/up") },
			func() error { return c.Symlink("s/t/up/../secret", srv+"/chain") },
		}, {
			func() error { return c.Symlink(srv+"/s/t/up/../secret", srv+"/chain2") },
		},
	} {
		attack.run()
	}
	for _, name := range []string{"esc", "esc2/l2", "chain", "chain2"} {
		if b, err := os.ReadFile(filepath.Join(srv, name, "key")); err == nil && strings.Contains(string(b), "secret") {
			t.Errorf("%s leads out", name)
		}
	}
	for name, err := range map[string]error{
		"link inside":           c.Symlink("../../wonly/file", srv+"/s/t/in"),
		"link inside, absolute": c.Symlink(srv+"/wonly/file", srv+"/s/t/in2"),
		"rename in its folder":  c.Rename(srv+"/s/t/in", srv+"/s/t/in3"),
		"file to another depth": c.Rename(srv+"/wonly/file", srv+"/s/t/file"),
		"folder, same depth":    c.Rename(srv+"/s/t", srv+"/d/t"),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Lstat(srv + "/d/t/in3"); err != nil {
		t.Error("what leads nowhere else is refused")
	}
}

// A rule names one socket, another lets its folder be written: what a forward reaches by the
// name stays what it was, and nothing else gets the name.
func TestP4SocketsThatThePolicyNamesStayWhatTheyAre(t *testing.T) {
	for what, roots := range map[string]func(dir string) []string{
		"a folder":   func(dir string) []string { return []string{dir} },
		"everything": func(string) []string { return nil },
	} {
		t.Run(what, func(t *testing.T) {
			dir, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"run/web.sock", "priv/web.sock", "other.sock"} {
				_ = os.Mkdir(filepath.Dir(dir+"/"+name), 0o755)
				l, err := net.Listen("unix", dir+"/"+name)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
			}
			named := dir + "/run/web.sock"
			before, err := os.Lstat(named)
			if err != nil {
				t.Fatal(err)
			}
			x, err := confine.Open(roots(dir), named, dir+"/later/db.sock")
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			c := client(t, Config{Home: dir, Write: x})
			for name, err := range map[string]error{
				"rename":               c.Rename(named, dir+"/run/old"),
				"posix-rename":         c.PosixRename(named, dir+"/run/old"),
				"posix-rename over":    c.PosixRename(dir+"/other.sock", named),
				"remove":               c.Remove(named),
				"rename of the folder": c.Rename(dir+"/run", dir+"/old"),
				"rename of above":      c.Rename(dir, dir+".old"),
				"over the folder":      c.PosixRename(dir+"/priv", dir+"/run"),
				"link at the name":     c.Symlink("priv/web.sock", named),
				"rename to later":      c.Rename(dir+"/priv", dir+"/later"),
				"link at later":        c.Symlink("priv", dir+"/later"),
			} {
				if err == nil {
					t.Errorf("%s is done", name)
				}
			}
			if after, err := os.Lstat(named); err != nil || !os.SameFile(before, after) {
				t.Errorf("the socket is %v, %v", after, err)
			}
			if err := c.Rename(dir+"/other.sock", dir+"/another.sock"); err != nil {
				t.Errorf("a socket that no rule names: %v", err)
			}
		})
	}
}
