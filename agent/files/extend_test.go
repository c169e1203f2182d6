package files

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/tucdesk/tucdesk/internal/confine"
)

// serveEnv makes the test binary an SFTP server on its standard streams, for the folder
// that it names.
const serveEnv = "TUCDESK_TEST_SFTP"

// actAsServer is what OpenSSH's sftp starts with -D.
func actAsServer(home string) int {
	read, err := confine.Open(nil)
	if err == nil {
		err = Serve(os.Stdin, os.Stdout, Config{Home: home, Read: read, Write: read})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// sftpOf types commands into OpenSSH's own client.
func sftpOf(t *testing.T, home string, lines ...string) (said string) {
	t.Helper()
	path, err := exec.LookPath("sftp")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("sftp is missing: apt-get install openssh-client")
		}
		t.Skip("sftp is missing: apt-get install openssh-client")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-vvv", "-b", "-", "-D", self)
	cmd.Dir, cmd.Env = home, append(os.Environ(), serveEnv+"="+home)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%q: %v\n%s", lines, err, out)
	}
	return string(out)
}

func TestOpenSSHsClientUsesWhatIsServed(t *testing.T) {
	home := t.TempDir()
	write(t, strings.Repeat("0123456789", 100_000), home, "a")
	said := sftpOf(t, home, "put -f a b", "get b c", "ln b d", "ln -s b e", "rename c b", "df -i .", "pwd", "-cp a f", "ls -l a")
	for _, want := range []string{
		"Server supports extension \"fsync@openssh.com\" revision 1", "Server supports extension \"limits@openssh.com\" revision 1",
		"Server supports extension \"expand-path@openssh.com\" revision 1", "Server supports extension \"posix-rename@openssh.com\"",
		"Server supports extension \"statvfs@openssh.com\"", "Server supports extension \"hardlink@openssh.com\"",
		"server handle limit 512", "Received data 0 -> 261119", "Sending SSH2_FXP_EXTENDED(fsync@openssh.com)", "Remote working directory: " + home,
		"Server does not support copy-data extension", "Inodes",
	} {
		if !strings.Contains(strings.ReplaceAll(said, "\r", ""), want) {
			t.Errorf("it does not say %q", want)
		}
	}
	for _, name := range []string{"b", "d", "e"} {
		if got, err := os.ReadFile(filepath.Join(home, name)); err != nil || len(got) != 1_000_000 {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if t.Failed() {
		t.Log(said)
	}
}

// The bytes of a client and of the library come in pieces of any size.
func TestPacketsPassWholeWhateverPiecesTheyComeIn(t *testing.T) {
	limits := pack(typeExtended, 7, written("limits@openssh.com"))
	if want := "\x00\x00\x00\x1b\xc8\x00\x00\x00\x07\x00\x00\x00\x12limits@openssh.com"; string(limits) != want {
		t.Fatalf("limits is %q", limits)
	}
	sent := bytes.Join([][]byte{
		{0, 0, 0, 5, 1, 0, 0, 0, 3}, limits, pack(typeWrite, 8, written("1"), numbers(0), written(strings.Repeat("x", 5000))),
		pack(typeExtended, 9, written("fsync@openssh.com"), written("1")), pack(typeExtended, 10, written("expand-path@openssh.com"), written("~/x")),
		pack(typeExtended, 11, written("copy-data"), written("1")), pack(typeExtended, 12, written("nobody@knows")),
	}, nil)
	forwarded := bytes.Join([][]byte{
		{0, 0, 0, 5, 1, 0, 0, 0, 3}, pack(typeWrite, 8, written("1"), numbers(0), written(strings.Repeat("x", 5000))),
		pack(typeWrite, 9, written("1"), numbers(syncAt), written("")), pack(typeRealpath, 10, written("/home/ann/x")), pack(typeExtended, 12, written("nobody@knows")),
	}, nil)
	for name, pieces := range map[string]func(io.Reader) io.Reader{"one byte": iotest.OneByteReader, "half": iotest.HalfReader, "at once": func(r io.Reader) io.Reader { return r }} {
		var out bytes.Buffer
		a := &answers{w: &out, greeted: true}
		got, err := io.ReadAll(pieces(&requests{r: pieces(bytes.NewReader(sent)), out: a, home: "/home/ann"}))
		if err != nil || !bytes.Equal(got, forwarded) {
			t.Errorf("%s: the library gets %q, %v", name, got, err)
		}
		if want := append(pack(typeExtendedReply, 7, numbers(maxPacket, maxData, maxData, maxOpen)), pack(typeStatus, 11, status(statusUnsupported, refused["copy-data"]))...); !bytes.Equal(out.Bytes(), want) {
			t.Errorf("%s: the client gets %q", name, out.Bytes())
		}
	}
}

func TestOurAnswersComeBetweenPackets(t *testing.T) {
	version, data := []byte{0, 0, 0, 5, typeVersion, 0, 0, 0, 3}, pack(103, 1, written(strings.Repeat("d", 300)))
	for at := range len(data) {
		var out bytes.Buffer
		a := &answers{w: &out}
		steps := []error{a.answer(typeStatus, 5, status(0, "early"))}
		for _, b := range version {
			_, err := a.Write([]byte{b})
			steps = append(steps, err)
		}
		_, err := a.Write(data[:at])
		steps = append(steps, err, a.answer(typeStatus, 6, status(0, "ours")))
		_, err = a.Write(data[at:])
		if err := errors.Join(append(steps, err)...); err != nil {
			t.Fatal(err)
		}
		var types []byte
		for b := out.Bytes(); len(b) > 0; b = b[4+binary.BigEndian.Uint32(b):] {
			types = append(types, b[4])
		}
		want := []byte{typeVersion, typeStatus, 103, typeStatus}
		if at == 0 {
			want = []byte{typeVersion, typeStatus, typeStatus, 103}
		}
		if !bytes.Equal(types, want) {
			t.Fatalf("after %d bytes: %v", at, types)
		}
	}
}

func TestAClientThatOnlyAsksIsLeft(t *testing.T) {
	endless := bytes.Repeat(pack(typeExtended, 7, written("limits@openssh.com")), 100_000)
	q := &requests{r: bytes.NewReader(endless), out: &answers{w: io.Discard}}
	if _, err := io.Copy(io.Discard, q); !errors.Is(err, errImpatient) {
		t.Errorf("it ends with %v", err)
	}
}

// Whatever a client sends, what the library gets is packets, and as many as came but for
// those that are answered.
func FuzzRequests(f *testing.F) {
	f.Add(pack(typeExtended, 7, written("limits@openssh.com")))
	f.Add(pack(typeExtended, 7, written("fsync@openssh.com"), written("1")))
	f.Add(pack(typeExtended, 7, written("expand-path@openssh.com"), written("~x")))
	f.Add(pack(typeWrite, 8, written("1"), numbers(0), written("x")))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 1, typeExtended})
	f.Fuzz(func(t *testing.T, sent []byte) {
		var out bytes.Buffer
		got, err := io.ReadAll(&requests{r: bytes.NewReader(sent), out: &answers{w: &out, greeted: true}, home: "/"})
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
		in, ours, passed := packets(sent), packets(out.Bytes()), packets(got)
		if err == nil && in != ours+passed {
			t.Errorf("%d packets came, %d are answered and %d passed on", in, ours, passed)
		}
	})
}

// packets counts them, an incomplete one at the end as well.
func packets(b []byte) (n int) {
	for ; len(b) >= 4; n++ {
		b = b[min(uint64(len(b)), 4+uint64(binary.BigEndian.Uint32(b))):]
	}
	return n
}
