package receive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/filecopy/disk"
	"github.com/tucdesk/tucdesk/internal/filecopy/send"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// hostile is a sender that says what a test wants, to a receiver that is really
// there.
type hostile struct {
	t        *testing.T
	w        *wire
	done     sync.WaitGroup
	err      error // of Run, after wait
	finished filecopy.Finished
	ctx      context.Context // Run's
	over     func()          // ends it

	mu       sync.Mutex
	problems []filecopy.Problem // guarded by mu
	wants    chan filecopy.Want
	declines chan uint32
}

// attack begins a copy; each tune gets its receiver before.
func attack(t *testing.T, cfg Config, tune ...func(*Receiver)) *hostile {
	t.Helper()
	h := &hostile{t: t, w: newWire(t), wants: make(chan filecopy.Want, 100), declines: make(chan uint32, 100)}
	h.ctx, h.over = context.WithCancel(t.Context())
	r, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tune {
		f(r)
	}
	h.done.Go(func() {
		if h.finished, h.err = r.Run(h.ctx, h.w.receiver); h.err != nil {
			h.w.cut()
		}
	})
	h.done.Go(h.hear)
	t.Cleanup(func() {
		h.over()
		h.w.cut()
		h.done.Wait()
	})
	return h
}

func (h *hostile) hear() {
	for {
		m, err := h.w.sender.Next()
		if err != nil {
			return
		}
		switch m := m.(type) {
		case filecopy.Problem:
			h.mu.Lock()
			h.problems = append(h.problems, m)
			h.mu.Unlock()
		case filecopy.Want:
			m.Hashes = bytes.Clone(m.Hashes)
			h.wants <- m
		case filecopy.Decline:
			h.declines <- m.ID
		case filecopy.Finished:
			return
		}
	}
}

func (h *hostile) say(messages ...filecopy.Message) *hostile {
	for _, m := range messages {
		if err := h.w.sender.Say(m); err != nil && err != io.ErrClosedPipe {
			h.t.Errorf("saying %T: %v", m, err)
		}
	}
	return h
}

// end finishes the copy and returns the codes of what was left out.
func (h *hostile) end() string {
	h.t.Helper()
	h.say(filecopy.End{})
	h.done.Wait()
	if h.err != nil {
		h.t.Fatal(h.err)
	}
	return h.codes()
}

func (h *hostile) codes() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var codes []string
	for _, p := range h.problems {
		codes = append(codes, string(p.Code))
	}
	return strings.Join(codes, " ")
}

// broken waits for the end of a copy whose sender broke the rules.
func (h *hostile) broken() {
	h.t.Helper()
	h.done.Wait()
	if refusal.Of(h.err) != refusal.ProtocolError {
		h.t.Errorf("the copy ended with %v", h.err)
	}
}

func small(name, text string) filecopy.Small {
	return filecopy.Small{Mode: 0o644, Name: name, Hash: sha256.Sum256([]byte(text)), Data: []byte(text)}
}

func TestI1I6NamesThatLeaveTheTargetWriteNothing(t *testing.T) {
	outer := t.TempDir()
	target := filepath.Join(outer, "target")
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	h := attack(t, Config{Path: target, Flags: filecopy.Recursive})
	n := 0
	for _, name := range []string{"../x", "/x", outer + "/x", "a/../../x", "", ".", "..", "x\x00y", strings.Repeat("x", 4000), "d//x", "./x"} {
		h.say(small(name, "bad"), filecopy.Folder{Mode: 0o755, Name: name}, filecopy.Link{Name: name, Target: "y"}, filecopy.Offer{ID: 1, Size: 1 << 20, Name: name})
		if id := <-h.declines; id != 1 {
			t.Errorf("declined %d", id)
		}
		n += 4
	}
	if got := h.end(); got != strings.TrimSpace(strings.Repeat("bad_path ", n)) {
		t.Errorf("problems: %s", got)
	}
	if got := listing(t, outer); got != "target" {
		t.Errorf("it wrote %s", got)
	}
}

func TestI6WhatNobodyAskedForIsNotWritten(t *testing.T) {
	target := t.TempDir()
	h := attack(t, Config{Path: target, Flags: filecopy.Recursive, Asked: []string{"/srv/site", "logs/*.log"}})
	h.say(filecopy.Folder{Mode: 0o755, Name: "site"}, small("site/index", "fine"), small("a.log", "fine"), small(".bashrc", "bad"), small("site2", "bad"))
	if got := h.end(); got != "bad_path bad_path" {
		t.Errorf("problems: %s", got)
	}
	if got := listing(t, target); got != "a.log site site/index" {
		t.Errorf("it wrote %s", got)
	}
}

