package receive

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/filecopy/disk"
	"github.com/tucdesk/tucdesk/internal/filecopy/send"
)

// cutAfter ends a wire when n bytes have passed.
type cutAfter struct {
	r    io.Reader
	left int
	cut  func()
}

func (c *cutAfter) Read(b []byte) (int, error) {
	if c.left <= 0 {
		c.cut()
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.r.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// runCut is run with a session that is lost when the sender has sent n bytes.
func runCut(t testing.TB, from send.Config, to Config, n int) {
	t.Helper()
	ar, aw := io.Pipe()
	br, bw := io.Pipe()
	cut := func() {
		for _, c := range []io.Closer{ar, aw, br, bw} {
			_ = c.Close()
		}
	}
	r, err := Open(to)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := r.Run(t.Context(), filecopy.NewStream(&cutAfter{ar, n, cut}, bw)); err != nil {
			cut()
		}
	})
	from.Hangup = cut
	_, _ = send.Run(context.Background(), filecopy.NewStream(br, aw), from)
	wg.Wait()
}

// Whenever a session is lost, a file is the old one or the new one, what is left is
// marked, and the next copy goes on from there.
func TestCutsAtRandomPointsLeaveOldOrNewAndAreResumed(t *testing.T) {
	const size = 3<<20 + 123
	from, to := t.TempDir(), t.TempDir()
	old, data := []byte("the old file"), randomBytes(size)
	write(t, filepath.Join(from, "big"), data)
	for i := range 20 {
		write(t, filepath.Join(from, fmt.Sprintf("small%d", i)), data[i:i+4096])
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 15 {
		for _, name := range []string{"big", "small0", "small19"} {
			write(t, filepath.Join(to, "x", name), old)
		}
		source := renamed(t, send.Config{Paths: []string{from}, Flags: filecopy.Recursive})
		target := Config{Path: to, Flags: filecopy.Recursive, Look: true}
		runCut(t, source, target, rng.IntN(size+100_000))
		for _, name := range []string{"big", "small0", "small19"} {
			got, err := os.ReadFile(filepath.Join(to, "x", name))
			want, _ := os.ReadFile(filepath.Join(from, name))
			if err != nil || !bytes.Equal(got, old) && !bytes.Equal(got, want) {
				t.Fatalf("round %d: %s is torn: %d bytes, %v", round, name, len(got), err)
			}
		}
		part, _ := os.Stat(filepath.Join(to, "x", partName("big", "")))
		o := run(t, source, target)
		o.fine(t)
		if part != nil && o.received.Kept < uint64(part.Size())/(1<<20)<<20 {
			t.Fatalf("round %d: %d bytes were there and %d kept", round, part.Size(), o.received.Kept)
		}
		same(t, filepath.Join(to, "x", "big"), data)
		if left := listing(t, to); strings.Contains(left, filecopy.PartSuffix) {
			t.Fatalf("round %d left %s", round, left)
		}
	}
}

// renamed gives a folder that is a source the name x, by a link to it.
func renamed(t testing.TB, c send.Config) send.Config {
	t.Helper()
	x := filepath.Join(t.TempDir(), "x")
	if err := os.Symlink(c.Paths[0], x); err != nil {
		t.Skip(err)
	}
	c.Paths = []string{x}
	return c
}

// A resumed copy of a source that changed is the new source, not a mixture.
func TestI8ResumeWithAChangedSource(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "f"), t.TempDir()
	data := randomBytes(4 << 20)
	write(t, from, data)
	runCut(t, send.Config{Paths: []string{from}}, Config{Path: to, Look: true}, 3<<20)
	data[1<<20+5]++ // the second block
	write(t, from, data)
	o := run(t, send.Config{Paths: []string{from}}, Config{Path: to, Look: true})
	o.fine(t)
	same(t, filepath.Join(to, "f"), data)
	if o.received.Kept != 1<<20 {
		t.Errorf("%d bytes were kept, not the first block alone", o.received.Kept)
	}
	other := randomBytes(2<<20 + 1)
	write(t, filepath.Join(to, partName("f", "")), randomBytes(3<<20)) // of another file of that name
	write(t, from, other)
	o = run(t, send.Config{Paths: []string{from}}, Config{Path: to, Look: true})
	o.fine(t)
	same(t, filepath.Join(to, "f"), other)
	if o.received.Kept != 0 {
		t.Errorf("%d bytes of another file were kept", o.received.Kept)
	}
}

