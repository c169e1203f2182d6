package endtoend

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/programtest"
)

// windowsMachine joins a machine with Windows and starts its agent there.
func (w *world) windowsMachine(name, tags string) (*machine, *windows) {
	w.t.Helper()
	win := newWindows(w.t)
	m := &machine{w: w, name: name, dir: win.path("agent")}
	join := exec.Command(program(w.t, "tucdesk-agent"), "join", "--state", `C:\agent`, "--name", name, "-")
	win.wrap(join, win.agent)
	join.Stdin = strings.NewReader(w.token(tags))
	launch(w.t, join).finish().is(w.t, 0)
	// Wine shows what access lists give to everybody; the group stands for administrators.
	for _, file := range []string{"", "identity", "agent.json", "audit.spool"} {
		if info := must(os.Stat(filepath.Join(m.dir, file))); info.Mode()&0o007 != 0 {
			w.t.Errorf("others have %v on %q of the agent's state", info.Mode(), file)
		}
	}
	m.cmd = func(cmd *exec.Cmd) {
		cmd.Args = []string{"", "run", "--state", `C:\agent`, "--no-port-mapping"}
		win.wrap(cmd, win.agent)
	}
	m.start()
	return m, win
}

// onWindows is what every test of a machine with Windows has.
type onWindows struct {
	*world
	m    *machine
	win  *windows
	tool string // testdata/windows, as the machine names it
}

// windowsRules let the team do on a machine what can be done there.
const windowsRules = `version = 1
mode = "enforce"

[[allow]]
id = "team"
who.roles = ["admin"]
users = ["@agent", "root", "Root", 'VM\root', "administrator"]
actions = ["shell", "exec", "copy", "forward", "forward-agent"]

[[allow]]
id = "walled"
who.emails = ["bob@acme.example"]
users = ["@agent"]
actions = ["copy"]
roots = ['C:\tools\tree']
`

// TestWindows is one machine for all that is tried on it: setting one up takes longer
// than anything else.
func TestWindows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(_ *world, p *plan) { p.policy = windowsRules })
	m, win := w.windowsMachine("win", "web")
	o := &onWindows{w, m, win, win.local(win.tool)}
	t.Run("arguments arrive as they were signed", o.arguments)
	t.Run("statuses are exact", o.statuses)
	t.Run("streams are three", o.streams)
	t.Run("the environment is the user's own", o.environment)
	t.Run("a shell reads its line", o.shell)
	t.Run("a terminal", o.terminal)
	t.Run("tests of packages", o.packages)
	t.Run("H7 one spelling of one user", o.users)
	t.Run("files", o.files)
	t.Run("files in the folders of a policy", o.walled)
	t.Run("no path leads to another machine", o.elsewhere)
	t.Run("OpenSSH", o.openssh)
	t.Run("forwards", o.forwards)
	t.Run("ping", o.ping)
	t.Run("what there is not", o.refusals)
	t.Run("H2 nothing outlives session or agent", o.nothingStays)
}

// exec runs a program and fails unless its status is code.
func (o *onWindows) exec(t *testing.T, code int, argv ...string) answer {
	t.Helper()
	return o.ann.run(append([]string{"exec", "win", "--"}, argv...)...).is(t, code)
}