func TestI3NothingIsWrittenThroughLinks(t *testing.T) {
	outer := t.TempDir()
	target, outside := filepath.Join(outer, "target"), filepath.Join(outer, "outside")
	for _, d := range []string{target, outside} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"absolute": outside, "relative": "../outside"} {
		if err := os.Symlink(to, filepath.Join(target, name)); err != nil {
			t.Skip(err)
		}
	}
	h := attack(t, Config{Path: target, Flags: filecopy.Recursive | filecopy.Preserve})
	h.say(filecopy.Folder{Mode: 0o755, Name: "t"},
		filecopy.Link{Name: "t/l", Target: "../../outside"}, // one that it makes itself
		filecopy.Folder{Mode: 0o777, Name: "relative"}, filecopy.Folder{Mode: 0o777, Name: "absolute"},
		small("absolute/x", "bad"), small("relative/x", "bad"), filecopy.Folder{Mode: 0o777, Name: "relative/d"})
	h.end()
	if got := listing(t, outer); got != "outside target target/absolute target/relative target/t" {
		t.Errorf("it wrote %s; problems %s", got, h.codes())
	}
	if info, err := os.Stat(outside); err != nil || info.Mode().Perm() == 0o777 {
		t.Errorf("the folder outside has %v, %v", info.Mode(), err)
	}
}

// A link is judged by its name, so it has to lie where its name says: not behind
// another link of the same copy, nor of an earlier one.
func TestI3I6LinksBehindLinksAreNotMade(t *testing.T) {
	target := t.TempDir()
	if err := os.Symlink("x", filepath.Join(target, "probe")); err != nil {
		t.Skip(err)
	}
	folder := func(name string) filecopy.Message { return filecopy.Folder{Mode: 0o755, Name: name} }
	tree := []filecopy.Message{folder("top"), folder("top/a"), folder("top/a/b")}
	first := filecopy.Link{Name: "top/a/b/c", Target: "../.."}
	second := filecopy.Link{Name: "top/a/b/c/l", Target: "../../.ssh"}
	attack(t, Config{Path: target, Flags: filecopy.Recursive}).say(tree...).say(first, second).broken()
	if got := attack(t, Config{Path: target, Flags: filecopy.Recursive | filecopy.Preserve}).say(tree...).say(first).end(); got != "" {
		t.Errorf("problems of the first copy: %q", got)
	}
	h := attack(t, Config{Path: target, Flags: filecopy.Recursive | filecopy.Preserve}).say(tree...)
	h.say(folder("top/a/b/c"), folder("top/a/b/c/d"), small("top/a/b/c/x", "bad"), second)
	if got := h.end(); got != "bad_file bad_file bad_file bad_file" {
		t.Errorf("problems: %q", got)
	}
	if got := listing(t, target); got != "probe top top/a top/a/b top/a/b/c" {
		t.Errorf("it wrote %s", got)
	}
}

// Who may write in a folder and not read there learns no hashes of it, by no name.
func TestI3NoHashesThroughALinkOfWhatMayNotBeRead(t *testing.T) {
	outer, data := t.TempDir(), randomBytes(3<<20)
	pub, closed := filepath.Join(outer, "pub"), filepath.Join(outer, "wonly")
	from := filepath.Join(t.TempDir(), "big")
	write(t, from, data)
	write(t, filepath.Join(pub, "big"), data)
	write(t, filepath.Join(closed, "big"), data)
	if err := os.Symlink("../wonly", filepath.Join(pub, "link")); err != nil {
		t.Skip(err)
	}
	for to, want := range map[string]uint64{"pub": 3 << 20, "pub/big": 3 << 20, "pub/link": 0, "pub/link/big": 0, "wonly": 0} {
		o := run(t, send.Config{Paths: []string{from}}, Config{Path: filepath.Join(outer, to), Folders: filecopy.Folders{outer}, Look: true, Readable: filecopy.Folders{pub}})
		o.fine(t)
		if o.received.Kept != want {
			t.Errorf("%s: %d bytes were kept, want %d", to, o.received.Kept, want)
		}
	}
}

