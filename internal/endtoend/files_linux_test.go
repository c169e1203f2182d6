package endtoend

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fileRules lets the team copy, but only towards machines tagged drop and only from
// those tagged shop.
const fileRules = `version = 1
mode = "enforce"

[[allow]]
id = "files"
who.roles = ["operator", "approver", "admin"]
where.tags_any = ["web"]
actions = ["copy"]

[[allow]]
id = "in"
who.roles = ["operator", "approver", "admin"]
where.tags_any = ["vault"]
actions = ["copy-write"]

[[allow]]
id = "out"
who.roles = ["operator", "approver", "admin"]
where.tags_any = ["prod"]
actions = ["copy-read"]
`

func forFiles(_ *world, p *plan) { p.policy = fileRules }

// deep is write into a folder that may not be there.
func deep(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, name, text)
}

// sameFile compares what arrived.
func sameFile(t testing.TB, name string, want []byte) {
	t.Helper()
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%q: %d bytes, %v; want %d", name, len(got), err, len(want))
	}
}

func TestFilesAreCopiedEveryWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, forFiles)
	w.agent("web", "web")
	w.agent("db", "web")
	big, tree := noise(3<<20+5), w.path("tree")
	write(t, w.path("big"), string(big))
	for i := range 30 {
		deep(t, filepath.Join(tree, "sub", fmt.Sprintf("f%d", i)), strconv.Itoa(i))
	}
	far := w.path("far") + "/"
	if err := os.Mkdir(far, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Run("there and back", func(t *testing.T) {
		w.ann.run("cp", w.path("big"), "web:"+far).is(t, 0)
		sameFile(t, far+"big", big)
		var sum struct {
			Files, Folders, Bytes, Kept int
			Problems                    []any
		}
		decode(t, w.ann.run("cp", "--json", "web:"+far+"big", w.path("back")).is(t, 0).out, &sum)
		sameFile(t, w.path("back"), big)
		if sum.Files != 1 || sum.Bytes != len(big) || sum.Problems == nil || len(sum.Problems) > 0 {
			t.Errorf("%+v", sum)
		}
	})
	t.Run("again, with nothing to send", func(t *testing.T) {
		var sum struct{ Bytes, Kept int }
		decode(t, w.ann.run("cp", "--json", w.path("big"), "web:"+far).is(t, 0).out, &sum)
		if sum.Kept != len(big) || sum.Bytes != len(big) {
			t.Errorf("%+v", sum)
		}
	})
	t.Run("a tree between two machines", func(t *testing.T) {
		w.ann.run("cp", "-rp", tree, "web:"+far).is(t, 0)
		w.ann.run("cp", "-r", "web:"+far+"tree", "db:"+w.path("copy")).is(t, 0)
		sameFile(t, w.path("copy", "sub", "f17"), []byte("17"))
	})
	t.Run("patterns are read by the machine", func(t *testing.T) {
		if err := os.Mkdir(w.path("some"), 0o755); err != nil {
			t.Fatal(err)
		}
		w.ann.run("cp", "web:"+far+"tree/sub/f2*", w.path("some")).is(t, 0)
		if list, err := os.ReadDir(w.path("some")); err != nil || len(list) != 11 {
			t.Errorf("%d files, %v", len(list), err)
		}
	})
	t.Run("streams", func(t *testing.T) {
		w.ann.feed(in(big), "cp", "-", "web:"+far+"stream").is(t, 0)
		sameFile(t, far+"stream", big)
		if a := w.ann.run("cp", "web:"+far+"stream", "-").is(t, 0); a.out != string(big) {
			t.Errorf("%d bytes came out", len(a.out))
		}
	})
	t.Run("progress on a terminal only", func(t *testing.T) {
		if a := w.ann.feed(in(big), "cp", "-", "web:"+far+"quiet").is(t, 0); a.err != "" {
			t.Errorf("without a terminal it says %q", a.err)
		}
		s := w.ann.at(100, 30, "xterm", "cp", "-", "web:"+far+"typed")
		s.types(strings.Repeat("0123456789\n", 20_000)) // more than is kept before it is sent
		s.shows(0, `\r128\.0 KiB  .*/s  typed`)
		s.types("\x04")
		<-s.closed
		if text := s.seen.String(); !strings.HasSuffix(strings.TrimRight(text, "\r\n"), "\x1b[K") {
			t.Errorf("the bar stays: %q", tail(text, 100))
		}
	})
	t.Run("what cannot be is said", func(t *testing.T) {
		left := func(code string, args ...string) {
			t.Helper()
			if a := w.ann.run(args...).refused(t, 1, "not everything"); !strings.Contains(a.err, code) {
				t.Errorf("%q says %q, not %q", args, a.err, code)
			}
		}
		left("not_found", "cp", "web:"+far+"none", w.path("x"))
		left("-r copies folders", "cp", "web:"+far+"tree", w.path("x"))
		w.ann.run("cp", w.path("big"), "web:"+far+"none/x").refused(t, 1, "not_found")
		w.ann.run("cp", w.path("big"), w.path("x")).refused(t, 2, "neither side")
		w.ann.run("cp", "-r", "web:/", w.path("x")).refused(t, 2, "no name of its own")
		w.ann.run("cp", "-r", w.path("big"), tree, "web:"+far+"big").refused(t, 1, "the target is no folder")
	})
}

