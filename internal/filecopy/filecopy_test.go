package filecopy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// every is one message of each type, with the bytes of its body.
var every = []struct {
	m    Message
	body string
}{
	{Get{Flags: Recursive | Preserve, Paths: []string{"a", "b*"}}, "00000003 0002 000161 0002622a"},
	{Put{Flags: Into, Path: "/srv"}, "00000008 0004 2f737276"},
	{Ready{}, ""},
	{Refused{Code: refusal.NoSpace, Text: "no"}, "0008 6e6f5f7370616365 0002 6e6f"},
	{Folder{Mode: 0o755, Name: "a"}, "000001ed 0000000000000000 0001 61"},
	{Link{Name: "a/b", Target: "c"}, "0003 612f62 0001 63"},
	{Small{Mode: 0o644, Time: 1, Hash: [HashSize]byte{0xff}, Name: "x", Data: []byte("hi")}, "000001a4 0000000000000001 ff" + strings.Repeat("00", 31) + " 0001 78 6869"},
	{Offer{ID: 7, Flags: Sparse, Mode: 0o600, Time: -1, Size: 9, Allocated: 8, Name: "y"}, "00000007 01 00000180 ffffffffffffffff 0000000000000009 0000000000000008 0001 79"},
	{Begin{ID: 7}, "00000007"},
	{Data{Offset: 3, Bytes: []byte{1, 2}}, "0000000000000003 0102"},
	{Zeros{Offset: 3, Length: 4}, "0000000000000003 0000000000000004"},
	{Keep{First: 1, Count: 2}, "00000001 00000002"},
	{Close{Size: 5, Digest: [HashSize]byte{0xee}}, "0000000000000005 ee" + strings.Repeat("00", 31)},
	{Abandon{}, ""},
	{Total{Files: 1, Bytes: 2}, "0000000000000001 0000000000000002"},
	{End{}, ""},
	{Want{ID: 7, More: true, Hashes: bytes.Repeat([]byte{9}, HashSize)}, "00000007 01 " + strings.Repeat("09", HashSize)},
	{Decline{ID: 7}, "00000007"},
	{Finished{Files: 1, Folders: 2, Bytes: 3, Kept: 4}, "0000000000000001 0000000000000002 0000000000000003 0000000000000004"},
	{Problem{Name: "n", Code: refusal.BadPath, Text: "t"}, "0001 6e 0008 6261645f70617468 0001 74"},
}