func (o *onWindows) arguments(t *testing.T) {
	argv := []string{o.tool, "argv", "", "a b", `"`, `a\"b`, `c:\dir\`, `c:\my dir\`, `\\`, "%PATH%", "^&|<>", "ü€😀", "--", `a"b c"d`, "a\tb\nc", "*"}
	var want strings.Builder
	for _, a := range argv {
		fmt.Fprintf(&want, "%q\n", a)
	}
	if got := o.exec(t, 0, argv...); got.out != want.String() {
		t.Errorf("arguments changed:\n%s\nwant\n%s", got.out, &want)
	}
	o.exec(t, 1, o.tool, "argv", "\xff").refused(t, 1, "bad_argument")
	o.exec(t, 127, `\\elsewhere\share\tool.exe`).refused(t, 127, "command_not_found")
	write(t, o.win.path("tools", "run.bat"), "echo %1")
	o.exec(t, 126, `C:\tools\run.bat`, "x").refused(t, 126, "not_executable")
}

func (o *onWindows) statuses(t *testing.T) {
	o.exec(t, 7, o.tool, "exit", "7")
	for code, text := range map[string]string{"256": "256 (0x00000100)", "0xC0000005": "3221225477 (0xC0000005)"} {
		if a := o.exec(t, 1, o.tool, "exit", code); !strings.Contains(a.err, text) {
			t.Errorf("%s: %q", code, a.err)
		}
	}
}

func (o *onWindows) streams(t *testing.T) {
	input := noise(300_000)
	a := o.ann.feed(in(input), "exec", "win", "--", o.tool, "copy").is(t, 0)
	if a.out != string(input) || a.err != "end of input\n" {
		t.Errorf("%d bytes came back of %d, and %q", len(a.out), len(input), a.err)
	}
}

func (o *onWindows) environment(t *testing.T) {
	lines := strings.Split(strings.ReplaceAll(o.exec(t, 0, o.tool, "env").out, "\r", ""), "\n")
	for _, want := range []string{`PATH=C:\windows\system32;C:\windows;C:\tools`, `SystemRoot=C:\windows`, "USER=root"} {
		if !slices.Contains(lines, want) {
			t.Errorf("no %q in %q", want, lines)
		}
	}
	for _, line := range lines {
		if strings.HasPrefix(line, "SUPERVISOR_SECRET") {
			t.Errorf("the agent's own %q", line)
		}
	}
}

// The line is cmd.exe's: it is read as it stands.
func (o *onWindows) shell(t *testing.T) {
	a := o.ann.run("ssh", "-T", "win", `echo %OS% "a  b" & exit 3`).is(t, 3)
	if a.out != "Windows_NT \"a  b\" \r\n" {
		t.Errorf("%q", a.out)
	}
	if a := o.ann.feed(strings.NewReader("exit 4\r\n"), "ssh", "-T", "win").is(t, 4); !strings.Contains(a.out, `C:\users\root>`) {
		t.Errorf("%q", a.out)
	}
}

func (o *onWindows) terminal(t *testing.T) {
	s := o.ann.at(100, 30, "xterm", "exec", "-t", "win", "--", o.tool, "lines")
	s.shows(0, `your turn 100x30`)
	s.ask("hello", `got <hello>`)
	s.ask("ü€", `got <ü€>`)
	s.types("enough\r")
	if code := s.status(); code != 5 {
		t.Errorf("ends with %d: %q", code, s.seen.String())
	}
	s = o.ann.at(80, 24, "xterm", "exec", "-t", "win", "--", o.tool, "lines")
	s.shows(0, `your turn`)
	s.types("\x03") // Windows would end it with 0xC000013A, Wine ends it with 0
	s.status()
	s = o.ann.at(80, 24, "xterm", "ssh", "-t", "win", "cmd <CONIN$ >CONOUT$ 2>&1") // Wine gives it no streams
	s.shows(0, `C:.users.root>`)
	s.ask("echo %OS%", `Windows_NT`)
	s.types("exit 6\r")
	if code := s.status(); code != 6 {
		t.Errorf("a shell ends with %d: %q", code, s.seen.String())
	}
}

// packages has the tests that packages have for Windows run there.
func (o *onWindows) packages(t *testing.T) {
	for _, pkg := range []string{"agent/pipe", "agent/process", "internal/drive", "internal/keyfile"} {
		cmd := exec.Command(o.win.buildTest("./"+pkg, o.win.path("tools", filepath.Base(pkg)+".test.exe")), "-test.timeout=100s")
		o.win.wrap(cmd, cmd.Path)
		if a := launch(t, cmd).finish(); a.code != 0 {
			t.Errorf("%s: %s%s", pkg, a.out, a.err)
		}
	}
}

func (o *onWindows) users(t *testing.T) {
	o.ann.run("exec", "root@win", "--", o.tool, "exit", "0").is(t, 0)
	for _, name := range []string{"Root", `VM\root`, "administrator"} {
		o.ann.run("exec", "-l", name, "win", "--", o.tool, "exit", "0").refused(t, 253, "user_not_allowed")
	}
}

func (o *onWindows) files(t *testing.T) {
	big := noise(1<<20 + 5)
	write(t, o.path("big"), string(big))
	o.ann.run("cp", o.path("big"), `win:C:\tools\big`).is(t, 0)
	sameFile(t, o.win.path("tools", "big"), big)
	o.ann.run("cp", "win:C:/tools/big", o.path("back")).is(t, 0)
	sameFile(t, o.path("back"), big)
	deep(t, o.path("tree", "sub", "a file"), "text")
	o.ann.run("cp", "-r", o.path("tree"), `win:C:\tools`).is(t, 0)
	sameFile(t, o.win.path("tools", "tree", "sub", "a file"), []byte("text"))
	o.ann.run("cp", "-r", `win:C:/tools/tree`, o.path("twin")).is(t, 0)
	sameFile(t, o.path("twin", "sub", "a file"), []byte("text"))
}

func (o *onWindows) walled(t *testing.T) {
	bob := o.enter("bob", "operator")
	bob.run("cp", "win:C:/tools/tree/sub/a file", o.path("seen")).is(t, 0)
	sameFile(t, o.path("seen"), []byte("text"))
	bob.run("cp", o.path("seen"), "win:C:/tools/tree/new").is(t, 0)
	sameFile(t, o.win.path("tools", "tree", "new"), []byte("text"))
	for _, outside := range []string{"C:/tools/big", "C:/tools/tree/sub/../../big", "C:tools/big", "Z:" + o.path("big"), `\\?\C:\tools\big`} {
		if a := bob.run("cp", "win:"+outside, o.path("stolen")); a.code == 0 || exists(o.path("stolen")) {
			t.Errorf("%q was read: %+v", outside, a)
		}
	}
	for _, outside := range []string{"C:/tools/big", `C:\tools\tree\..\big`} {
		if a := bob.run("cp", o.path("seen"), "win:"+outside); a.code == 0 {
			t.Errorf("%q was written: %+v", outside, a)
		}
	}
	sameFile(t, o.win.path("tools", "big"), must(os.ReadFile(o.path("big"))))
}

// Looking at a share would show the credentials of the agent's user to its server.
func (o *onWindows) elsewhere(t *testing.T) {
	for _, path := range []string{`\\elsewhere\share\f`, "//elsewhere/share/*", `\\?\UNC\elsewhere\share\f`, `\\.\pipe\f`, `Y:\f`, "y:/f"} {
		o.ann.run("cp", "win:"+path, o.path("never")).refused(t, 1, "bad_path")
		o.ann.run("cp", o.path("big"), "win:"+path).refused(t, 1, "bad_path")
		o.ann.run("exec", "--cwd", path, "win", "--", o.tool, "exit", "0").refused(t, 1, "bad_argument")
	}
}

func (o *onWindows) openssh(t *testing.T) {
	if _, err := exec.LookPath("sftp"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no sftp: apt-get install openssh-client")
		}
		t.Skip("no sftp: apt-get install openssh-client")
	}
	client := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, append([]string{"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			"-o", "ProxyCommand=" + program(t, "tucdesk") + " proxy %h"}, args...)...)
		cmd.Env = o.ann.cmd().Env
		return cmd
	}
	for line, status := range map[string]int{"exit 7": 7, "exit 256": 1} {
		launch(t, client("ssh", "@agent@win", line)).finish().is(t, status)
	}
	cmd := client("sftp", "-b", "-", "@agent@win")
	cmd.Stdin = strings.NewReader("put " + o.path("big") + " /C:/tools/sent\nget /C:/tools/sent " + o.path("got") + "\nmkdir /C:/tools/made\nrename /C:/tools/sent /C:/tools/made/moved\nls /C:/tools/made\n")
	a := launch(t, cmd).finish().is(t, 0)
	cmd = client("sftp", "-b", "-", "@agent@win")
	cmd.Stdin = strings.NewReader(`mkdir "/\\\\elsewhere\\share\\d"` + "\n")
	if a := launch(t, cmd).finish().is(t, 1); !strings.Contains(a.err, "ermission denied") {
		t.Errorf("a share by SFTP: %q", a.err)
	}
	want := must(os.ReadFile(o.path("big")))
	sameFile(t, o.path("got"), want)
	sameFile(t, o.win.path("tools", "made", "moved"), want)
	if !strings.Contains(a.out, "/C:/tools/made/moved") {
		t.Errorf("%q", a.out)
	}
}

func (o *onWindows) ping(t *testing.T) {
	o.ann.run("ping", "-c", "1", "win").is(t, 0)
}

// refusals are what this version does not do there, each by its name.
func (o *onWindows) refusals(t *testing.T) {
	s := o.ann.at(80, 24, "xterm", "ssh", "--name", "kept", "win")
	s.ends(t, 255, "shells are not kept on Windows by this version")
	socket := o.path("agent.sock")
	l := must(net.Listen("unix", socket)) // nobody comes
	defer l.Close()
	lend := o.ann.cmd("ssh", "-AT", "win", "exit 0")
	lend.Env = append(lend.Env, "SSH_AUTH_SOCK="+socket)
	if a := launch(t, lend).finish().is(t, 0); !strings.Contains(a.err, "the SSH agent is not lent: unavailable: programs on Windows") {
		t.Errorf("a lent agent: %q", a.err)
	}
}

func (o *onWindows) forwards(t *testing.T) {
	port := echo(t)
	local, remote := programtest.Port(t), programtest.Port(t)
	f := o.ann.start("forward", "win", local+":127.0.0.1:"+port, "-R", remote+":127.0.0.1:"+port)
	for _, p := range []string{local, remote} {
		eventually(t, "a forward stands", func() bool { text, err := fetch(p); return err == nil && text == "hello" })
	}
	f.stop()
}

func (o *onWindows) nothingStays(t *testing.T) {
	mark := "mark-" + key.Hash(noise(32)).String()[:16]
	begin := func() *process {
		p := o.ann.start("exec", "win", "--", o.tool, "tree", mark)
		eventually(t, "the tree stands", func() bool { return p.out.Count("started") == 1 && o.win.running(mark) == 3 })
		return p
	}
	p := begin()
	p.stop()
	o.win.gone(mark)
	p = begin()
	o.m.proc.kill()
	o.win.gone(mark)
	p.stop()
	o.m.start() // what it has on the disk is whole
	o.exec(t, 7, o.tool, "exit", "7")
	status := exec.Command("", "status", "--state", `C:\agent`)
	o.win.wrap(status, o.win.agent)
	if a := launch(t, status).finish().is(t, 0); !strings.Contains(a.out, "connected since") {
		t.Errorf("%q", a.out)
	}
}

// running counts processes that have mark among their arguments.
func (w *windows) running(mark string) (n int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		line, _ := os.ReadFile(f) // it may have ended
		if strings.Contains(string(line), mark) && !strings.Contains(string(line), "\x00exec\x00") {
			n++
		}
	}
	return n
}

func (w *windows) gone(mark string) {
	w.t.Helper()
	eventually(w.t, "what the session started has ended", func() bool { return w.running(mark) == 0 })
}
