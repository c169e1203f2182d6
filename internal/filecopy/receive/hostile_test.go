package receive

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"

	"github.com/tucdesk/tucdesk/internal/filecopy"
)

// "tucdesk cp 'web:*' ." and "tucdesk cp web:project ." in somebody's home: without
// -r a machine reaches no folder that is there, and does not learn the hash of a file
// in one (CVE-2019-6111).
func TestI6WithoutRecursionAMachineReachesNoFolderThatIsThere(t *testing.T) {
	home := t.TempDir()
	write(t, filepath.Join(home, ".ssh", "id"), []byte("KEY"))
	write(t, filepath.Join(home, "project", "hook"), []byte("mine"))
	hook := small("project/hook", "#!/bin/sh\n")
	hook.Mode = 0o755
	for name, m := range map[string]filecopy.Message{
		"a small file":  hook,
		"an offer":      filecopy.Offer{ID: 1, Size: 3, Name: ".ssh/id"},
		"a link there":  filecopy.Link{Name: "project/l", Target: "hook"},
		"a link":        filecopy.Link{Name: "l", Target: "project"},
		"a folder":      filecopy.Folder{Name: "project", Mode: 0o777},
		"out of it all": small("../x", "bad"),
	} {
		for _, flags := range []filecopy.Flags{0, filecopy.Preserve, filecopy.Into} {
			h := attack(t, Config{Path: home, Flags: flags, Asked: []string{"*", "project", ".ssh"}, Look: true})
			h.say(m)
			h.broken()
			if len(h.wants) > 0 {
				t.Errorf("%s: it told hashes", name)
			}
		}
	}
	same(t, filepath.Join(home, "project", "hook"), []byte("mine"))
	if got := listing(t, home); got != ".ssh .ssh/id project project/hook" {
		t.Errorf("it wrote %s", got)
	}
}

// With -r it comes into folders that it sent in this very copy, and not into one that
// is there or that an earlier copy brought.
func TestI6OnlyFoldersThatWereSentAreEntered(t *testing.T) {
	home := t.TempDir()
	write(t, filepath.Join(home, "top", "in", "x"), []byte("mine"))
	cfg := Config{Path: home, Flags: filecopy.Recursive, Asked: []string{"top"}, Look: true}
	for name, m := range map[string]filecopy.Message{
		"a small file": small("top/in/x", "bad"),
		"an offer":     filecopy.Offer{ID: 1, Size: 4, Name: "top/in/x"},
		"a link":       filecopy.Link{Name: "top/in/l", Target: "x"},
		"a folder":     filecopy.Folder{Name: "top/in/d"},
	} {
		h := attack(t, cfg)
		h.say(filecopy.Folder{Name: "top", Mode: 0o755}, m)
		if h.broken(); len(h.wants) > 0 {
			t.Errorf("%s: it told hashes", name)
		}
	}
	same(t, filepath.Join(home, "top", "in", "x"), []byte("mine"))
	h := attack(t, cfg)
	h.say(filecopy.Folder{Name: "top", Mode: 0o755}, filecopy.Folder{Name: "top/in", Mode: 0o755}, small("top/in/x", "new"))
	if got := h.end(); got != "" {
		t.Errorf("problems: %s", got)
	}
	same(t, filepath.Join(home, "top", "in", "x"), []byte("new"))
}

// A pattern does not stand for names with a dot in front, which a person who types
// "*" does not mean; and what is left out is not compared either.
func TestI6PatternsDoNotMeanHiddenFiles(t *testing.T) {
	home := t.TempDir()
	write(t, filepath.Join(home, ".bashrc"), []byte("mine"))
	h := attack(t, Config{Path: home, Asked: []string{"*", "?bashrc", "[.]bashrc"}, Look: true})
	h.say(small(".bashrc", "bad"), filecopy.Offer{ID: 1, Size: 4, Name: ".bashrc"}, small("\u200c.bashrc", "bad"))
	if id := <-h.declines; id != 1 {
		t.Errorf("declined %d", id)
	}
	if got := h.end(); got != "bad_path bad_path bad_path" || len(h.wants) > 0 {
		t.Errorf("problems: %s, hashes told %d", got, len(h.wants))
	}
	same(t, filepath.Join(home, ".bashrc"), []byte("mine"))
	for _, asked := range []string{".bashrc", ".b*", `\.b*`} {
		h = attack(t, Config{Path: t.TempDir(), Asked: []string{asked}})
		if got := h.say(small(".bashrc", "fine")).end(); got != "" {
			t.Errorf("%q: %s", asked, got)
		}
	}
}

// Whatever one file is called, "-" and a target that names it take one file.
func TestI6StandardOutputTakesOneFileAndNoFolders(t *testing.T) {
	for name, messages := range map[string][]filecopy.Message{
		"a file in a folder": {small("x/y", "bad")},
		"a folder":           {filecopy.Folder{Name: "x"}},
		"a link":             {filecopy.Link{Name: "x", Target: "y"}},
	} {
		t.Run(name, func(t *testing.T) {
			out := sha256.New()
			h := attack(t, Config{Sink: out, Flags: filecopy.Recursive, Asked: []string{"x"}})
			h.say(messages...)
			h.broken()
			if sum := sha256.Sum256(nil); string(out.Sum(nil)) != string(sum[:]) {
				t.Error("it wrote something")
			}
		})
	}
	named := filepath.Join(t.TempDir(), "mine")
	h := attack(t, Config{Path: named, Asked: []string{"*"}})
	if got := h.say(small("a", "1"), small("b", "2")).end(); got != "bad_path" {
		t.Errorf("problems: %s", got)
	}
	if b, err := os.ReadFile(named); err != nil || string(b) != "1" {
		t.Errorf("%q, %v", b, err)
	}
}
