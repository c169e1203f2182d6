//go:build unix

package files

import (
	"bytes"
	"encoding/binary"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestI1NamesDoNotLeaveTheFolders(t *testing.T) {
	dir := t.TempDir()
	write(t, "secret", dir, "out", "f")
	write(t, "mine", dir, "in", "d", "f")
	in := filepath.Join(dir, "in")
	c := client(t, Config{Home: in, Read: tree(t, in), Write: tree(t, in)})
	for _, name := range []string{
		"../out/f", "d/../../out/f", "/" + in + "/../out/f", dir + "/out/f", "/etc/passwd", "..", "../", "/", in + "x", "../in2/f",
		"f\x00", "\x00", strings.Repeat("a", 5_000), strings.Repeat("d/", 3_000) + "f", "d/" + strings.Repeat("../", 50) + "etc/passwd",
	} {
		if got := holds(c, name); got == "secret" || got == "mine" {
			t.Errorf("reads %q: %q", name, got)
		}
		if put(c, name, "evil") == nil {
			t.Errorf("writes %q", name)
		}
		if _, err := c.Lstat(name); err == nil {
			t.Errorf("sees %q", name)
		}
		if c.Mkdir(name) == nil || c.Remove(name) == nil || c.PosixRename(name, "x") == nil || c.PosixRename("d/f", name) == nil {
			t.Errorf("changes %q", name)
		}
	}
	if got := holds(c, "./d/../d//f"); got != "mine" {
		t.Errorf("a path inside reads %q", got)
	}
}

func TestI3LinksDoNotLeaveTheFolders(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Dir(write(t, "secret", dir, "out", "f"))
	in := filepath.Dir(write(t, "mine", dir, "in", "f"))
	for name, target := range map[string]string{
		"abs": out + "/f", "rel": "../out/f", "dir": "../out", "absdir": out, "proc": "/proc/self/root", "loop": "loop", "chain": "dir/f",
		"inside": in + "/f", "insiderel": "../in/f",
	} {
		if err := os.Symlink(target, filepath.Join(in, name)); err != nil {
			t.Fatal(err)
		}
	}
	c := client(t, Config{Home: in, Read: tree(t, in), Write: tree(t, in)})
	for _, name := range []string{"abs", "rel", "dir/f", "absdir/f", "chain", "loop", "dir/", "dir/.", "absdir/new", "proc/etc/passwd", "proc" + out + "/f"} {
		if got := holds(c, name); got == "secret" || strings.Contains(got, "root:") {
			t.Errorf("reads through %q", name)
		}
		if put(c, name, "evil") == nil || c.Chmod(name, 0o777) == nil || c.Chtimes(name, time.Now(), time.Now()) == nil || c.Truncate(name, 0) == nil {
			t.Errorf("changes through %q", name)
		}
		if _, err := c.Stat(name); err == nil {
			t.Errorf("looks through %q", name)
		}
	}
	for _, name := range []string{"inside", "insiderel"} { // links that stay are links like any
		if got := holds(c, name); got != "mine" {
			t.Errorf("%s reads %q", name, got)
		}
	}
	for _, target := range []string{out, "../out/f", "/etc/shadow", "../../etc"} {
		if c.Symlink(target, "new") == nil {
			t.Errorf("links to %q for other programs to follow", target)
		}
	}
	if got, err := os.ReadFile(filepath.Join(out, "f")); string(got) != "secret" {
		t.Errorf("outside there is %q, %v", got, err)
	}
	if info, _ := os.Stat(filepath.Join(out, "f")); info.Mode() != 0o644 {
		t.Errorf("outside its mode is %v", info.Mode())
	}
}

// A folder that is exchanged for a link while paths are looked up leads nowhere.
func TestI3FolderBecomesALinkMeanwhile(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Dir(write(t, "secret", dir, "out", "f"))
	in := filepath.Dir(write(t, "mine", dir, "in", "d", "f"))
	in = filepath.Dir(in)
	c := client(t, Config{Home: in, Read: tree(t, in), Write: tree(t, in)})
	stop, swapped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(swapped)
		d, aside := filepath.Join(in, "d"), filepath.Join(in, "aside")
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.Rename(d, aside)
			_ = os.Symlink(out, d)
			_ = os.Remove(d)
			_ = os.Rename(aside, d)
		}
	}()
	for range 500 {
		if got := holds(c, "d/f"); got == "secret" {
			t.Error("reads through the link")
		}
		_ = put(c, "d/f", "mine")
		_ = c.Chmod("d/f", 0o600)
	}
	close(stop)
	<-swapped
	got, err := os.ReadFile(filepath.Join(out, "f"))
	info, _ := os.Stat(filepath.Join(out, "f"))
	if string(got) != "secret" || info.Mode() != 0o644 {
		t.Errorf("outside there is %q with %v, %v", got, info.Mode(), err)
	}
}