func TestMessagesHaveTheBytesOfTheTable(t *testing.T) {
	for _, c := range every {
		want, err := hex.DecodeString(strings.ReplaceAll(c.body, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.m.append(nil); !bytes.Equal(got, want) {
			t.Errorf("%T is %x, want %x", c.m, got, want)
		}
		var wire bytes.Buffer
		s := NewStream(&wire, &wire)
		if err := s.Say(c.m); err != nil {
			t.Fatal(err)
		}
		if n := be.Uint32(wire.Bytes()); int(n) != len(want)+1 || wire.Bytes()[4] != byte(c.m.kind()) {
			t.Errorf("%T begins with %x", c.m, wire.Bytes()[:5])
		}
		again, err := s.Next()
		if err != nil || !bytes.Equal(again.append(nil), want) {
			t.Errorf("%T comes back as %+v, %v", c.m, again, err)
		}
	}
}

// Every cut and every longer body is refused; none may panic.
func TestMalformedMessagesAreRefused(t *testing.T) {
	for _, c := range every {
		body := c.m.append(nil)
		open := false // the last field is the rest
		switch c.m.(type) {
		case Small, Data, Want:
			open = true
		}
		for n := range body {
			if _, err := parse(c.m.kind(), body[:n]); err == nil && !open {
				t.Errorf("%T of %d bytes instead of %d was read", c.m, n, len(body))
			}
		}
		if _, err := parse(c.m.kind(), append(body, 0)); err == nil && !open {
			t.Errorf("%T with one byte too many was read", c.m)
		}
	}
	for _, head := range []string{"00000000", "00028001", "ffffffff"} {
		raw, _ := hex.DecodeString(head + "15")
		if _, err := NewStream(bytes.NewReader(raw), io.Discard).Next(); refusal.Of(err) != refusal.ProtocolError {
			t.Errorf("length %s: %v", head, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range every {
		f.Add(byte(c.m.kind()), c.m.append(nil))
	}
	f.Fuzz(func(t *testing.T, k byte, body []byte) {
		m, err := parse(kind(k), body)
		if err != nil {
			return
		}
		if got := m.append(nil); byte(m.kind()) != k || !bytes.Equal(got, body) {
			t.Errorf("%+v becomes %x, was %x", m, got, body)
		}
	})
}

// reference is the digest as the package comment has it.
func reference(data []byte, size uint64) [HashSize]byte {
	var hashes []byte
	for block := BlockSize(size); len(data) > 0; {
		n := min(block, len(data))
		sum := sha256.Sum256(data[:n])
		hashes, data = append(hashes, sum[:]...), data[n:]
	}
	inner := sha256.Sum256(hashes)
	return sha256.Sum256(append(be.AppendUint64([]byte("tucdesk-copy-v1\x00"), size), inner[:]...))
}

func TestDigestIsThatOfTheBlocksHoweverTheyCome(t *testing.T) {
	const size = 3<<20 + 100
	data := make([]byte, size)
	copy(data[1<<20:], "something in the second block")
	want := reference(data, size)
	d := NewDigest(size)
	_, _ = d.Write(data[:1<<20+5000])
	_, _ = d.Write(data[1<<20+5000 : 2<<20])
	d.Zeros(size - 2<<20)
	if d.At() != size || d.Sum() != want {
		t.Error("pieces and zeros make another digest")
	}
	d = NewDigest(size)
	d.Zeros(1 << 20)
	d.Block(sha256.Sum256(data[1<<20:2<<20]), 1<<20)
	d.Block(sha256.Sum256(data[2<<20:3<<20]), 1<<20)
	d.Block(sha256.Sum256(data[3<<20:]), 100)
	if d.At() != size || d.Sum() != want {
		t.Error("whole blocks make another digest")
	}
	if NewDigest(0).Sum() != reference(nil, 0) {
		t.Error("an empty file has another digest")
	}
}

func TestLargestFileHasNoMoreBlocksThanFit(t *testing.T) {
	for _, size := range []uint64{0, 1, minBlock, minBlock + 1, MaxBlocks * minBlock, MaxBlocks*minBlock + 1, MaxSize} {
		b, n := BlockSize(size), Blocks(size)
		if b < minBlock || b&(b-1) != 0 || n > MaxBlocks || uint64(n)*uint64(b) < size || n > 0 && uint64(n-1)*uint64(b) >= size {
			t.Errorf("%d bytes: %d blocks of %d", size, n, b)
		}
	}
}

func TestI1NamesThatLeaveTheTargetAreRefused(t *testing.T) {
	long := strings.Repeat("n", 5000)
	bad := []string{"", ".", "..", "/", "/etc", "../a", "a/..", "a/../../b", "a//b", "a/", "./a", "a/./b", "a\x00b", long, "a/" + strings.Repeat("b", 256), ".x" + PartSuffix, "x/.Y.TUCDE\u017fK-PART", ".x" + PartSuffix + ". "}
	for _, name := range bad {
		for _, system := range []string{"linux", "darwin", "windows"} {
			if err := CheckName(system, name); refusal.Of(err) != refusal.BadPath {
				t.Errorf("%.20q on %s: %v", name, system, err)
			}
		}
	}
	onWindows := []string{`a\b`, `..\a`, "C:", "C:a", "a:stream", "CON", "con.txt", "a/NUL", "com1", "LPT9.log", "COM¹", "aux .txt", "CONIN$", "a.", "a ", "a<", "a?", "a\x1b"}
	for _, name := range onWindows {
		if err := CheckName("windows", name); refusal.Of(err) != refusal.BadPath {
			t.Errorf("%q on windows: %v", name, err)
		}
		if err := CheckName("linux", name); err != nil {
			t.Errorf("%q on linux, where it is only a name: %v", name, err)
		}
	}
	for _, name := range []string{"a", "a/b.c", "..a", "-rf", "COM", "COM10", "console", "ä/ö", "dev-disk-by", strings.Repeat("n", 255)} {
		if err := CheckName("windows", name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// No name that passes leads out of a folder, on the system that it is for.
func FuzzCheckName(f *testing.F) {
	for _, s := range []string{"a", "a/b", "../a", `a\..\..`, "C:/x", "a/./b", "nul"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckName("linux", name) == nil && (strings.HasPrefix(name, "/") || strings.Contains("/"+name+"/", "/../")) {
			t.Errorf("%q passes", name)
		}
		if CheckName("windows", name) == nil && (CheckName("linux", name) != nil || strings.ContainsAny(name, `\:`)) {
			t.Errorf("%q passes on windows", name)
		}
		if fs.ValidPath(name) == false && CheckName("linux", name) == nil && strings.ToValidUTF8(name, "") == name {
			t.Errorf("%q passes", name)
		}
	})
}

func TestI3LinksStayInTheirTree(t *testing.T) {
	good := [][2]string{{"t/a", "b"}, {"t/a/b", "../c"}, {"t/a/b", ".."}, {"t/a", "b/c"}}
	for _, l := range good {
		if err := CheckLink(l[0], l[1]); err != nil {
			t.Errorf("%q -> %q: %v", l[0], l[1], err)
		}
	}
	bad := [][2]string{{"t", "x"}, {"t/a", "/etc"}, {"t/a", ""}, {"t/a", "../x"}, {"t/a/b", "../../../x"}, {"t/a", "b/../../x"}, {"t/a", "b/.."}, {"t/a", `..\x`}, {"t/a", "x\x00"}, {"t/a", strings.Repeat("x", 256)}}
	for _, l := range bad {
		if err := CheckLink(l[0], l[1]); refusal.Of(err) != refusal.BadPath {
			t.Errorf("%q -> %q: %v", l[0], l[1], err)
		}
	}
}

func TestI6OnlyNamesThatWereAskedFor(t *testing.T) {
	asked := []string{"site", "/var/log/*.log", "~/a[1]", "logs/"}
	for _, name := range []string{"site", "site/x/y", "b.log", "a1", "a[1]", "logs/x"} {
		if !Asked(asked, name) {
			t.Errorf("%q was asked for", name)
		}
	}
	for _, name := range []string{".bashrc", "sites", "x/site", "log", "a2"} {
		if Asked(asked, name) {
			t.Errorf("nobody asked for %q", name)
		}
	}
}

func TestProblemsKeepTheReasonAndNotThePath(t *testing.T) {
	p := ProblemOf("n", &fs.PathError{Op: "open", Path: "/secret/place", Err: fs.ErrPermission})
	if p.Code != refusal.FileDenied || strings.Contains(p.Text, "secret") {
		t.Errorf("%+v", p)
	}
	if p := ProblemOf("n", errors.New("odd")); p.Code != refusal.FileFailed {
		t.Errorf("%+v", p)
	}
}