// The policy's two actions, each alone: who may write learns nothing of what is
// there, who may read changes nothing.
func TestFilesGoTheWayThatThePolicyAllows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, forFiles)
	w.agent("drop", "vault")
	w.agent("shop", "prod")
	data := noise(2 << 20)
	write(t, w.path("f"), string(data))
	write(t, w.path("there"), string(data))
	a := w.ann.run("cp", "--json", w.path("f"), "drop:"+w.path("there")).is(t, 0)
	if !strings.Contains(a.out, `"kept": 0`) {
		t.Errorf("who may only write was told what is there: %s", a.out)
	}
	for of, want := range map[string]string{"": "0", w.ann.key().ID().String()[:20] + ".": "1048576"} { // what others left, and ann
		write(t, w.path(".n."+of+"tucdesk-part"), string(data[:1<<20]))
		a := w.ann.run("cp", "--json", w.path("f"), "drop:"+w.path("n")).is(t, 0)
		if !strings.Contains(a.out, `"kept": `+want+",") {
			t.Errorf("going on with a part of %q: %s", of, a.out)
		}
		sameFile(t, w.path("n"), data)
	}
	w.ann.run("cp", "drop:"+w.path("f"), w.path("x")).refused(t, 253, "policy_denied")
	w.ann.run("cp", "shop:"+w.path("f"), w.path("x")).is(t, 0)
	w.ann.run("cp", w.path("f"), "shop:"+w.path("y")).refused(t, 253, "policy_denied")
	for _, name := range []string{"y", ".y.tucdesk-part"} {
		if _, err := os.Lstat(w.path(name)); err == nil {
			t.Errorf("%q was made", name)
		}
	}
}

// The folders of the policy hold for either direction, whatever names and links say
// (attack I3).
func TestI3CopiesStayInTheFoldersOfThePolicy(t *testing.T) {
	t.Parallel()
	outer := t.TempDir()
	open, closed := filepath.Join(outer, "open"), filepath.Join(outer, "closed")
	deep(t, filepath.Join(open, "f"), "fine")
	deep(t, filepath.Join(closed, "secret"), "secret")
	if err := os.Symlink(closed, filepath.Join(open, "out")); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(_ *world, p *plan) {
		roots := fmt.Sprintf("%q", open)
		for i := range 500 { // more than the first answers could hold
			roots += fmt.Sprintf(", %q", filepath.Join(outer, "customers", strconv.Itoa(i)))
		}
		p.policy = "version = 1\nmode = \"enforce\"\n[[allow]]\nid = \"in\"\nwho.roles = [\"admin\"]\nactions = [\"copy\"]\nroots = [" + roots + "]\n"
	})
	w.agent("web", "web")
	w.ann.run("cp", "web:"+open+"/f", w.path("f")).is(t, 0)
	w.ann.run("cp", w.path("f"), "web:"+open+"/g").is(t, 0)
	for _, from := range []string{closed + "/secret", open + "/../closed/secret", open + "/out/secret", open + "/out/*"} {
		if a := w.ann.run("cp", "web:"+from, w.path("x")); a.code == 0 || !strings.Contains(a.err, "policy_denied") || exists(w.path("x")) {
			t.Errorf("%q: status %d, %s", from, a.code, a.err)
		}
	}
	for _, to := range []string{closed + "/new", closed, open + "/../closed/new", open + "/out/new", open + "/out"} {
		w.ann.run("cp", w.path("f"), "web:"+to).refused(t, 253, "policy_denied")
	}
	if list, err := os.ReadDir(closed); err != nil || len(list) != 1 {
		t.Errorf("%d files there, %v", len(list), err)
	}
}

