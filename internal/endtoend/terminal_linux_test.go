package endtoend

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tucdesk/tucdesk/internal/programtest"
)

// screen is a client at a terminal: the test holds the other side of it.
type screen struct {
	*process
	master *os.File
	seen   programtest.Transcript
	closed chan struct{}
}

// at types a command at a terminal of this size.
func (p *person) at(cols, rows uint16, term string, args ...string) *screen {
	t := p.w.t
	t.Helper()
	master, slave := openTerminal(t)
	defer slave.Close()
	s := &screen{master: master, closed: make(chan struct{})}
	s.resize(t, cols, rows)
	cmd := p.cmd(args...)
	cmd.Env = append(cmd.Env, "TERM="+term)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	go func() {
		defer close(s.closed)
		b := make([]byte, 32<<10)
		for {
			n, err := master.Read(b)
			_, _ = s.seen.Write(b[:n])
			if err != nil {
				return
			}
		}
	}()
	s.process = launch(t, cmd)
	t.Cleanup(func() {
		s.kill()
		_ = master.Close()
		<-s.closed
	})
	return s
}

func openTerminal(t testing.TB) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "terminal")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

func (s *screen) resize(t testing.TB, cols, rows uint16) {
	t.Helper()
	raw, err := s.master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (s *screen) types(keys string) {
	s.t.Helper()
	if _, err := s.master.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// shows waits until the pattern is on the screen after what was there at from,
// and returns where it ends.
func (s *screen) shows(from int, pattern string) int {
	s.t.Helper()
	re, end := regexp.MustCompile(pattern), 0
	eventually(s.t, fmt.Sprintf("the terminal shows %q", pattern), func() bool {
		text := s.seen.String()
		at := re.FindStringIndex(text[from:])
		if at != nil {
			end = from + at[1]
		} else if !s.alive() {
			s.t.Fatalf("no %q on the terminal, and the client has ended:\n%q", pattern, tail(text, 2000))
		}
		return at != nil
	})
	return end
}

// ask types a line and waits for a pattern after the echo. Commands are written
// so that the echo does not match.
func (s *screen) ask(line, pattern string) {
	s.t.Helper()
	from := len(s.seen.String())
	s.types(line + "\r")
	s.shows(from, pattern)
}

func TestTerminals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.agent("web", "web")
	t.Run("a shell", w.shellOnATerminal)
	t.Run("an escape leaves a stuck session", w.escapeLeaves)
	t.Run("pipes are no terminal", w.pipesAreNoTerminal)
	t.Run("H6 a clean child", w.cleanChild)
}

func (w *world) shellOnATerminal(t *testing.T) {
	for _, name := range []string{"less", "vi", "stty"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is missing: install the packages less, vim and coreutils", name)
			}
			t.Skipf("%s is missing: install the packages less, vim and coreutils", name)
		}
	}
	s := w.ann.at(91, 31, "xterm-256color", "ssh", "web")
	s.shows(0, `[#$] `)
	s.ask("PS1='rea''dy> '; echo", `ready> `)

	// Type, size and colours of the terminal are ours.
	s.ask(`echo "[$TERM]"`, `\[xterm-256color\]`)
	s.ask("stty size", `31 91\r\n`)
	s.ask("tty", `/dev/pts/\d+`)
	s.ask(`printf '\033[3''1mred\033[0m\n'`, "\x1b\\[31mred\x1b\\[0m")

	// A new size arrives, and the program in front is told.
	s.ask(`trap 'echo "size: $(stty size)"' WINCH; echo tra''pped`, `trapped`)
	from := len(s.seen.String())
	s.resize(t, 140, 50)
	s.types("\r")
	s.shows(from, `size: 50 140`)
	s.types("trap - WINCH\r")

	// Ctrl-C is for the program there, not for the client here.
	from = len(s.seen.String())
	long := strconv.Itoa(1e6 + rand.IntN(1e6)) // a name among all processes of this machine
	s.types("sleep " + long + "; echo \"status=$?\"\r")
	eventually(t, "sleep runs", func() bool { return exec.Command("pgrep", "-f", "^sleep "+long+"$").Run() == nil })
	s.types("\x03")
	s.shows(from, `(?s)\^C.*ready> `) // there may be prompts of before
	s.ask(`echo "after=$?"`, `after=130`)

	// Ctrl-D, Ctrl-Z and quoting reach it too.
	s.ask("echo in''side; cat", `inside\r\n`)
	s.ask("hello cat", `hello cat\r\nhello cat`)
	s.types("\x04")
	s.ask(`echo "eof=$?"`, `eof=0`)

	// Full-screen programs.
	from = len(s.seen.String())
	s.types("less /etc/services\r")
	from = s.shows(from, "\x1b\\[\\?1049h")
	s.types("q")
	s.shows(from, "\x1b\\[\\?1049l")
	file := w.path("typed")
	from = len(s.seen.String())
	s.types("vi -u NONE -N " + file + "\r")
	from = s.shows(from, `typed" \[New`)
	s.types("iwritten in vi\x1b:wq\r")
	s.shows(from, `ready> `)
	eventually(t, "vi has written its file", func() bool { return exists(file) })
	if text := string(must(os.ReadFile(file))); text != "written in vi\n" {
		t.Errorf("vi wrote %q", text)
	}

	// The shell's status is the client's, and the terminal is as it was.
	s.types("exit 42\r")
	if code := s.status(); code != 42 {
		t.Errorf("the client exits %d, want 42", code)
	}
}

func (w *world) escapeLeaves(t *testing.T) {
	s := w.ann.at(80, 24, "vt100", "ssh", "web")
	s.shows(0, `[#$] `)
	s.ask("stty -isig; echo [$TERM]", `\[vt100\]`)
	s.ask("echo in''side; cat", `inside\r\n`)
	s.types("\x03\r~.")
	if code := s.status(); code != 255 {
		t.Errorf("after ~. the client exits %d, want 255", code)
	}
	<-s.closed // all that it said is there
	if seen := s.seen.String(); !strings.HasSuffix(seen, "\r\n") {
		t.Errorf("the shell's prompt stands behind %.100q", seen[max(0, len(seen)-60):])
	}
}

// What is not typed at a terminal is no terminal there, unless it is asked for.
func (w *world) pipesAreNoTerminal(t *testing.T) {
	w.ann.run("exec", "web", "--", "tty").is(t, 1)
	if a := w.ann.run("exec", "-t", "web", "--", "stty", "size").is(t, 0); strings.TrimSpace(a.out) != "24 80" {
		t.Errorf("the terminal that was asked for has size %q", a.out)
	}
	if a := w.ann.feed(strings.NewReader("echo from the script; exit 9\n"), "ssh", "web").is(t, 9); a.out != "from the script\n" {
		t.Errorf("a shell with a script at its input prints %q", a.out)
	}
	if a := w.ann.run("ssh", "web", "echo a | tr a b; echo $0 >&2").is(t, 0); a.out != "b\n" {
		t.Errorf("a command through the shell prints %q", a.out)
	}
}
