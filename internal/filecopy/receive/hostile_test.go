package receive

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/filecopy/disk"
	"github.com/tucdesk/tucdesk/internal/filecopy/send"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// listing is everything below dir, so that a test sees what it did not expect.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, name)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names[1:], " ")
}

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

// One message of 16 bytes says any number of zeros. They are a hole, and cost nothing.
func TestI7OneMessageWritesNoTerabytes(t *testing.T) {
	const size = 1 << 36
	probe := filepath.Join(t.TempDir(), "probe")
	write(t, probe, nil)
	if err := os.Truncate(probe, size); err != nil || runtime.GOOS == "windows" {
		t.Skip("this disk has no holes: ", err)
	}
	for _, offer := range []filecopy.Offer{{ID: 1, Flags: filecopy.Unsized, Name: "x"}, {ID: 1, Flags: filecopy.Sparse, Size: size + 3, Name: "x"}} {
		dir := t.TempDir()
		h := attack(t, Config{Path: dir, Asked: []string{"x"}}).say(offer)
		<-h.wants
		d := filecopy.NewDigest(offer.Size)
		d.Zeros(size)
		_, _ = d.Write([]byte("end"))
		h.say(filecopy.Begin{ID: 1}, filecopy.Zeros{Length: size}, filecopy.Data{Offset: size, Bytes: []byte("end")}, filecopy.Close{Size: d.At(), Digest: d.Sum()})
		if got := h.end(); got != "" {
			t.Errorf("problems: %s", got)
		}
		info, err := os.Stat(filepath.Join(dir, "x"))
		if err != nil || info.Size() != size+3 || disk.FactsOf(info).Allocated > 1<<20 {
			t.Errorf("%+v: %v, %+v", offer, err, disk.FactsOf(info))
		}
	}
}

// Zeros over what an earlier copy left behind are zeros, where it has bytes and where
// it has holes, and the blocks beside them stay.
func TestI7ZerosInAPartThatIsResumedReadAsZeros(t *testing.T) {
	const block, size = 1 << 20, 5 << 20
	for _, flags := range []filecopy.OfferFlags{0, filecopy.Sparse} {
		dir := t.TempDir()
		part := filepath.Join(dir, partName("x", ""))
		ones := bytes.Repeat([]byte("1"), size)
		write(t, part, ones[:block])
		f, err := os.OpenFile(part, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt(ones[:2*block], 2*block) // behind a hole
		if _ = f.Close(); err != nil {
			t.Fatal(err)
		}
		h := attack(t, Config{Path: dir, Look: true}).say(filecopy.Offer{ID: 1, Size: size, Flags: flags, Mode: 0o644, Name: "x"})
		if w := <-h.wants; len(w.Hashes) != 4*filecopy.HashSize {
			t.Fatalf("%d hashes", len(w.Hashes)/filecopy.HashSize)
		}
		// One, then zeros over half a block of ones, a hole, and half a block of ones; one; zeros behind all.
		want := make([]byte, size)
		copy(want[:block/2], ones)
		copy(want[3*block:4*block], ones)
		d := filecopy.NewDigest(size)
		_, _ = d.Write(want)
		h.say(filecopy.Begin{ID: 1})
		h.sendBig(want, 0, block/2)
		h.say(filecopy.Zeros{Offset: block / 2, Length: 5 * block / 2}, filecopy.Keep{First: 3, Count: 1}, filecopy.Zeros{Offset: 4 * block, Length: block})
		h.say(filecopy.Close{Size: size, Digest: d.Sum()})
		if got := h.end(); got != "" {
			t.Errorf("problems: %s", got)
		}
		same(t, filepath.Join(dir, "x"), want)
	}
}

// What is taken from the target that is there keeps its holes.
func TestI7KeptBlocksKeepTheirHoles(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "f"), t.TempDir()
	for _, name := range []string{from, filepath.Join(to, "f")} {
		write(t, name, []byte("begin"))
		if err := os.Truncate(name, 64<<20); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := os.Stat(from)
	if disk.FactsOf(before).Allocated > 1<<20 {
		t.Skip("this disk has no holes")
	}
	o := run(t, send.Config{Paths: []string{from}}, Config{Path: to, Look: true})
	o.fine(t)
	info, err := os.Stat(filepath.Join(to, "f"))
	if err != nil || o.received.Kept != 64<<20 || disk.FactsOf(info).Allocated > 1<<20 {
		t.Errorf("%v, %d kept, %+v", err, o.received.Kept, disk.FactsOf(info))
	}
}

// first tells of the first thing that is written to it.
type first struct {
	once sync.Once
	seen chan struct{}
}

func (f *first) Write(b []byte) (int, error) {
	f.once.Do(func() { close(f.seen) })
	return len(b), nil
}

// On standard output there are no holes: zeros end with the session that sent them.
func TestI7ZerosForStandardOutputEndWithTheSession(t *testing.T) {
	out := &first{seen: make(chan struct{})}
	h := attack(t, Config{Sink: out, Asked: []string{"x"}}).say(filecopy.Offer{ID: 1, Flags: filecopy.Unsized, Name: "x"})
	<-h.wants
	h.say(filecopy.Begin{ID: 1}, filecopy.Zeros{Length: 1 << 38})
	<-out.seen
	h.over()
	h.w.cut()
	if h.done.Wait(); h.err == nil {
		t.Error("the copy is said to be whole")
	}
}

// Links wait for the end of a copy, so that they are the memory that a sender could
// fill; and folders with their times.
func TestH4LinksAndFoldersWithoutEndAreRefused(t *testing.T) {
	nearly := func(r *Receiver) { r.held = filecopy.MaxHeld - 20_000 }
	long := strings.Repeat("t", 200) + "/"
	for name, next := range map[string]func(string) filecopy.Message{
		"links": func(n string) filecopy.Message {
			return filecopy.Link{Name: "x/" + n, Target: strings.Repeat(long, 15)}
		},
		"folders": func(n string) filecopy.Message { return filecopy.Folder{Mode: 0o700, Name: "x/" + n} },
	} {
		h := attack(t, Config{Path: t.TempDir(), Flags: filecopy.Recursive | filecopy.Preserve, Asked: []string{"x"}}, nearly)
		h.say(filecopy.Folder{Mode: 0o700, Name: "x"})
		for i := range 500 {
			h.say(next(strconv.Itoa(i)))
		}
		if h.done.Wait(); refusal.Of(h.err) != refusal.TooLarge {
			t.Errorf("%s: the copy ended with %v", name, h.err)
		}
	}
}
