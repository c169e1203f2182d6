//go:build windows

package process

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/windows"

	"github.com/tucdesk/tucdesk/internal/drive"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// helperEnv makes the test binary act as one of the programs below.
const helperEnv = "TUCDESK_TEST_HELPER"

func TestMain(m *testing.M) {
	helper, arg, _ := strings.Cut(os.Getenv(helperEnv), " ")
	switch helper {
	case "":
		_, _, _ = freeConsole.Call() // a session process has none
		ForgetStarter()
		goleak.VerifyTestMain(m)
	case "argv":
		for _, a := range os.Args {
			fmt.Printf("%q\n", a)
		}
	case "handle": // is this one open here?
		n, _ := strconv.Atoi(arg)
		kind, _ := windows.GetFileType(windows.Handle(n))
		fmt.Println(kind == windows.FILE_TYPE_DISK)
	case "copy":
		n, _ := io.Copy(os.Stdout, os.Stdin)
		os.Exit(int(n))
	case "key":
		pressed := make(chan os.Signal, 1)
		signal.Notify(pressed)
		fmt.Println("ready")
		fmt.Println(<-pressed)
	case "tree":
		exe, _ := os.Executable()
		kid := exec.Command(exe)
		kid.Env = append(os.Environ(), helperEnv+"=wait")
		kid.Stdout = os.Stdout
		if err := kid.Start(); err != nil {
			panic(err)
		}
		fmt.Println(kid.Process.Pid)
	case "sealed":
		if err := SealPrograms(); err != nil {
			panic(err)
		}
		exe, _ := os.Executable()
		kid := exec.Command(exe)
		kid.Env = append(os.Environ(), helperEnv+"=argv")
		fmt.Println(kid.Run() == nil)
	case "wait":
		<-time.After(time.Hour)
	case "console":
		in, err := os.OpenFile("CONIN$", os.O_RDWR, 0)
		if err != nil {
			panic(err)
		}
		out, err := os.OpenFile("CONOUT$", os.O_RDWR, 0)
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(out, "your turn")
		line, _ := bufio.NewReader(in).ReadString('\n')
		fmt.Fprintf(out, "got <%s>\n", strings.TrimSpace(line))
	}
}

