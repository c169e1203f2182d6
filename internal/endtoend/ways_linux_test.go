package endtoend

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// sessionsOf is what "status -d --json" says of the sessions on this machine.
type sessionsOf struct {
	Reachable bool
	Sessions  []sessionOf
}

type sessionOf struct {
	PID                int
	Host, Action, Kind string
	RTTMillis          float64
	BytesIn, BytesOut  uint64
	Paths              []struct {
		Kind, Name string
		Chosen     bool
	}
}

func (p *person) sessions() sessionsOf {
	var s sessionsOf
	decode(p.w.t, p.run("status", "-d", "--json").out, &s)
	return s
}

func TestSessionsOnThisMachineAreShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.agent("web", "web")
	waits := w.ann.start("exec", "web", "--", "sleep", "600")
	killed := w.ann.start("exec", "web", "--", "sleep", "600")
	eventually(t, "two sessions to be shown", func() bool {
		s := w.ann.sessions()
		return len(s.Sessions) == 2 && s.Sessions[0].Kind != "" && s.Sessions[1].Kind != ""
	})
	// While a busy machine has a session wait, it has no way.
	eventually(t, "all of them to be shown with their ways", func() bool {
		list := w.ann.sessions().Sessions
		return len(list) == 2 && !slices.ContainsFunc(list, func(s sessionOf) bool {
			return s.Host != "web" || s.Action != "exec" || s.BytesIn == 0 || s.BytesOut == 0 || len(s.Paths) == 0 || !s.Paths[0].Chosen
		})
	})
	line := regexp.MustCompile(`(?m)^web +exec +\d+ .* (direct|relay-\w+) \S+ +[\d.]+ ms `)
	eventually(t, "status -d to print them", func() bool { return line.MatchString(w.ann.run("status", "-d").is(t, 0).out) })
	killed.kill() // leaves its socket behind
	eventually(t, "the killed one to be gone", func() bool { return len(w.ann.sessions().Sessions) == 1 })
	w.startedSocketsArePrivate(t)
	waits.stop()
	if s := w.ann.sessions(); len(s.Sessions) != 0 {
		t.Errorf("left: %+v", s.Sessions)
	}
}

// startedSocketsArePrivate looks at whatever sockets the person's processes made.
func (w *world) startedSocketsArePrivate(t *testing.T) {
	t.Helper()
	found := 0
	// Where the path of the state folder is long, they are among the temporary folders, as
	// are those of other tests, which may just be making theirs.
	sum := sha256.Sum256([]byte(filepath.Dir(w.ann.state("live"))))
	own := "tucdesk-live-" + base64.RawURLEncoding.EncodeToString(sum[:9])
	for _, dir := range []string{filepath.Join(os.TempDir(), own), w.ann.state("live")} {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
		for _, e := range entries {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(dir, e.Name()), &st); err == nil && st.Mode&0o777 != 0o600 {
				t.Errorf("%s has mode %o", e.Name(), st.Mode)
			}
			found++
		}
	}
	if found == 0 {
		t.Error("no sockets")
	}
}

func TestWayIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, byUDP)
	w.agent("web", "web")
	s := w.ann.at(100, 24, "xterm", "ssh", "-v", "--predict", "never", "web")
	from := s.shows(0, `[$#] `)
	s.types("~s")
	from = s.shows(from, `(direct|relay-udp) \S+ for \S+,? .*; second .*; \d+ changes?; \d+ datagrams`)
	s.types("exit\r")
	if code := s.status(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	<-s.closed // all that it said is there
	if text := s.seen.String()[from:]; !regexp.MustCompile(`path (direct|relay-udp) [^;]+; for .*; session after`).MatchString(text) {
		t.Errorf("-v says at the end: %q", text)
	}
	if text, err := os.ReadFile(w.ann.state("networks.json")); err != nil || !strings.Contains(string(text), `"kind":"relay-udp"`) {
		t.Errorf("networks.json has %q, %v", text, err)
	}
}

// session is the process that serves the machine's only session.
func (m *machine) session() int {
	m.w.t.Helper()
	found := 0
	for _, of := range must(filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", m.proc.cmd.Process.Pid))) {
		if text, err := os.ReadFile(of); err == nil { // a thread may have ended
			for _, pid := range strings.Fields(string(text)) {
				found = must(strconv.Atoi(pid))
			}
		}
	}
	if found == 0 {
		m.w.t.Fatal("the agent has no child")
	}
	return found
}

// The process that serves the session is stopped, as a machine that sleeps: what
// is typed waits, a person is told on standard error, and it goes on.
func TestLostWayIsToldOnStandardError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web := w.agent("web", "web")
	cmd := w.ann.cmd("exec", "web", "--", "cat")
	keys := must(cmd.StdinPipe())
	p := launch(t, cmd)
	_, _ = keys.Write([]byte("before\n"))
	eventually(t, "the first echo", func() bool { return p.out.String() == "before\n" })

	worker := web.session()
	if err := syscall.Kill(worker, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(worker, syscall.SIGCONT)
	_, _ = keys.Write([]byte("kept\n"))
	p.says("tucdesk: no way to web for 3s; what is sent is kept; it waits up to 24h", 1)
	if out := w.ann.run("status", "-d").is(t, 0).out; !regexp.MustCompile(`(?m)^web +exec .* no way `).MatchString(out) {
		t.Errorf("status -d prints:\n%s", out)
	}
	if err := syscall.Kill(worker, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.says("tucdesk: there is a way to web again after ", 1)
	eventually(t, "what was kept to come back", func() bool { return p.out.String() == "before\nkept\n" })
	_ = keys.Close()
	if code := p.status(); code != 0 || p.out.String() != "before\nkept\n" {
		t.Errorf("exit status %d, %q", code, p.out.String())
	}
}