func TestI4NothingHangsAndDevicesAreNotOpened(t *testing.T) {
	dir := t.TempDir()
	fifo, socket := filepath.Join(dir, "fifo"), filepath.Join(dir, "socket")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := client(t, Config{Home: dir, Read: tree(t), Write: tree(t)})
	for _, name := range []string{fifo, socket, "/dev/zero", "/dev/tty", "/dev/null", dir} {
		for _, flag := range []int{os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_CREATE | os.O_TRUNC} {
			if f, err := c.OpenFile(name, flag); err == nil {
				_ = f.Close()
				t.Errorf("opens %s with %#x", name, flag)
			}
		}
		if c.Truncate(name, 0) == nil || c.Link(name, filepath.Join(dir, "l")) == nil {
			t.Errorf("changes %s", name)
		}
	}
	if _, err := os.Stat("/proc/self/status"); err == nil && !strings.Contains(holds(c, "/proc/self/status"), "Name:") {
		t.Error("files of the kernel that have no size are not read to their end")
	}
	info, err := c.Lstat(fifo)
	if err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		t.Errorf("the FIFO looks like %v, %v", info, err)
	}
}

func TestI5NobodysRightsComeWithAFile(t *testing.T) {
	home := t.TempDir()
	write(t, "", home, "f")
	c := client(t, Config{Home: home, Read: tree(t), Write: tree(t)})
	if err := c.Chmod("f", 0o755|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(home, "f")); err != nil || info.Mode() != 0o755 {
		t.Errorf("the file has %v, %v", info.Mode(), err)
	}
	if c.Chown("f", os.Getuid()+1, os.Getgid()+1) == nil {
		t.Error("it has another owner")
	}
	if err := c.Chown("f", os.Getuid(), os.Getgid()); err != nil { // as sshfs asks, for nothing
		t.Error(err)
	}
	shared := filepath.Join(home, "d")
	if err := os.Mkdir(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(shared, 0o755|fs.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	if err := c.Chmod("d", 0o700|fs.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(shared); err != nil || info.Mode().Perm() != 0o700 || info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != fs.ModeSetgid {
		t.Errorf("the shared folder has %v, %v", info.Mode(), err)
	}
}

// Names that are there are told as they are, one by one; the client's tools escape
// them. What they hold is no path of ours.
func TestI6NamesOfTheMachineAreNotPaths(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{"a\nb", "\x1b[2Jx", "-rf", "..a", `a\..\b`} {
		write(t, name, home, name)
	}
	c := client(t, Config{Home: home, Read: tree(t, home)})
	list, err := c.ReadDir(".")
	if err != nil || len(list) != 5 {
		t.Fatalf("%v, %v", list, err)
	}
	for _, info := range list {
		if got := holds(c, info.Name()); got != info.Name() {
			t.Errorf("%q holds %q", info.Name(), got)
		}
	}
}

func TestI7HugeSparseFileCostsNothing(t *testing.T) {
	home := t.TempDir()
	write(t, "", home, "f")
	c := client(t, Config{Home: home, Read: tree(t), Write: tree(t)})
	if err := c.Truncate("f", 1<<40); err != nil {
		t.Skipf("this disk has no files of a terabyte: %v", err)
	}
	f, err := c.OpenFile("f", os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("end"), 1<<40-3); err != nil {
		t.Error(err)
	}
	b := make([]byte, 6)
	if n, err := f.ReadAt(b, 1<<40-6); n != 6 || err != nil && err != io.EOF || !bytes.Equal(b, []byte("\x00\x00\x00end")) {
		t.Errorf("reads %d, %q, %v", n, b, err)
	}
	if info, err := os.Stat(filepath.Join(home, "f")); err != nil || info.Sys().(*syscall.Stat_t).Blocks > 100 {
		t.Errorf("it takes space: %v, %v", info, err)
	}
}

// request is a packet of SFTP: its type, an id and the rest.
func request(typ byte, rest ...[]byte) []byte {
	body := append([]byte{typ, 0, 0, 0, 1}, bytes.Join(rest, nil)...)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func text(s string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
}

// Offsets beyond all files are errors of one request.
func TestI8OffsetsThatNoFileHas(t *testing.T) {
	home := t.TempDir()
	name := write(t, "text", home, "f")
	in, client := io.Pipe()
	answers, out := io.Pipe()
	served := make(chan error, 1)
	go func() { served <- Serve(in, out, Config{Home: home, Read: tree(t), Write: tree(t)}) }()
	var types []byte
	for _, r := range [][]byte{
		{0, 0, 0, 5, 1, 0, 0, 0, 3},
		request(3, text(name), []byte{0, 0, 0, 3}, make([]byte, 4)),              // open it to read and write
		request(5, text("1"), bytes.Repeat([]byte{0xff}, 8), []byte{0, 0, 0, 9}), // read
		request(6, text("1"), bytes.Repeat([]byte{0xff}, 8), text("evil")),       // write
		request(5, text("1"), make([]byte, 8), []byte{0xff, 0xff, 0xff, 0xff}),   // read 4 GB
		request(4, text("1")),
	} {
		var size [4]byte
		_, err := client.Write(r)
		if err == nil {
			_, err = io.ReadFull(answers, size[:])
		}
		b := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, more := io.ReadFull(answers, b); err != nil || more != nil {
			t.Fatal(err, more)
		}
		types = append(types, b[0])
	}
	_ = client.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if want := []byte{2, 102, 101, 101, 103, 101}; !bytes.Equal(types, want) { // version, handle, status, status, data, status
		t.Errorf("answers %d, want %d", types, want)
	}
	if got, err := os.ReadFile(name); string(got) != "text" {
		t.Errorf("the file holds %q, %v", got, err)
	}
}

// SFTP writes into the file that is there, by its nature; a link in its place does not
// lead out. Whole files that appear at once are what tucdesk cp makes.
func TestI9TargetIsALinkToElsewhere(t *testing.T) {
	dir := t.TempDir()
	out := write(t, "theirs", dir, "out", "f")
	in := filepath.Dir(write(t, "", dir, "in", "f"))
	c := client(t, Config{Home: in, Read: tree(t, in), Write: tree(t, in)})
	for _, target := range []string{out, "../out/f", "../out/new"} {
		_ = os.Remove(filepath.Join(in, "l"))
		if err := os.Symlink(target, filepath.Join(in, "l")); err != nil {
			t.Fatal(err)
		}
		if put(c, "l", "evil") == nil {
			t.Errorf("writes through a link to %q", target)
		}
		if err := c.PosixRename("f", "l"); err != nil { // the link itself goes
			t.Error(err)
		}
		if err := put(c, "f", ""); err != nil {
			t.Error(err)
		}
	}
	if got, err := os.ReadFile(out); string(got) != "theirs" {
		t.Errorf("there is %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "out", "new")); err == nil {
		t.Error("a file was made outside")
	}
}

// leaky takes answers and notes when one of them tells the secret.
type leaky chan struct{}

func (l leaky) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("secret")) {
		select {
		case l <- struct{}{}:
		default:
		}
	}
	return len(p), nil
}

// FuzzServe: whatever comes, this process goes on and nothing outside changes.
func FuzzServe(f *testing.F) {
	start := []byte{0, 0, 0, 5, 1, 0, 0, 0, 3}
	for _, r := range [][]byte{
		request(3, text("f"), []byte{0, 0, 0, 0x1b}, []byte{0, 0, 0, 4, 0, 0, 15, 255}), request(5, text("1"), make([]byte, 8), []byte{0, 0, 0, 9}),
		request(6, text("1"), make([]byte, 8), text("x")), request(11, text(".")), request(12, text("1")), request(17, text("../out/f")),
		request(9, text("f"), []byte{0, 0, 0, 15}), request(10, text("1"), []byte{0, 0, 0, 8}), request(18, text("f"), text("g")), request(20, text("../out/f"), text("s")),
		request(200, text("posix-rename@openssh.com"), text("f"), text("../out/f")), request(200, text("statvfs@openssh.com"), text(".")),
		request(200, text("hardlink@openssh.com"), text("../out/f"), text("h")), request(200, text("fsync@openssh.com"), text("1")), request(16, text("../..")),
	} {
		f.Add(append(bytes.Clone(start), r...))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		dir := t.TempDir()
		out := write(t, "secret", dir, "out", "f")
		home := filepath.Dir(write(t, "mine", dir, "in", "f"))
		x := tree(t, home)
		answers := make(leaky, 1)
		_ = Serve(bytes.NewReader(in), answers, Config{Home: home, Read: x, Write: x})
		if got, err := os.ReadFile(out); string(got) != "secret" || len(answers) > 0 {
			t.Errorf("outside there is %q, %v", got, err)
		}
	})
}