// Who may write and not look is told nothing of what others have not finished, however
// the sizes are chosen and whatever is called like a part, and goes on with their own.
func TestI8PartsOfOthersAreNotToldToWhoMayNotLook(t *testing.T) {
	const secret = "hunter2 is the password"
	dir := t.TempDir()
	for _, more := range []string{"", "theirs", "theirs.mine"} {
		write(t, filepath.Join(dir, partName("x", more)), []byte(secret))
	}
	for _, mark := range []string{"mine", ""} {
		for n := range len(secret) {
			h := attack(t, Config{Path: dir, Mark: mark})
			if w := h.beginBig(n + 1); len(w.Hashes) > 0 {
				t.Fatalf("with mark %q, a hash of %d bytes was told", mark, n+1)
			}
			h.w.cut()
			h.done.Wait()
		}
	}
	data := randomBytes(3 << 20)
	from := filepath.Join(t.TempDir(), "x")
	write(t, from, data)
	runCut(t, send.Config{Paths: []string{from}}, Config{Path: dir, Mark: "mine"}, 5<<19)
	for _, c := range []struct {
		mark string
		kept bool
	}{{"other", false}, {"mine", true}} {
		o := run(t, send.Config{Paths: []string{from}}, Config{Path: dir, Mark: c.mark})
		o.fine(t)
		if same(t, filepath.Join(dir, "x"), data); (o.received.Kept > 0) != c.kept {
			t.Errorf("mark %q: %d bytes were kept", c.mark, o.received.Kept)
		}
	}
	for _, more := range []string{"", "theirs", "theirs.mine"} {
		same(t, filepath.Join(dir, partName("x", more)), []byte(secret))
	}
}

// What is there already is compared only for who may read it.
func TestFilesThatAreThereAreNotSentAgain(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "f"), t.TempDir()
	data := randomBytes(3 << 20)
	write(t, from, data)
	data[2<<20]++
	write(t, filepath.Join(to, "f"), data)
	data[2<<20]--
	for _, look := range []bool{false, true} {
		o := run(t, send.Config{Paths: []string{from}}, Config{Path: to, Look: look})
		o.fine(t)
		same(t, filepath.Join(to, "f"), data)
		if want := map[bool]uint64{true: 3 << 20}[look]; o.received.Kept != want {
			t.Errorf("looking %v: %d bytes were kept, want %d", look, o.received.Kept, want)
		}
	}
}

func TestTreesKeepTimesModesAndLinks(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "tree"), t.TempDir()
	at := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	write(t, filepath.Join(from, "sub", "f"), []byte("f"))
	write(t, filepath.Join(from, "sub", "big"), randomBytes(filecopy.MaxData+1))
	if err := os.Symlink("sub/f", filepath.Join(from, "l")); err != nil {
		t.Skip(err)
	}
	for name, mode := range map[string]fs.FileMode{"sub/f": 0o640, "sub/big": 0o400, "sub": 0o500} {
		name = filepath.Join(from, name)
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(name, 0o700)
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	flags := filecopy.Recursive | filecopy.Preserve
	for range 2 { // the second time over what is there, a folder without the right to write among it
		run(t, send.Config{Paths: []string{from}, Flags: flags}, Config{Path: to, Flags: flags}).fine(t)
		defer os.Chmod(filepath.Join(to, "tree", "sub"), 0o700)
		for name, mode := range map[string]fs.FileMode{"sub/f": 0o640, "sub/big": 0o400, "sub": 0o500} {
			info, err := os.Stat(filepath.Join(to, "tree", name))
			if err != nil || info.Mode().Perm() != mode || !info.ModTime().Equal(at) {
				t.Errorf("%s: %v %v, %v", name, info.Mode(), info.ModTime(), err)
			}
		}
		if os.Geteuid() != 0 {
			break
		}
	}
	if target, err := os.Readlink(filepath.Join(to, "tree", "l")); err != nil || target != "sub/f" {
		t.Errorf("the link is %q, %v", target, err)
	}
}