// Who may copy to a machine and have no shell there leaves no program behind that runs
// with its user's rights, and neither does anybody out of the folders of the policy.
func TestI5SpecialBitsNeedAShellAndNoFolders(t *testing.T) {
	t.Parallel()
	far := t.TempDir()
	rule := func(id, tag, rest string) string {
		return fmt.Sprintf("\n[[allow]]\nid = %q\nwho.roles = [\"admin\"]\nwhere.tags_any = [%q]\n%s\n", id, tag, rest)
	}
	w := newWorld(t, func(_ *world, p *plan) {
		p.policy = "version = 1\nmode = \"enforce\"\n" + rule("all", "web", `actions = ["copy", "shell"]`) + rule("files", "prod", `actions = ["copy"]`) +
			rule("asked", "prod", "actions = [\"shell\"]\napproval.count = 1") + rule("shell", "vault", `actions = ["shell"]`) +
			rule("folder", "vault", fmt.Sprintf("actions = [\"copy\"]\nroots = [%q]", far))
	})
	w.agent("web", "web")
	w.agent("db", "prod")
	w.agent("vault", "vault")
	program := w.path("program")
	write(t, program, "#!/bin/sh\n")
	if err := os.Chmod(program, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]os.FileMode{"web": os.ModeSetuid | 0o755, "db": 0o755, "vault": 0o755} {
		a := w.ann.run("cp", "-p", "--special-bits", program, host+":"+filepath.Join(far, host))
		if info, err := os.Stat(filepath.Join(far, host)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", host, info, err)
		}
		left := want&os.ModeSetuid == 0
		if strings.Contains(a.err, "without its setuid") != left || (a.code == 1) != left {
			t.Errorf("%s: status %d, %s", host, a.code, a.err)
		}
	}
}

// killRounds is 200 where the goal is measured: go test -run Killed ./internal/endtoend -kill-rounds 200
var killRounds = flag.Int("kill-rounds", 10, "how often a copy is killed")

// Whichever end is killed, at whatever point: the target is the old file or the new
// one, and the next copy makes it the new one, going on where the last one ended.
func TestCopiesKilledAtRandomPointsAreNeverTornAndAreResumed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, forFiles)
	web := w.agent("web", "web")
	old, data := noise(1<<20), noise(16<<20)
	write(t, w.path("new"), string(data))
	killed, kept, late := 0, 0, 0
	for round := range *killRounds {
		up := round%2 == 0
		target := w.path("target")
		write(t, target, string(old))
		args := []string{"cp", "-q", w.path("new"), "web:" + target}
		if !up {
			args = []string{"cp", "-q", "web:" + w.path("new"), target}
		}
		p := w.ann.start(args...)
		if w.killAt(p, web, round/2%2 == 0, rand.Int64N(16<<20)) {
			killed++
		}
		p.finish()
		got, err := os.ReadFile(target)
		if err != nil || !bytes.Equal(got, old) && !bytes.Equal(got, data) {
			t.Fatalf("round %d: the target is torn: %d bytes, %v", round, len(got), err)
		}
		var sum struct{ Kept int }
		args[1] = "--json"
		decode(t, w.again(args...).out, &sum)
		sameFile(t, target, data)
		if sum.Kept > 0 {
			kept++
		}
		// The session of a client that was killed goes on for a while, and what was under way
		// to it may begin its part after the next copy has ended. The one after that has it.
		part := w.path(".target.tucdesk-part")
		if exists(part) {
			late++
			w.again(args...)
		}
		if exists(part) {
			t.Errorf("round %d leaves a part for good", round)
		}
	}
	t.Logf("%d of %d copies were killed before their end, %d went on with what was there, %d left a part after the next one", killed, *killRounds, kept, late)
	if killed == 0 || kept == 0 {
		t.Error("nothing was tested")
	}
}

// again runs a copy until it is done: a machine whose session process was killed may
// still count it.
func (w *world) again(args ...string) answer {
	w.t.Helper()
	var a answer
	eventually(w.t, "the next copy is made", func() bool {
		a = w.ann.run(args...)
		return a.code == 0
	})
	return a
}

// killAt kills the client, or the session process of the agent, when the part has so
// many bytes. It reports whether there was still something to kill.
func (w *world) killAt(client *process, agent *machine, far bool, size int64) bool {
	deadline := time.Now().Add(20 * time.Second)
	for client.alive() && time.Now().Before(deadline) {
		info, err := os.Stat(w.path(".target.tucdesk-part"))
		if err != nil || info.Size() < size {
			continue
		}
		if !far {
			client.kill()
			return true
		}
		defer func() { _ = client.cmd.Process.Signal(os.Interrupt) }() // or it would wait for the session
		for _, pid := range children(agent.proc.cmd.Process.Pid) {
			if p, err := os.FindProcess(pid); err == nil {
				_ = p.Kill()
			}
		}
		return true
	}
	return false
}

// children are the processes that one has started.
func children(pid int) (list []int) {
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output()
	if err != nil {
		return nil
	}
	for _, word := range strings.Fields(string(out)) {
		if n, err := strconv.Atoi(word); err == nil {
			list = append(list, n)
		}
	}
	return list
}