func self(t *testing.T) File {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := Resolve(exe, `C:\`)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// run starts this program as a helper.
func run(t *testing.T, helper string, terminal *Terminal, args ...string) *Process {
	t.Helper()
	env, err := Environment(Account{Name: "ann", Home: `C:\`}, "", []Variable{{helperEnv, helper}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Start(Spec{File: self(t), Argv: append([]string{"helper"}, args...), Dir: `C:\`, Env: env, Terminal: terminal, Alone: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.End)
	return p
}

// folder is a temporary one. That of testing is removed by a call that Wine 8 lacks.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		list, _ := os.ReadDir(dir)
		for _, e := range list {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestArgumentsAreSplitIntoTheSame(t *testing.T) {
	alphabet := []rune(`ab \"'^%&é😀` + "\t\n")
	for range 2_000 {
		argv := []string{"program"}
		for range rand.IntN(5) {
			var a strings.Builder
			for range rand.IntN(8) {
				a.WriteRune(alphabet[rand.IntN(len(alphabet))])
			}
			argv = append(argv, a.String())
		}
		line, err := commandLine(Spec{Argv: argv, File: File{Inode: 1}})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := windows.DecomposeCommandLine(windows.UTF16PtrToString(line)); err != nil || !slices.Equal(got, argv) {
			t.Fatalf("%q became %q, %v", argv, got, err)
		}
	}
	argv := []string{"any name", "", "a b", `"`, `\\"\`, `C:\dir\`, "%PATH%", "\u202e"}
	p := run(t, "argv", nil, argv[1:]...)
	var want strings.Builder
	for _, a := range append([]string{"helper"}, argv[1:]...) {
		fmt.Fprintf(&want, "%q\n", a)
	}
	if got := readAll(t, p.Stdout()); got != want.String() {
		t.Errorf("arguments changed:\n%s\nwant\n%s", got, &want)
	}
}

func TestAShellGetsItsLineAsItStands(t *testing.T) {
	a := Account{Shell: `C:\Windows\System32\cmd.exe`}
	for line, want := range map[string]string{
		``:                 `C:\Windows\System32\cmd.exe /d /s /c ""`,
		`"a b" \"& echo "`: `C:\Windows\System32\cmd.exe /d /s /c ""a b" \"& echo ""`,
	} {
		if got, err := commandLine(LoginShell(a, []string{line})); err != nil || windows.UTF16PtrToString(got) != want {
			t.Errorf("%q became %q, %v", line, windows.UTF16PtrToString(got), err)
		}
	}
	if got, err := commandLine(LoginShell(a, nil)); err != nil || windows.UTF16PtrToString(got) != a.Shell {
		t.Errorf("a shell without a line: %q, %v", windows.UTF16PtrToString(got), err)
	}
}

func TestWhatHasNoFormHereIsRefused(t *testing.T) {
	shell := Account{Shell: `C:\Windows\System32\cmd.exe`}
	program := func(argv ...string) Spec { return Spec{Argv: argv, File: File{Inode: 1}} }
	for what, s := range map[string]Spec{
		"not UTF-8":         program("a", "\xff"),
		"a quoted name":     program(`a"`),
		"too long":          program("a", strings.Repeat("b", maxLine)),
		"two lines":         LoginShell(shell, []string{"a\nb"}),
		"a long shell line": LoginShell(shell, []string{strings.Repeat("a", maxShellLine)}),
	} {
		if _, err := commandLine(s); refusal.Of(err) != refusal.BadArgument {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestEnvironmentIsInOrderAndNamesAreFolded(t *testing.T) {
	block, err := environmentBlock([]string{"b=2", "A=1", "C=3"})
	if err != nil {
		t.Fatal(err)
	}
	if got := windows.UTF16PtrToString(block); got != "A=1" {
		t.Errorf("begins with %q", got)
	}
	env, err := Environment(Account{Name: "ann", Home: `C:\`}, "", []Variable{{"temp", "x"}})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range env {
		if sameName(nameOf(e), "TEMP") {
			n++
			if !strings.HasSuffix(e, "=x") {
				t.Errorf("%q", e)
			}
		}
	}
	if n != 1 {
		t.Errorf("%d times in %q", n, env)
	}
	for _, name := range []string{"Path", "comspec", "SystemRoot", "PATHEXT", "UserProfile"} {
		if _, err := Environment(Account{}, "", []Variable{{name, "x"}}); refusal.Of(err) != refusal.EnvNotAllowed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOnlyFilesThatWindowsRunsItselfAreFound(t *testing.T) {
	dir := folder(t)
	for _, name := range []string{"tool.exe", "batch.bat", "batch.cmd", "script.ps1", "plain"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("MZ"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, code := range map[string]refusal.Code{
		`.\tool.exe`: "", `.\tool`: "", `./TOOL.EXE`: "", filepath.Join(dir, "tool"): "", "cmd": "", "cmd.exe": "",
		`.\batch.bat`: refusal.NotExecutable, `.\batch.cmd`: refusal.NotExecutable, `.\batch.bat.`: refusal.NotExecutable, `.\script.ps1`: refusal.NotExecutable, `.\plain`: refusal.NotExecutable,
		"NUL": refusal.NotExecutable, `.\batch`: refusal.CommandNotFound, "tool": refusal.CommandNotFound, `\tool.exe`: refusal.CommandNotFound,
		filepath.Join(dir, "plain:tool.exe"): refusal.CommandNotFound, `\\server\share\tool.exe`: refusal.CommandNotFound,
		`\\?\` + filepath.Join(dir, "tool.exe"): refusal.CommandNotFound, `\\.\pipe\tool.exe`: refusal.CommandNotFound, "C:tool.exe": refusal.CommandNotFound,
	} {
		f, err := Resolve(name, dir)
		if got := refusal.Of(err); got != code || code == "" && (f.Inode == 0 || !drive.Own(f.Path)) {
			t.Errorf("%q: %+v, %v", name, f, err)
		}
	}
}

func TestE6AFileThatWasReplacedDoesNotRun(t *testing.T) {
	dir := folder(t)
	path, other := filepath.Join(dir, "tool.exe"), filepath.Join(dir, "other.exe")
	for _, name := range []string{path, other} {
		if err := os.WriteFile(name, []byte("MZ"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Resolve(path, dir)
	if err != nil {
		t.Fatal(err)
	}
	release, err := holdProgram(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, path); err == nil {
		t.Error("a file was replaced between judging and running it")
	}
	if _, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
		t.Error("a file could be written to between judging and running it")
	}
	release()
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Spec{File: f, Argv: []string{"tool"}, Dir: dir}); refusal.Of(err) != refusal.CommandNotFound {
		t.Errorf("%v", err)
	}
}

// Policies judge by paths, so one file has one, whatever way leads to it.
func TestAProgramHasOnePath(t *testing.T) {
	dir := folder(t)
	path := filepath.Join(dir, "tool.exe")
	if err := os.WriteFile(path, []byte("MZ"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Resolve(path, dir)
	if err != nil {
		t.Fatal(err)
	}
	by := filepath.Join(dir, "by")
	if err := junction(by, dir); err != nil {
		t.Logf("no junction to try it with: %v", err) // Wine 8 makes none
		by = dir + `\..\` + filepath.Base(dir)
	} else {
		defer os.Remove(by)
	}
	for _, name := range []string{by + `\tool`, by + `\TOOL.exe`, strings.ToLower(path)} {
		if got, err := Resolve(name, dir); err != nil || got != f {
			t.Errorf("%q: %+v, %v, want %+v", name, got, err, f)
		}
	}
	crooked := f
	crooked.Path = by + `\tool.exe`
	if release, err := holdProgram(crooked); refusal.Of(err) != refusal.CommandNotFound {
		t.Errorf("a way that may lead elsewhere next time: %v", err)
		if err == nil {
			release()
		}
	}
}

// junction makes the folder from lead to another one.
func junction(from, to string) error {
	if err := os.Mkdir(from, 0o700); err != nil {
		return err
	}
	err := mount(from, to)
	if err != nil {
		_ = os.Remove(from)
	}
	return err
}

// mount writes what a junction is, as Windows keeps it: kind and length, offset and
// length of the name to go to and of the one to show, both ended by a zero.
func mount(from, to string) error {
	name, err := windows.UTF16FromString(`\??\` + to)
	if err != nil {
		return err
	}
	size := uint16(2 * (len(name) - 1))
	b := binary.LittleEndian.AppendUint32(nil, windows.IO_REPARSE_TAG_MOUNT_POINT)
	for _, v := range append([]uint16{8 + size + 4, 0, 0, size, size + 2, 0}, append(name, 0)...) {
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	path, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	h, err := windows.CreateFile(path, windows.GENERIC_WRITE, 0, nil, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(h)
	var n uint32
	return windows.DeviceIoControl(h, windows.FSCTL_SET_REPARSE_POINT, &b[0], uint32(len(b)), nil, 0, &n, nil)
}

func TestAFinalPathIsOnADrive(t *testing.T) {
	if got, err := plain(`\\?\C:\Users\a b.exe`); err != nil || got != `C:\Users\a b.exe` {
		t.Errorf("%q, %v", got, err)
	}
	for _, final := range []string{"", `C:\a.exe`, `\\?\`, `\\?\UNC\host\share\a.exe`, `\\?\Volume{01234567-89ab-cdef-0123-456789abcdef}\a.exe`, `\\?\C:\a:b.exe`, `\\host\share\a.exe`} {
		if got, err := plain(final); err == nil {
			t.Errorf("%q is %q", final, got)
		}
	}
}

func TestAFolderIsOnADrive(t *testing.T) {
	for _, dir := range []string{`\\server\share`, `\`, "", `\\.\C:\`, `C:\no such folder`, "C:"} {
		if _, err := Start(Spec{File: self(t), Argv: []string{"helper"}, Dir: dir}); refusal.Of(err) != refusal.BadArgument {
			t.Errorf("%q: %v", dir, err)
		}
	}
}

func TestH6NothingIsInherited(t *testing.T) {
	file, err := os.Create(filepath.Join(folder(t), "secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	h := windows.Handle(file.Fd())
	if err := windows.SetHandleInformation(h, windows.HANDLE_FLAG_INHERIT, windows.HANDLE_FLAG_INHERIT); err != nil {
		t.Fatal(err)
	}
	for _, terminal := range []*Terminal{nil, {}} {
		p := run(t, fmt.Sprintf("handle %d", h), terminal)
		if got := readAll(t, p.Stdout()); strings.Contains(got, "true") {
			t.Errorf("the program has our file: %q", got)
		}
		p.End()
	}
}

func TestInputEndsAndStatusesAreWhole(t *testing.T) {
	p := run(t, "copy", nil)
	go func() {
		_, _ = io.WriteString(p.Stdin(), strings.Repeat("x", 70_000))
		_ = p.Stdin().Close()
	}()
	if got := readAll(t, p.Stdout()); len(got) != 70_000 {
		t.Errorf("%d bytes", len(got))
	}
	if e := p.Wait(); e != (Exit{Code: 70_000}) {
		t.Errorf("%+v", e)
	}
}

func TestSignals(t *testing.T) {
	p := run(t, "key", nil)
	out := bufio.NewReader(p.Stdout())
	if line, _ := out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q", line)
	}
	for _, name := range []string{"USR1", "QUIT", "", "SIGINT"} {
		if err := p.Signal(name); refusal.Of(err) != refusal.BadArgument {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := p.Signal("INT"); err != nil {
		t.Fatal(err)
	}
	if line, _ := out.ReadString('\n'); line != "interrupt\n" {
		t.Errorf("%q", line)
	}
	if e := p.Wait(); e.Code != 0 {
		t.Errorf("%+v", e)
	}
	p = run(t, "wait", nil)
	if err := p.Signal("KILL"); err != nil {
		t.Fatal(err)
	}
	if e := p.Wait(); e.Code != killedCode {
		t.Errorf("%+v", e)
	}
	p = run(t, "copy", nil)
	if err := p.Signal("HUP"); err != nil {
		t.Fatal(err)
	}
	if e := p.Wait(); e.Code != 0 {
		t.Errorf("%+v", e)
	}
}

func TestH2EndEndsWhatIsLeft(t *testing.T) {
	t.Parallel() // it waits for what has a moment to end by itself
	p := run(t, "tree", nil)
	text := readAll(t, p.Stdout()) // ends although the child has the other end
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	kid, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	p.End()
	if _, err := kid.Wait(); err != nil { // at once: it has ended
		t.Error(err)
	}
}

func TestSealedProcessRunsNothing(t *testing.T) {
	want := "false\n"
	if windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil {
		want = "true\n" // Wine 8 takes the limit and does not keep it
	}
	if got := readAll(t, run(t, "sealed", nil).Stdout()); got != want {
		t.Errorf("it could start a program: %q", got)
	}
}

func TestATerminal(t *testing.T) {
	p := run(t, "console", &Terminal{Size: Size{100, 30}})
	var seen strings.Builder
	b := make([]byte, 1024)
	for !strings.Contains(seen.String(), "your turn") {
		n, err := p.Stdout().Read(b)
		if seen.Write(b[:n]); err != nil {
			t.Fatalf("%v after %q", err, &seen)
		}
	}
	if _, err := io.WriteString(p.Stdin(), "hello\r"); err != nil {
		t.Fatal(err)
	}
	if rest := readAll(t, p.Stdout()); !strings.Contains(rest, "got <hello>") {
		t.Errorf("%q", rest)
	}
	if e := p.Wait(); e.Code != 0 {
		t.Errorf("%+v", e)
	}
	if err := p.Resize(Size{90, 20}); err != nil { // its handle is no more
		t.Errorf("resizing a closed terminal: %v", err)
	}
}

func TestEndEndsATerminal(t *testing.T) {
	t.Parallel() // it waits for what has a moment to end by itself
	p := run(t, "wait", &Terminal{})
	p.End()
	if e := p.Wait(); e.Code == 0 {
		t.Errorf("%+v", e)
	}
}

// Its handle is memory: using it after it is closed would be no error but an accident.
func TestATerminalThatIsHungUpIsNotResized(t *testing.T) {
	t.Parallel() // it waits for what has a moment to end by itself
	p := run(t, "wait", &Terminal{})
	if err := p.Signal("HUP"); err != nil {
		t.Fatal(err)
	}
	if err := p.Resize(Size{90, 20}); err != nil {
		t.Errorf("resizing a terminal that was hung up: %v", err)
	}
	p.End()
	p.tty.(*console).handle = 0 // whoever still uses it, fails
	if err := p.Resize(Size{90, 20}); err != nil {
		t.Errorf("the handle of a closed terminal was used: %v", err)
	}
}

// A number that was closed is soon somebody else's, and KILL would end their job.
func TestNoNumberIsClosedUnderASignal(t *testing.T) {
	p := run(t, "argv", nil)
	p.mu.Lock() // as Signal has it
	ended := make(chan bool)
	go func() {
		defer close(ended)
		p.End()
	}()
	<-p.reap
	for range 1000 {
		runtime.Gosched()
		var code uint32
		if err := windows.GetExitCodeProcess(p.handle, &code); err != nil {
			t.Errorf("the program's handle during a signal: %v", err)
			break
		}
	}
	p.mu.Unlock()
	<-ended
	for _, name := range []string{"INT", "TERM", "KILL", "HUP"} {
		if err := p.Signal(name); err != nil {
			t.Errorf("%s after the end: %v", name, err)
		}
	}
}

func TestNoHandleIsLeftBehind(t *testing.T) {
	about := kernel.NewProc("GetHandleInformation") // of whatever kind; Wine 8 tells no count
	count := func() (n int) {
		for h := uintptr(4); h < 16<<10; h += 4 { // they are small multiples of four
			var flags uint32
			if ok, _, _ := about.Call(h, uintptr(unsafe.Pointer(&flags))); ok != 0 {
				n++
			}
		}
		return n
	}
	once := func() {
		for _, terminal := range []*Terminal{nil, {}} {
			p := run(t, "argv", terminal)
			_ = readAll(t, p.Stdout())
			p.End()
		}
	}
	once()
	before := count()
	for range 20 {
		once()
	}
	if after := count(); before == 0 || after > before+4 { // threads of Go's come and go
		t.Errorf("%d handles before, %d after", before, after)
	}
}