func TestReplacedFilesKeepTheirMode(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "f"), t.TempDir()
	write(t, from, []byte("new"))
	write(t, filepath.Join(to, "f"), []byte("old"))
	if err := os.Chmod(filepath.Join(to, "f"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, send.Config{Paths: []string{from}}, Config{Path: to}).fine(t)
	if info, err := os.Stat(filepath.Join(to, "f")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestI5SpecialBitsComeOnlyWhereTheyWereAskedFor(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such bits")
	}
	from := filepath.Join(t.TempDir(), "f")
	write(t, from, []byte("program"))
	if err := os.Chmod(from, 0o755|fs.ModeSetuid|fs.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	for flags, want := range map[filecopy.Flags]fs.FileMode{
		0: 0, filecopy.Preserve: 0, filecopy.Special: 0, filecopy.Preserve | filecopy.Special: fs.ModeSetuid | fs.ModeSetgid,
	} {
		to := t.TempDir()
		run(t, send.Config{Paths: []string{from}, Flags: flags}, Config{Path: to, Flags: flags, Special: true}).fine(t)
		if info, err := os.Stat(filepath.Join(to, "f")); err != nil || info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != want {
			t.Errorf("flags %d: %v, %v", flags, info.Mode(), err)
		}
	}
}

// A sender who asks for the bits has no say where the receiver's own side did not allow
// them, of files that are small or not and of folders, and hears of each.
func TestI5SpecialBitsAreLeftOutWhereNobodyAllowedThem(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such bits")
	}
	from, to := filepath.Join(t.TempDir(), "d"), t.TempDir()
	write(t, filepath.Join(from, "small"), []byte("program"))
	write(t, filepath.Join(from, "plain"), []byte("program"))
	write(t, filepath.Join(from, "big"), randomBytes(1<<20))
	for _, name := range []string{"small", "big", "."} {
		if err := os.Chmod(filepath.Join(from, name), 0o755|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky); err != nil {
			t.Fatal(err)
		}
	}
	flags := filecopy.Recursive | filecopy.Preserve | filecopy.Special
	o := run(t, send.Config{Paths: []string{from}, Flags: flags}, Config{Path: to, Flags: flags})
	if o.err != nil || o.sendErr != nil || o.received.Files != 3 {
		t.Fatal(o.received, o.err, o.sendErr)
	}
	for _, name := range []string{"small", "big", "plain", "."} {
		if info, err := os.Stat(filepath.Join(to, "d", name)); err != nil || info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	var told []string
	for _, p := range o.problems {
		told = append(told, p.Name+" "+string(p.Code))
	}
	slices.Sort(told)
	if got := strings.Join(told, ", "); got != "d policy_denied, d/big policy_denied, d/small policy_denied" {
		t.Errorf("told: %s", got)
	}
}

func TestI4OddFilesAreLeftOutAndNotReplaced(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "t"), t.TempDir()
	write(t, filepath.Join(from, "f"), []byte("f"))
	write(t, filepath.Join(from, "g"), []byte("g"))
	if err := os.Link(filepath.Join(from, "f"), filepath.Join(from, "same")); err != nil {
		t.Skip(err)
	}
	if err := mkfifo(filepath.Join(from, "fifo")); err != nil {
		t.Skip(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(from, "out")); err != nil {
		t.Skip(err)
	}
	write(t, filepath.Join(to, "t", "f"), nil)
	_ = os.Remove(filepath.Join(to, "t", "f"))
	if err := mkfifo(filepath.Join(to, "t", "f")); err != nil {
		t.Fatal(err)
	}
	o := run(t, send.Config{Paths: []string{from}, Flags: filecopy.Recursive}, Config{Path: to, Flags: filecopy.Recursive})
	if o.err != nil || o.sendErr != nil {
		t.Fatal(o.err, o.sendErr)
	}
	var names []string
	for _, p := range o.problems {
		names = append(names, p.Name+" "+string(p.Code))
	}
	slices.Sort(names)
	if got := strings.Join(names, ", "); got != "t/f bad_file, t/fifo bad_file, t/out bad_path" {
		t.Errorf("left out: %s", got)
	}
	same(t, filepath.Join(to, "t", "same"), []byte("f"))
	if info, err := os.Lstat(filepath.Join(to, "t", "f")); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
		t.Errorf("the FIFO is %v, %v", info.Mode(), err)
	}
}

// A file that the system makes up has no size, and something in it.
func TestI4FilesOfTheSystemAreCopiedAsTheyRead(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	to := t.TempDir()
	run(t, send.Config{Paths: []string{"/proc/sys/kernel/ostype"}}, Config{Path: to}).fine(t)
	same(t, filepath.Join(to, "ostype"), []byte("Linux\n"))
}

func TestI7SparseFilesStaySparse(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "f"), t.TempDir()
	f, err := os.Create(from)
	if err != nil {
		t.Fatal(err)
	}
	const size = 1 << 40
	if err := f.Truncate(size); err != nil {
		_ = f.Close()
		t.Skip(err)
	}
	for _, at := range []int64{0, 3<<30 + 4096, size - 5} {
		if _, err := f.WriteAt([]byte("data!"), at); err != nil {
			t.Fatal(err)
		}
	}
	info, _ := f.Stat()
	_ = f.Close()
	if disk.FactsOf(info).Allocated > 1<<20 {
		t.Skip("this disk keeps no holes")
	}
	run(t, send.Config{Paths: []string{from}}, Config{Path: to}).fine(t)
	g, err := os.Open(filepath.Join(to, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	info, _ = g.Stat()
	if facts := disk.FactsOf(info); info.Size() != size || facts.Allocated > 1<<20 {
		t.Errorf("%d bytes, %d of them on the disk", info.Size(), facts.Allocated)
	}
	for _, at := range []int64{0, 3<<30 + 4096, size - 5} {
		b := make([]byte, 5)
		if _, err := g.ReadAt(b, at); err != nil || string(b) != "data!" {
			t.Errorf("at %d: %q, %v", at, b, err)
		}
	}
}

// Zeros of a file read as zeros, with holes and without, and so does a part
// with other bytes where zeros belong.
func TestZerosOverAnOlderPartAreZeros(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "f"), t.TempDir()
	data := make([]byte, 3<<20)
	copy(data[2<<20:], "end")
	write(t, from, data)
	for _, sparse := range []bool{false, true} {
		if sparse {
			if err := os.Remove(from); err != nil {
				t.Fatal(err)
			}
			f, err := os.Create(from)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = f.WriteAt([]byte("end"), 2<<20)
			_ = f.Truncate(3 << 20)
			_ = f.Close()
		}
		write(t, filepath.Join(to, partName("f", "")), bytes.Repeat([]byte("x"), 4<<20))
		run(t, send.Config{Paths: []string{from}}, Config{Path: to}).fine(t)
		same(t, filepath.Join(to, "f"), data)
	}
}

func TestStreamsGoBothWays(t *testing.T) {
	to := t.TempDir()
	data := randomBytes(1<<20 + 7)
	run(t, send.Config{Stream: bytes.NewReader(data), Name: "n"}, Config{Path: filepath.Join(to, "f")}).fine(t)
	same(t, filepath.Join(to, "f"), data)
	for _, n := range []int{0, 5, len(data)} {
		write(t, filepath.Join(to, "f"), data[:n])
		var out bytes.Buffer
		run(t, send.Config{Paths: []string{filepath.Join(to, "f")}}, Config{Sink: &out, Asked: []string{"f"}}).fine(t)
		if !bytes.Equal(out.Bytes(), data[:n]) {
			t.Errorf("%d bytes came out of %d", out.Len(), n)
		}
	}
}

func TestTargetsThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), []byte("f"))
	for _, c := range []Config{{Path: filepath.Join(dir, "none", "x")}, {Path: filepath.Join(dir, "f", "x")}, {Path: filepath.Join(dir, "f") + "/"},
		{Path: filepath.Join(dir, "f"), Flags: filecopy.Into}, {Path: filepath.Join(dir, "x"+filecopy.PartSuffix)}} {
		if r, err := Open(c); err == nil {
			r.Close()
			t.Errorf("%+v is taken", c)
		}
	}
}

// Nothing that is missing on one side keeps the rest from being copied.
func TestOneProblemLeavesTheOthersAlone(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write(t, filepath.Join(from, "a"), []byte("a"))
	write(t, filepath.Join(from, "b"), randomBytes(filecopy.MaxData*2))
	if err := os.Mkdir(filepath.Join(to, "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	paths := []string{filepath.Join(from, "none"), filepath.Join(from, "b"), from, filepath.Join(from, "a")}
	o := run(t, send.Config{Paths: paths}, Config{Path: to})
	if o.err != nil || o.sendErr != nil || len(o.problems) != 3 || o.received.Files != 1 {
		t.Errorf("%+v", o)
	}
	same(t, filepath.Join(to, "a"), []byte("a"))
}
