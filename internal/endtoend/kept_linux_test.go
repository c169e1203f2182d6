package endtoend

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/hinshun/vt10x"
)

// picture is what a terminal written by somebody else makes of what the client wrote.
func (s *screen) picture(cols, rows int) string {
	term := vt10x.New(vt10x.WithSize(cols, rows))
	_, _ = term.Write([]byte(s.seen.String()))
	return term.String()
}

type listed struct {
	Name, Host, User string
	Attached         bool
}

func (p *person) shells(t *testing.T, args ...string) []listed {
	t.Helper()
	var report struct {
		SchemaVersion int
		Shells        []listed
	}
	decode(t, p.run(append([]string{"sessions", "ls", "--json"}, args...)...).is(t, 0).out, &report)
	if report.SchemaVersion != 1 || report.Shells == nil {
		t.Errorf("%+v", report)
	}
	return report.Shells
}

func TestKeptShells(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.agent("web", "web")
	t.Run("a killed client", w.keptThroughKill)
	t.Run("taken over, left, ended", w.keptMoves)
	t.Run("names", w.keptNames)
}

// keptThroughKill: the client is killed while a full-screen program runs, and the
// screen that comes back is the one that was there.
func (w *world) keptThroughKill(t *testing.T) {
	if _, err := exec.LookPath("vi"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("vi is missing: install the package vim")
		}
		t.Skip("vi is missing: install the package vim")
	}
	const cols, rows = 80, 24
	s := w.ann.at(cols, rows, "xterm", "ssh", "--name", "build", "web")
	s.shows(0, `[#$] `)
	s.ask("PS1='rea''dy> '; echo pid=$$", `pid=\d+\r\n`)
	s.types("vi -u NONE -N " + w.path("kept") + "\r")
	from := s.shows(0, `kept" \[New`)
	s.types("ifirst line\r\tsecond line")
	s.shows(from, `second line`)
	eventually(t, "the screen to be at rest", func() bool { return strings.Contains(s.picture(cols, rows), "second line") })
	before := s.picture(cols, rows)
	s.kill()
	if list := w.ann.shells(t); len(list) != 1 || list[0].Name != "build" || list[0].Host != "web" || list[0].User == "" {
		t.Errorf("%+v", list)
	}
	again := w.ann.at(cols, rows, "xterm", "attach", "build")
	again.shows(0, `second line`)
	eventually(t, "the screen to come back\n"+before, func() bool { return again.picture(cols, rows) == before })
	from = len(again.seen.String())
	again.types(" and more\x1b:wq\r")
	again.shows(from, `ready> `)
	if text := string(must(os.ReadFile(w.path("kept")))); text != "first line\n\tsecond line and more\n" {
		t.Errorf("vi wrote %q", text)
	}
	again.types("exit 7\r")
	if status := again.status(); status != 7 {
		t.Errorf("status %d", status)
	}
	eventually(t, "the shell that has ended is not listed", func() bool { return len(w.ann.shells(t, "web")) == 0 })
	w.ann.run("attach", "build").is(t, 2).hints(t, "the machine comes behind the name: tucdesk attach build HOST")
	w.ann.run("attach", "build", "web").is(t, 2).hints(t, "without one: tucdesk ssh web COMMAND")
	w.ann.at(cols, rows, "xterm", "attach", "build", "web").ends(t, 1, "not_found")
}

// ends waits for the client's end and its last words, which come later out of the
// terminal than the status.
func (s *screen) ends(t *testing.T, status int, words string) {
	t.Helper()
	if got := s.status(); got != status {
		t.Errorf("it ends with %d", got)
	}
	eventually(t, fmt.Sprintf("the client says %q", words), func() bool { return strings.Contains(s.seen.String(), words) })
}

func (w *world) keptMoves(t *testing.T) {
	first := w.ann.at(80, 24, "xterm", "ssh", "--name", "work", "web", "while read a; do echo \"got $a\"; done")
	first.types("one\r")
	first.shows(0, `got one`)
	second := w.ann.at(80, 24, "xterm", "ssh", "--name", "work", "web")
	first.ends(t, 255, "taken_over")
	second.shows(0, `got one`)
	second.types("two\r")
	second.shows(0, `got two`)
	second.types("\r~.")
	second.ends(t, 255, "tucdesk attach work web")
	eventually(t, "the shell that was left is listed", func() bool {
		list := w.ann.shells(t)
		if len(list) != 1 {
			t.Fatalf("%+v", list)
		}
		return !list[0].Attached
	})
	bob := w.enter("bob", "admin")
	bob.at(80, 24, "xterm", "attach", "work", "web").ends(t, 1, "not_found")
	bob.run("sessions", "kill", "work", "web").refused(t, 1, "not_found")
	if list := bob.shells(t, "web"); len(list) != 0 {
		t.Errorf("somebody else sees %+v", list)
	}
	w.ann.run("sessions", "kill", "work").is(t, 0)
	if list := w.ann.shells(t, "web"); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	file := w.path("acme.audit")
	w.ann.run("audit", "export", "--out", file).is(t, 0)
	if r, code := w.verify(slices.Collect(strings.Lines(string(must(os.ReadFile(file)))))); code != 0 || len(r.Findings) > 0 {
		t.Errorf("the log does not hold: %d, %+v", code, r)
	}
}

func (w *world) keptNames(t *testing.T) {
	for _, name := range []string{"a b", "../x", "-", "\x1b[2J", strings.Repeat("x", 33)} {
		w.ann.run("ssh", fmt.Sprint("--name=", name), "web").is(t, 2)
		w.ann.run("attach", "--", name, "web").is(t, 2)
	}
	w.ann.run("ssh", "-T", "--name=x", "web").is(t, 2)
}
