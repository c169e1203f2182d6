package endtoend

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
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
	m.cmd = func(cmd *exec.Cmd) {
		cmd.Args = []string{"", "run", "--state", `C:\agent`, "--no-port-mapping"}
		win.wrap(cmd, win.agent)
	}
	m.start()
	return m, win
}

// TestWindows is one machine for all that is tried on it: setting one up takes longer
// than anything else.
func TestWindows(t *testing.T) {
	w := newWorld(t)
	m, win := w.windowsMachine("win", "web")
	tool := win.local(win.tool)
	exec := func(argv ...string) answer {
		t.Helper()
		return w.ann.run(append([]string{"exec", "win", "--"}, argv...)...)
	}

	t.Run("ArgumentsArriveAsTheyWereSigned", func(t *testing.T) {
		argv := []string{tool, "argv", "", "a b", `"`, `a\"b`, `c:\dir\`, `c:\my dir\`, `\\`, "%PATH%", "^&|<>", "ü€😀", "--", `a"b c"d`, "a\tb\nc", "*"}
		var want strings.Builder
		for _, a := range argv {
			fmt.Fprintf(&want, "%q\n", a)
		}
		if got := exec(argv...).is(t, 0); got.out != want.String() {
			t.Errorf("arguments changed:\n%s\nwant\n%s", got.out, &want)
		}
	})
	t.Run("StatusesAreExact", func(t *testing.T) {
		exec(tool, "exit", "7").is(t, 7)
		for code, text := range map[string]string{"256": "256 (0x00000100)", "0xC0000005": "3221225477 (0xC0000005)"} {
			if a := exec(tool, "exit", code).is(t, 1); !strings.Contains(a.err, text) {
				t.Errorf("%s: %q", code, a.err)
			}
		}
	})
	t.Run("StreamsAreThree", func(t *testing.T) {
		input := noise(300_000)
		a := w.ann.feed(in(input), "exec", "win", "--", tool, "copy").is(t, 0)
		if a.out != string(input) || a.err != "end of input\n" {
			t.Errorf("%d bytes came back of %d, and %q", len(a.out), len(input), a.err)
		}
	})
	t.Run("EnvironmentIsTheUsersOwn", func(t *testing.T) {
		lines := strings.Split(strings.ReplaceAll(exec(tool, "env").is(t, 0).out, "\r", ""), "\n")
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
	})
	t.Run("H2NothingOutlivesASession", func(t *testing.T) {
		mark := "mark-" + key.Hash(noise(32)).String()[:16]
		exec(tool, "tree", mark, "go").is(t, 0)
		win.gone(mark)
		p := w.ann.start("exec", "win", "--", tool, "tree", mark, "stay")
		eventually(t, "the tree stands", func() bool { return p.out.Count("started") == 1 && win.running(mark) == 3 })
		p.stop()
		win.gone(mark)
		p = w.ann.start("exec", "win", "--", tool, "tree", mark, "stay")
		eventually(t, "the tree stands again", func() bool { return p.out.Count("started") == 1 && win.running(mark) == 3 })
		m.proc.kill()
		win.gone(mark)
		p.stop()
		m.start()
	})
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
