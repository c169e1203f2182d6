package endtoend

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tucdesk/tucdesk/internal/programtest"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// echo is a server on the machine's side that answers each connection with a word.
func echo(t *testing.T) (port string) {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	greets(t, l, "hello")
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// greets answers each connection to l with text, until the test's end.
func greets(t *testing.T, l net.Listener, text string) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, text)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
}

func fetch(port string) (string, error) {
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		return "", err
	}
	defer c.Close()
	text, err := io.ReadAll(c)
	return string(text), err
}

// withForwards lets the team forward.
func withForwards(_ *world, p *plan) {
	p.policy = strings.Replace(rules, `actions = ["shell", "exec"]`, `actions = ["shell", "exec", "forward"]`, 1)
}

// A forward outlives its session: the agent is restarted, the listeners here stay,
// and what the machine listened at is asked for again.
func TestForwardsComeBackAfterTheAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withForwards)
	web := w.agent("web", "web")
	port := echo(t)
	local, remote := programtest.Port(t), programtest.Port(t)
	f := w.ann.start("forward", "web", local+":127.0.0.1:"+port, "-R", remote+":127.0.0.1:"+port)
	both := func(what string) {
		t.Helper()
		for _, p := range []string{local, remote} {
			eventually(t, what, func() bool { text, err := fetch(p); return err == nil && text == "hello" })
		}
	}
	both("the forwards work")
	web.proc.stop()
	eventually(t, "the end of the session is told", func() bool { return strings.Contains(f.out.String(), "session lost: ") })
	waiting := make(chan string, 1)
	go func() { text, _ := fetch(local); waiting <- text }() // it is kept until there is a session
	web.start()
	both("the forwards work again")
	if text := <-waiting; text != "hello" {
		t.Errorf("who connected meanwhile got %q", text)
	}
	f.stop()
	if code := f.status(); code != 0 || !strings.HasSuffix(f.out.String(), "ended\n") {
		t.Errorf("exit status %d: %s", code, tail(f.out.String(), 500))
	}
}

// Approvals of many machines are waited for side by side, and an offline one is
// named.
func TestExecOnManyMachinesWaitsForApprovalsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.enter("bob", "approver")
	w.agent("p1", "prod")
	w.agent("p2", "prod")
	w.agent("free", "web")
	w.join("away", "web")
	p := w.ann.start("exec", "--all", "--reason", "all at once", "--", "echo", "done")
	var ids []string
	eventually(t, "both requests are waiting, and the others have ended", func() bool {
		ids = ids[:0]
		for line := range strings.Lines(p.err.String()) {
			if _, id, ok := strings.Cut(line, ": request "); ok {
				ids = append(ids, id[:12])
			}
		}
		return len(ids) == 2 && p.err.Count("away: error: offline") == 1 && p.out.Count("free: done\n") == 1
	})
	for _, id := range ids {
		bob.decides("approve", id).is(t, 0)
	}
	a := p.finish().is(t, 251)
	for _, want := range []string{"p1: done\n", "p2: done\n", "free: done\n"} {
		if strings.Count(a.out, want) != 1 {
			t.Errorf("no %q in %q", want, a.out)
		}
	}
	if !strings.Contains(a.err, "4 machines, of which 1 failed:\nMACHINE  STATUS  WHY\naway     251     offline") {
		t.Errorf("the summary says %q", a.err)
	}
}

// TestJ1ManyMachinesKeepToTheirLines has one of them print what moves a cursor.
func TestJ1ManyMachinesKeepToTheirLines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.agent("evil", "web")
	w.agent("good", "web")
	a := w.ann.run("exec", "evil,good", "--", "printf", `\033[1A\rgood: fake\nx`).is(t, 0)
	if strings.ContainsAny(a.out, "\x1b\r") || strings.Count(a.out, "\ngood: ") > 2 || !strings.Contains(a.out, `evil: \x1b[1A\rgood: fake`) {
		t.Errorf("printed %q", a.out)
	}
}

// A master signs one request for each command, with its exact arguments; the log has
// them all, and a person who has logged out gets nothing from it.
func TestAMasterAsksForEachCommandByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.agent("web", "web")
	t.Cleanup(func() { // it would outlive the test by its idle time
		if pid := w.master(); pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	})
	before := w.requests()
	for _, word := range []string{"one", "two", "three"} {
		a := w.ann.feed(strings.NewReader("in "+word), "exec", "--persist", "30s", "web", "--", "sh", "-c", "cat; echo $0 >&2; exit 3", word).is(t, 3)
		if a.out != "in "+word || a.err != word+"\n" {
			t.Errorf("%s: printed %q and %q", word, a.out, a.err)
		}
	}
	if w.master() == 0 {
		t.Error("no master was left behind")
	}
	w.ann.run("exec", "--persist", "30s", "web", "--", "sh", "-c", "exit 4").is(t, 4)
	if n := w.requests() - before; n != 4 {
		t.Errorf("the log has %d sessions of 4 commands", n)
	}
	w.ann.run("exec", "--persist", "30s", "-l", "nobody-here", "web", "--", "id").refused(t, 253, "user_not_allowed")
	w.ann.run("logout").is(t, 0)
	w.ann.run("exec", "--persist", "30s", "web", "--", "true").refused(t, 250, "not_logged_in")
}

// master is the process that ann has in the background, 0 for none.
func (w *world) master() int {
	w.t.Helper()
	for _, file := range must(filepath.Glob("/proc/[0-9]*/cmdline")) {
		text, _ := os.ReadFile(file) // it may have ended
		if words := strings.Split(string(text), "\x00"); len(words) > 4 && words[1] == "master" && slices.Contains(words, filepath.Join(w.ann.home, "tucdesk")) {
			return must(strconv.Atoi(filepath.Base(filepath.Dir(file))))
		}
	}
	return 0
}

// requests counts the sessions that the log has.
func (w *world) requests() int {
	w.t.Helper()
	file := w.path("export-" + rand.Text())
	w.ann.run("audit", "export", "--out", file).is(w.t, 0)
	n := 0
	for line := range strings.Lines(string(must(os.ReadFile(file)))) {
		var l struct{ Entry struct{ Payload wire.Bytes } }
		if json.Unmarshal([]byte(line), &l) != nil {
			continue
		}
		if strings.Contains(string(l.Entry.Payload), `"event":"session.open"`) {
			n++
		}
	}
	return n
}