func TestI8WrongOffsetsEndTheCopyAndChangeNothing(t *testing.T) {
	const size = 2 << 20
	ways := map[string][]filecopy.Message{
		"gap":          {filecopy.Data{Offset: 1, Bytes: []byte("x")}},
		"again":        {filecopy.Data{Offset: 0, Bytes: []byte("x")}, filecopy.Data{Offset: 0, Bytes: []byte("x")}},
		"beyond":       {filecopy.Zeros{Offset: 0, Length: size}, filecopy.Data{Offset: size, Bytes: []byte("x")}},
		"overflow":     {filecopy.Data{Offset: 0, Bytes: []byte("x")}, filecopy.Zeros{Offset: 1, Length: 1<<64 - 1}},
		"no zeros":     {filecopy.Zeros{}},
		"kept nothing": {filecopy.Keep{First: 0, Count: 1}},
		"kept less":    {filecopy.Keep{First: 1<<32 - 1, Count: 1<<32 - 1}},
		"short":        {filecopy.Close{Size: 0}},
		"entry inside": {small("y", "y")},
		"end inside":   {filecopy.End{}},
		"twice":        {filecopy.Begin{ID: 1}},
		"receiver's":   {filecopy.Want{ID: 1}},
	}
	for name, messages := range ways {
		t.Run(name, func(t *testing.T) {
			target := t.TempDir()
			write(t, filepath.Join(target, "x"), []byte("old"))
			h := attack(t, Config{Path: target})
			h.say(filecopy.Offer{ID: 1, Size: size, Name: "x", Mode: 0o644})
			<-h.wants
			h.say(filecopy.Begin{ID: 1}).say(messages...)
			h.broken()
			same(t, filepath.Join(target, "x"), []byte("old"))
		})
	}
}

func TestI8AnotherDigestThrowsTheFileAway(t *testing.T) {
	target := t.TempDir()
	write(t, filepath.Join(target, "x"), []byte("old"))
	h := attack(t, Config{Path: target})
	bad := small("y", "one")
	bad.Data = []byte("two")
	h.say(bad, filecopy.Offer{ID: 1, Size: 3, Name: "x", Mode: 0o644})
	<-h.wants
	h.say(filecopy.Begin{ID: 1}, filecopy.Data{Bytes: []byte("new")}, filecopy.Close{Size: 3})
	if got := h.end(); got != "hash_mismatch hash_mismatch" {
		t.Errorf("problems: %s", got)
	}
	same(t, filepath.Join(target, "x"), []byte("old"))
	if got := listing(t, target); got != "x" {
		t.Errorf("it left %s", got)
	}
}

func TestI7NoRoomIsSaidBeforeAnythingIsSent(t *testing.T) {
	target := t.TempDir()
	h := attack(t, Config{Path: target})
	h.say(filecopy.Offer{ID: 1, Size: filecopy.MaxSize, Allocated: filecopy.MaxSize, Name: "huge"})
	if id := <-h.declines; id != 1 {
		t.Errorf("declined %d", id)
	}
	if got := h.end(); got != "no_space" {
		t.Errorf("problems: %s", got)
	}
	if got := listing(t, target); got != "" {
		t.Errorf("it left %s", got)
	}
}

func TestOffersWithoutEndAreRefused(t *testing.T) {
	h := attack(t, Config{Path: t.TempDir()})
	for i := range uint32(filecopy.MaxOffers + 1) {
		h.say(filecopy.Offer{ID: i, Size: 1 << 20, Name: string(rune('a' + i))})
	}
	h.broken()
}

func TestOnlyDeclinedOffersAreLeftAtTheEnd(t *testing.T) {
	h := attack(t, Config{Path: t.TempDir()})
	h.say(filecopy.Offer{ID: 1, Size: 1 << 20, Name: "x"})
	<-h.wants
	h.say(filecopy.End{})
	h.broken()
}

// Two names that are one on this disk: the second errors. A disk without capitals is
// played by a link that appears in between.
func TestI10NamesThatAreOneOnThisDisk(t *testing.T) {
	dir := t.TempDir()
	tr, err := place(dir, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.close()
	put := func(name string) error {
		p, err := tr.begin(name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.commit()
		return err
	}
	if err := put("Readme"); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "Readme"), filepath.Join(dir, "README")); err != nil {
		t.Skip(err)
	}
	if err := put("README"); refusal.Of(err) != refusal.NameCollision {
		t.Errorf("the second one: %v", err)
	}
	h := attack(t, Config{Path: t.TempDir()})
	h.say(small("x", "1"), small("x", "2"))
	if got := h.end(); got != "name_collision" {
		t.Errorf("problems: %s", got)
	}
}

func TestI9PartsOfOthersAreNotWritten(t *testing.T) {
	dir := t.TempDir()
	part := filepath.Join(dir, partName("x", ""))
	precious := filepath.Join(dir, "precious")
	for name, plant := range map[string]func() error{
		"link":      func() error { return os.Symlink("precious", part) },
		"hard link": func() error { return os.Link(precious, part) },
		"folder":    func() error { return os.Mkdir(part, 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			write(t, precious, []byte("precious"))
			if err := plant(); err != nil {
				t.Skip(err)
			}
			defer os.Remove(part)
			h := attack(t, Config{Path: dir, Look: true})
			h.say(small("x", "new"))
			if got := h.end(); got != "" {
				t.Errorf("problems: %s", got)
			}
			same(t, precious, []byte("precious"))
			same(t, filepath.Join(dir, "x"), []byte("new"))
		})
	}
}

func TestI9TheTargetIsALinkAndIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	write(t, precious, []byte("precious"))
	if err := os.Symlink("precious", filepath.Join(dir, "x")); err != nil {
		t.Skip(err)
	}
	h := attack(t, Config{Path: dir})
	h.say(small("x", "new"))
	if got := h.end(); got != "" {
		t.Errorf("problems: %s", got)
	}
	same(t, precious, []byte("precious"))
	same(t, filepath.Join(dir, "x"), []byte("new"))
}

// sendBig sends a part of a file in pieces.
func (h *hostile) sendBig(data []byte, from, to int) {
	for at := from; at < to; at += filecopy.MaxData {
		h.say(filecopy.Data{Offset: uint64(at), Bytes: data[at:min(at+filecopy.MaxData, to)]})
	}
}

// finishBig sends the rest, and ends the copy.
func (h *hostile) finishBig(data []byte, from int) string {
	h.t.Helper()
	d := filecopy.NewDigest(uint64(len(data)))
	_, _ = d.Write(data)
	h.sendBig(data, from, len(data))
	h.say(filecopy.Close{Size: d.At(), Digest: d.Sum()})
	return h.end()
}

func (h *hostile) beginBig(size int) filecopy.Want {
	h.say(filecopy.Offer{ID: 1, Size: uint64(size), Name: "x", Mode: 0o644})
	w := <-h.wants
	h.say(filecopy.Begin{ID: 1})
	return w
}

// Two copies to one name at once: each is whole, the later one stays.
func TestI9TwoCopiesOfOneNameAreNotMixed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		part := filepath.Join(dir, partName("x", ""))
		write(t, part, bytes.Repeat([]byte("1"), 1<<20))
		other, err := os.OpenFile(part, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if err := disk.Lock(other); err != nil {
			t.Fatal(err)
		}
		data := bytes.Repeat([]byte("2"), 2<<20)
		h := attack(t, Config{Path: dir, Look: true})
		if w := h.beginBig(len(data)); len(w.Hashes) > 0 {
			t.Error("it goes on with what another copy is writing")
		}
		if got := h.finishBig(data, 0); got != "" {
			t.Errorf("problems: %s", got)
		}
		same(t, filepath.Join(dir, "x"), data)
		same(t, part, bytes.Repeat([]byte("1"), 1<<20))
		if got := listing(t, dir); got != ".x.tucdesk-part x" {
			t.Errorf("it left %s", got)
		}
	})
}

// A client that was killed leaves a session that waits for it. The next copy goes on
// with what is there, and whoever comes back late changes nothing any more.
func TestI9ACopyThatIsSilentIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		data := bytes.Repeat([]byte("3"), 4<<20)
		late, next := attack(t, Config{Path: dir, Mark: "m"}), attack(t, Config{Path: dir, Mark: "m"})
		late.beginBig(len(data))
		late.sendBig(data, 0, 2<<20)
		w := next.beginBig(len(data))
		if n := len(w.Hashes) / filecopy.HashSize; n != 2 {
			t.Fatalf("it goes on after %d blocks", n)
		}
		next.say(filecopy.Keep{Count: 2})
		late.sendBig(bytes.Repeat([]byte("4"), 4<<20), 2<<20, 3<<20)
		if got := next.finishBig(data, 2<<20); got != "" {
			t.Errorf("problems: %s", got)
		}
		same(t, filepath.Join(dir, "x"), data)
		if got := late.finishBig(data, 3<<20); got != "file_changed" {
			t.Errorf("problems of the late one: %s", got)
		}
		same(t, filepath.Join(dir, "x"), data)
		if got := listing(t, dir); got != "x" {
			t.Errorf("it left %s", got)
		}
	})
}

// A sender that was silent and comes back goes on.
func TestSilenceAloneHarmsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		data := bytes.Repeat([]byte("5"), 2<<20)
		h := attack(t, Config{Path: dir})
		h.beginBig(len(data))
		h.sendBig(data, 0, 1<<20)
		time.Sleep(2 * lendAfter)
		if got := h.finishBig(data, 1<<20); got != "" {
			t.Errorf("problems: %s", got)
		}
		same(t, filepath.Join(dir, "x"), data)
	})
}
