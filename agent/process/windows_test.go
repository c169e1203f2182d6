//go:build windows

package process

import (
	"bufio"
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
