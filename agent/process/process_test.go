//go:build linux

package process

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/sidebyside"
)

// helperEnv makes the test binary act as one of the programs below: real
// processes, no scripts whose quoting could hide an inexact argument.
const helperEnv = "TUCDESK_TEST_HELPER"

func TestMain(m *testing.M) {
	switch os.Getenv(helperEnv) {
	case "":
		ForgetStarter() // as a session process does: the tests may run under nohup
		sidebyside.Tests(8)
		goleak.VerifyTestMain(m)
	case "argv":
		for _, a := range os.Args {
			fmt.Printf("%q\n", a)
		}
	case "flood":
		b := bytes.Repeat([]byte("y\n"), 16<<10)
		for {
			if _, err := os.Stdout.Write(b); err != nil {
				os.Exit(1)
			}
		}
	case "parent":
		actAsParent()
	case "alone":
		actAlone()
	case "leaving":
		actLeaving(leaving, settle)
	case "leaving late":
		actLeaving(leavingLate, time.Minute) // it takes what a shell needs for the next step, on a busy machine
	case "sealed":
		actSealed()
	}
}

func self(t *testing.T) File {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := Resolve(exe, "/")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func sh(t *testing.T) File {
	t.Helper()
	f, err := Resolve("sh", "/")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func start(t *testing.T, s Spec) *Process {
	t.Helper()
	if s.Dir == "" {
		s.Dir = "/"
	}
	p, err := Start(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.End)
	return p
}

func script(t *testing.T, text string, terminal *Terminal) *Process {
	t.Helper()
	return start(t, Spec{File: sh(t), Argv: []string{"sh", "-c", text}, Env: []string{"PATH=" + Path}, Terminal: terminal})
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestArgumentsArriveByteForByte(t *testing.T) {
	t.Parallel()
	argv := []string{"any name", "", "a b", "'\"`$(id)", "*", "\xff\xfe", "line\nbreak", "\u202e", "--"}
	p := start(t, Spec{File: self(t), Argv: argv, Env: []string{helperEnv + "=argv"}})
	var want strings.Builder
	for _, a := range argv {
		fmt.Fprintf(&want, "%q\n", a)
	}
	if got := readAll(t, p.Stdout()); got != want.String() {
		t.Errorf("arguments changed:\n%s\nwant\n%s", got, &want)
	}
}

func TestH6NothingIsInherited(t *testing.T) {
	t.Setenv("TUCDESK_SECRET", "must not be seen")
	leak, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, leak.Fd(), syscall.F_SETFD, 0); errno != 0 {
		t.Fatal(errno)
	}
	if err := SealDescriptors(); err != nil {
		t.Fatal(err)
	}
	p := start(t, Spec{File: sh(t), Argv: []string{"sh", "-c", "echo /proc/self/fd/*; /usr/bin/env"}, Env: []string{"ONLY=this", "PATH=" + Path}})
	out := readAll(t, p.Stdout())
	for fd := range strings.FieldsSeq(strings.SplitN(out, "\n", 2)[0]) {
		n, _ := strconv.Atoi(filepath.Base(fd))
		if n > 3 { // 3 is the directory that sh lists just now
			t.Errorf("descriptor %d leaked", n)
		}
	}
	if strings.Contains(out, "must not be seen") || !strings.Contains(out, "ONLY=this") {
		t.Errorf("environment: %q", out)
	}
	empty := start(t, Spec{File: mustResolve(t, "env"), Argv: []string{"env"}})
	if out := readAll(t, empty.Stdout()); out != "" {
		t.Errorf("an empty environment became %q", out)
	}
}

func mustResolve(t *testing.T, name string) File {
	t.Helper()
	f, err := Resolve(name, "/")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestH9ExitsAreReportedExactly(t *testing.T) {
	for _, c := range []struct {
		script string
		want   Exit
	}{
		{"exit 0", Exit{}},
		{"exit 1", Exit{Code: 1}},
		{"exit 126", Exit{Code: 126}},
		{"exit 255", Exit{Code: 255}},
		{"kill -TERM $$", Exit{Code: 143, Signal: "TERM"}},
		{"kill -KILL $$", Exit{Code: 137, Signal: "KILL"}},
		{"kill -HUP $$", Exit{Code: 129, Signal: "HUP"}},
		{"kill -USR2 $$", Exit{Code: 140, Signal: "USR2"}},
		{"ulimit -c 0; kill -SEGV $$", Exit{Code: 139, Signal: "SEGV"}},
	} {
		for _, terminal := range []*Terminal{nil, {}} {
			p := script(t, c.script, terminal)
			if got := p.Wait(); got != c.want {
				t.Errorf("%q on a terminal %v: got %+v, want %+v", c.script, terminal != nil, got, c.want)
			}
			p.End()
		}
	}
}

func TestH9StopIsNoEnd(t *testing.T) {
	p := script(t, "kill -STOP $$; exit 7", nil)
	waitFor(t, "the stop", func() bool { return state(p.Pid()) == "T" })
	select {
	case <-p.Exited():
		t.Fatal("a stop was taken for the end")
	default:
	}
	if err := p.Signal("CONT"); err != nil {
		t.Fatal(err)
	}
	if got := p.Wait(); got != (Exit{Code: 7}) {
		t.Errorf("got %+v", got)
	}
}

func TestSignalReachesTheProgram(t *testing.T) {
	p := script(t, "trap 'exit 3' USR1; echo ready; while :; do read x; done", nil)
	if _, err := bufio.NewReader(p.Stdout()).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal("USR1"); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal("NONSENSE"); err == nil {
		t.Error("an unknown signal was sent")
	}
	_ = p.Stdin().Close()
	if got := p.Wait(); got != (Exit{Code: 3}) {
		t.Errorf("got %+v", got)
	}
}

func TestHalfCloseEndsInputOnly(t *testing.T) {
	p := start(t, Spec{File: mustResolve(t, "cat"), Argv: []string{"cat"}})
	if _, err := p.Stdin().Write([]byte("to the end")); err != nil {
		t.Fatal(err)
	}
	_ = p.Stdin().Close()
	if got := readAll(t, p.Stdout()); got != "to the end" {
		t.Errorf("got %q", got)
	}
	if got := p.Wait(); got != (Exit{}) {
		t.Errorf("got %+v", got)
	}
}

func TestOutputBeforeTheExitIsComplete(t *testing.T) {
	for _, terminal := range []*Terminal{nil, {}} {
		p := script(t, "i=0; while [ $i -lt 4000 ]; do echo 0123456789; i=$((i+1)); done", terminal)
		if terminal == nil {
			p.Wait() // 44,000 bytes fit a pipe: the reader comes after the exit
		}
		if n := strings.Count(readAll(t, p.Stdout()), "0123456789"); n != 4000 {
			t.Errorf("on a terminal %v: %d of 4000 lines", terminal != nil, n)
		}
	}
}

func TestStderrIsASecondStream(t *testing.T) {
	p := script(t, "echo out; echo err >&2", nil)
	if out, err := readAll(t, p.Stdout()), readAll(t, p.Stderr()); out != "out\n" || err != "err\n" {
		t.Errorf("got %q and %q", out, err)
	}
}

func TestBackgroundChildDoesNotHoldTheSession(t *testing.T) {
	t.Parallel()
	for _, terminal := range []*Terminal{nil, {}} {
		p := script(t, "trap '' HUP; sleep 1000 & echo started", terminal)
		begin := time.Now()
		if out := readAll(t, p.Stdout()); !strings.Contains(out, "started") {
			t.Errorf("got %q", out)
		}
		if d := time.Since(begin); d > time.Minute { // its child sleeps for a quarter of an hour
			t.Errorf("output ended after %v", d)
		}
		p.End()
		if left := members(p.Pid()); left != 0 {
			t.Errorf("%d processes left", left)
		}
	}
}

func TestEndKillsTheWholeSession(t *testing.T) {
	t.Parallel()
	p := script(t, "trap '' HUP TERM; (trap '' HUP; sleep 1000) & (set -m; sleep 1000 & wait) & echo ready; wait", nil)
	if _, err := bufio.NewReader(p.Stdout()).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	p.End()
	p.End() // again, and nothing happens
	if left := members(p.Pid()); left != 0 {
		t.Errorf("%d processes left", left)
	}
}

func TestH4FloodIsHeldBack(t *testing.T) {
	p := start(t, Spec{File: self(t), Argv: []string{"flood"}, Env: []string{helperEnv + "=flood"}})
	b := make([]byte, 4096)
	for range 100 {
		if _, err := io.ReadFull(p.Stdout(), b); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the writer to block", func() bool { return state(p.Pid()) == "S" })
	written := ioWritten(t, p.Pid())
	if read := int64(100 * 4096); written > read+(1<<20) {
		t.Errorf("%d bytes read, %d already written", read, written)
	}
}

func TestH5SizesAreClamped(t *testing.T) {
	for _, c := range []struct{ in, want Size }{
		{Size{0, 0}, Size{80, 24}}, {Size{-1, -1}, Size{80, 24}}, {Size{65535, 65535}, Size{2048, 2048}}, {Size{132, 43}, Size{132, 43}},
	} {
		p := script(t, "stty size", &Terminal{Size: c.in})
		want := fmt.Sprintf("%d %d", c.want.Rows, c.want.Columns)
		if got := strings.TrimSpace(readAll(t, p.Stdout())); got != want {
			t.Errorf("size %v became %q, want %q", c.in, got, want)
		}
	}
	p := script(t, "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done", &Terminal{})
	r := bufio.NewReader(p.Stdout())
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := p.Resize(Size{100, 65535}); err != nil {
		t.Fatal(err)
	}
	if got, _ := r.ReadString('\n'); strings.TrimSpace(got) != "2048 100" {
		t.Errorf("resized to %q", got)
	}
}

func TestH10TerminalIsItsOwnAndControlling(t *testing.T) {
	p := script(t, `ps -o pid=,sid=,pgid= -p $$; tty; echo $SSH_TTY; read x </dev/tty && echo "got $x"`, &Terminal{})
	r := bufio.NewReader(p.Stdout())
	ids, _ := r.ReadString('\n')
	f := strings.Fields(ids)
	if len(f) != 3 || f[0] != f[1] || f[0] != f[2] {
		t.Errorf("pid, session, group: %q", ids)
	}
	name, _ := r.ReadString('\n')
	if told, _ := r.ReadString('\n'); !strings.HasPrefix(name, "/dev/pts/") || told != name {
		t.Errorf("terminal %q, told %q", name, told)
	}
	if _, err := p.Stdin().Write([]byte("word\n")); err != nil {
		t.Fatal(err)
	}
	if rest := readAll(t, r); !strings.Contains(rest, "got word") {
		t.Errorf("got %q", rest)
	}
}

func TestTerminalModesAreApplied(t *testing.T) {
	modes := []Mode{{Op: 1, Value: 24}, {Op: 53}, {Op: 72}, {Op: 129, Value: 38400}} // ^X interrupts, no echo, no carriage returns, a speed
	p := script(t, "stty -a", &Terminal{Modes: modes})
	out := readAll(t, p.Stdout())
	for _, want := range []string{"intr = ^X", "-echo ", "-onlcr", " iutf8"} {
		if !strings.Contains(out, want) {
			t.Errorf("stty has no %q: %s", want, out)
		}
	}
}

func TestSwappedProgramIsNotRun(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tool")
	copyFile(t, sh(t).Path, path)
	f := mustResolve(t, path)
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	copyFile(t, sh(t).Path, path)
	if _, err := Start(Spec{File: f, Argv: []string{path}, Dir: "/"}); err == nil || !strings.Contains(err.Error(), "judged") {
		t.Errorf("a swapped file gave %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path+".old", path); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Spec{File: f, Argv: []string{path}, Dir: "/"}); err == nil {
		t.Error("a link in place of the file was followed")
	}
}

func TestScriptsAndUnreadableProgramsRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho \"$0\" \"$1\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	p := start(t, Spec{File: mustResolve(t, path), Argv: []string{"name", "arg"}, Env: []string{"PATH=" + Path}})
	if got, want := readAll(t, p.Stdout()), mustResolve(t, path).Path+" arg\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	binary := filepath.Join(t.TempDir(), "binary")
	copyFile(t, mustResolve(t, "true").Path, binary)
	if err := os.Chmod(binary, 0o111); err != nil {
		t.Fatal(err)
	}
	if got := start(t, Spec{File: mustResolve(t, binary), Argv: []string{"true"}}).Wait(); got != (Exit{}) {
		t.Errorf("got %+v", got)
	}
}

func TestE6ResolveFollowsEveryDisguise(t *testing.T) {
	want := mustResolve(t, "cat")
	link := filepath.Join(t.TempDir(), "innocent")
	if err := os.Symlink("/bin/../bin/./cat", link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/bin/../bin/cat", "/usr/bin/cat", link} {
		if got := mustResolve(t, name); got != want {
			t.Errorf("%q is %+v, want %+v", name, got, want)
		}
	}
	if got, err := Resolve("./innocent", filepath.Dir(link)); err != nil || got != want {
		t.Errorf("relative: %+v, %v", got, err)
	}
	for _, name := range []string{"", "a\x00b", "no-such-program-anywhere", "/etc/passwd", "/etc", "innocent"} {
		if got, err := Resolve(name, "/"); err == nil {
			t.Errorf("%q resolved to %+v", name, got)
		}
	}
}

func TestWhatDoesNotStartIsNamed(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := put("plain", "x", 0o600)
	for name, want := range map[string]refusal.Code{
		plain: refusal.NotExecutable, "./plain": refusal.NotExecutable, dir: refusal.NotExecutable,
		"plain": refusal.CommandNotFound, filepath.Join(plain, "below"): refusal.CommandNotFound, filepath.Join(dir, "none"): refusal.CommandNotFound,
	} {
		if _, err := Resolve(name, dir); refusal.Of(err) != want {
			t.Errorf("resolving %q: %v, want %s", name, err, want)
		}
	}
	script, text, gone := put("script", "#!/no/such/interpreter\n", 0o700), put("text", "echo\n", 0o700), put("gone", "echo\n", 0o700)
	removed := mustResolve(t, gone)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	huge := []string{"sh", strings.Repeat("x", 1<<20)}
	for _, c := range []struct {
		name string
		spec Spec
		want refusal.Code
	}{
		{"without its interpreter", Spec{File: mustResolve(t, script), Dir: dir}, refusal.NotExecutable},
		{"of no known kind", Spec{File: mustResolve(t, text), Dir: dir}, refusal.NotExecutable},
		{"a shell that is not executable", Spec{File: File{Path: plain}, Dir: dir}, refusal.NotExecutable},
		{"a shell that is not there", Spec{File: File{Path: "/no/such/shell"}, Dir: dir}, refusal.CommandNotFound},
		{"gone since", Spec{File: removed, Dir: dir}, refusal.CommandNotFound},
		{"no folder", Spec{File: sh(t), Dir: filepath.Join(dir, "none")}, refusal.BadArgument},
		{"a file as folder", Spec{File: sh(t), Dir: plain}, refusal.BadArgument},
		{"too long an argument", Spec{File: sh(t), Argv: huge, Dir: dir}, refusal.BadArgument},
	} {
		_, err := Start(c.spec)
		if refusal.Of(err) != c.want || strings.Contains(fmt.Sprint(err), dir) {
			t.Errorf("%s: %v, want %s without a path", c.name, err, c.want)
		}
	}
}

func TestStartFailureLeavesNothing(t *testing.T) {
	before := openDescriptors(t)
	for range 10 {
		if _, err := Start(Spec{File: sh(t), Argv: []string{"sh"}, Dir: "/no/such/folder"}); err == nil {
			t.Fatal("started in no folder")
		}
		if _, err := Start(Spec{File: sh(t), Argv: []string{"sh"}, Dir: "/no/such/folder", Terminal: &Terminal{}}); err == nil {
			t.Fatal("started in no folder")
		}
	}
	if after := openDescriptors(t); after > before+2 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
