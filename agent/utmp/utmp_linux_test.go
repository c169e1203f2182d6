package utmp

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// records makes empty files.
func records(t *testing.T) Files {
	t.Helper()
	if _, ok := here(); !ok {
		t.Skip("the layout of these files is not known on this architecture")
	}
	dir := t.TempDir()
	f := Files{Utmp: filepath.Join(dir, "utmp"), Wtmp: filepath.Join(dir, "wtmp"), Lastlog: filepath.Join(dir, "lastlog")}
	for _, name := range []string{f.Utmp, f.Wtmp, f.Lastlog} {
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// say runs one of the machine's own tools.
func say(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing", name)
		}
		t.Skipf("this test wants %s: apt-get install coreutils util-linux", name)
	}
	cmd := exec.Command(name, args...)
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

var ann = Login{PID: os.Getpid(), Line: "pts/7", User: "ann", UID: 3, Host: "tucdesk:ann@example.com", At: time.Unix(1790000000, 123456000)}

func TestToolsOfTheMachineReadWhatIsWritten(t *testing.T) {
	f := records(t)
	bob := ann
	bob.Line, bob.User, bob.Host = "pts/1234", "bob", "x\x1b[2J\u00e4"
	for _, r := range []Login{ann, bob} {
		if err := f.In(r); err != nil {
			t.Fatal(err)
		}
	}
	if out := say(t, "who", f.Utmp); !strings.Contains(out, "ann      pts/7        Sep 21 14:13 (tucdesk:ann@example.com)") || !strings.Contains(out, "bob      pts/1234     Sep 21 14:13 (x?[2J??)") {
		t.Errorf("who says\n%s", out)
	}
	if err := f.Out(ann, ann.At.Add(90*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if out := say(t, "who", f.Utmp); strings.Contains(out, "ann") || !strings.Contains(out, "bob") {
		t.Errorf("who says\n%s", out)
	}
	if out := say(t, "last", "-w", "-F", "-f", f.Wtmp); !strings.Contains(out, "ann      pts/7        tucdesk:ann@example.com Mon Sep 21 14:13:20 2026 - Mon Sep 21 15:43:20 2026  (01:30)") {
		t.Errorf("last says\n%s", out)
	}
	if info, err := os.Stat(f.Lastlog); err != nil || info.Size() != 4*292 && info.Size() != 4*296 {
		t.Errorf("lastlog: %v, %v", info.Size(), err)
	}
}

func TestRecordOfATerminalIsUsedAgain(t *testing.T) {
	f := records(t)
	for i := range 5 {
		r := ann
		r.At = r.At.Add(time.Duration(i) * time.Hour)
		if err := f.In(r); err != nil {
			t.Fatal(err)
		}
		if err := f.Out(r, r.At.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	l, _ := here()
	if info, err := os.Stat(f.Utmp); err != nil || info.Size() != int64(l.size) {
		t.Errorf("utmp has %d bytes, %v", info.Size(), err)
	}
	if info, err := os.Stat(f.Wtmp); err != nil || info.Size() != 10*int64(l.size) {
		t.Errorf("wtmp has %d bytes, %v", info.Size(), err)
	}
}

func TestEndOfALoginLeavesTheNextOneOfItsTerminalAlone(t *testing.T) {
	f := records(t)
	next := ann
	next.PID, next.User = ann.PID+1, "next"
	for _, r := range []Login{ann, next} {
		if err := f.In(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Out(ann, ann.At); err != nil {
		t.Fatal(err)
	}
	if out := say(t, "who", f.Utmp); !strings.Contains(out, "next") {
		t.Errorf("who says\n%s", out)
	}
}

func TestLoginsOfAKilledAgentAreEnded(t *testing.T) {
	f := records(t)
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	left, other := ann, ann
	left.PID, left.Line, left.User = gone.Process.Pid, "pts/8", "left"
	other.PID, other.Line, other.User, other.Host = gone.Process.Pid, "pts/9", "other", "example.com"
	for _, r := range []Login{ann, left, other} {
		if err := f.In(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sweep("tucdesk:", ann.At); err != nil {
		t.Fatal(err)
	}
	if out := say(t, "who", f.Utmp); !strings.Contains(out, "ann") || strings.Contains(out, "left") || !strings.Contains(out, "other") {
		t.Errorf("who says\n%s", out)
	}
}

func TestFilesThatAreNotThereAreNotMade(t *testing.T) {
	dir := t.TempDir()
	f := Files{Utmp: filepath.Join(dir, "utmp"), Wtmp: filepath.Join(dir, "wtmp"), Lastlog: filepath.Join(dir, "lastlog")}
	if err := f.In(ann); err != nil {
		t.Error(err)
	}
	if err := f.Out(ann, ann.At); err != nil {
		t.Error(err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 0 {
		t.Errorf("%v", list)
	}
}

// TestReadersLockHoldsNoLoginUp: everybody may read the file, and whoever may read it
// may lock it.
func TestReadersLockHoldsNoLoginUp(t *testing.T) {
	f := records(t)
	reader, err := os.Open(f.Utmp)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := syscall.FcntlFlock(reader.Fd(), fOFDSetLock, &syscall.Flock_t{Type: syscall.F_RDLCK}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := f.In(ann); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 60*lockWithin { // it has waited once
		t.Errorf("it took %v", took)
	}
	if out := say(t, "who", f.Utmp); !strings.Contains(out, "ann") {
		t.Errorf("who says\n%s", out)
	}
}

func TestLoginsSideBySideAreAllThere(t *testing.T) {
	f := records(t)
	var all sync.WaitGroup
	const n = 32
	for i := range n {
		all.Go(func() {
			r := ann
			r.Line, r.User = fmt.Sprint("pts/", i), fmt.Sprint("user", i)
			if err := f.In(r); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := strings.Count(say(t, "who", f.Utmp), "user"); got != n {
		t.Errorf("who knows %d of %d", got, n)
	}
}

func TestTerminalIsTheKernelsWord(t *testing.T) {
	for dev, want := range map[uint64]string{136 << 8: "pts/0", 136<<8 | 5: "pts/5", 136<<8 | 0x100000: "pts/256", 137<<8 | 1: "pts/257", 4<<8 | 1: "", 0: ""} {
		if got := pts(dev); got != want {
			t.Errorf("%#x: %q, want %q", dev, got, want)
		}
	}
	if got := TerminalOf(1, os.Getpid()); got != "" {
		t.Errorf("a process that is not ours has %q", got)
	}
}

func TestLayoutsOfBothArchitectures(t *testing.T) {
	for arch, l := range layouts {
		b := l.encode(userProcess, ann)
		kind, r := l.decode(b)
		if len(b) != l.size || kind != userProcess || r.PID != ann.PID || r.Line != ann.Line || r.User != ann.User || r.Host != ann.Host {
			t.Errorf("%s: %d %+v", arch, kind, r)
		}
		if !bytes.Equal(l.encode(deadProcess, ann)[userAt:exitAt], make([]byte, exitAt-userAt)) {
			t.Errorf("%s: a dead record names somebody", arch)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, l := range layouts {
			b := make([]byte, l.size)
			copy(b, raw)
			if _, r := l.decode(b); strings.ContainsRune(r.User+r.Line+r.Host, 0) {
				t.Fatalf("%+v", r)
			}
		}
	})
}
