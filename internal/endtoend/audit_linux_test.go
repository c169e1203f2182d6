package endtoend

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// report is what audit verify --json prints.
type report struct {
	Verdict                                       string
	Entries, Machines, OpenSessions, Behind, Seen int
	Findings                                      []struct {
		Entry        int
		Code, Detail string
	}
}

// verify checks a log with ann's client and returns the exit status.
func (w *world) verify(lines []string) (report, int) {
	w.t.Helper()
	file := w.path("tampered.audit")
	write(w.t, file, strings.Join(lines, ""))
	a := w.ann.run("audit", "verify", "--json", file)
	var r report
	if json.Valid([]byte(a.out)) {
		decode(w.t, a.out, &r)
	} else if a.code == 0 {
		w.t.Fatalf("no report: %s", a.out)
	}
	return r, a.code
}

// TestN1ExportedLog takes the log of a busy team out, has it verified, and does
// everything to the file that a thief of the file can.
func TestN1ExportedLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.enter("bob", "approver")
	web := w.agent("web", "web")
	w.agent("prod", "prod")
	w.ann.run("exec", "web", "--", "sh", "-c", "exit 3", "--password=hunter2").is(t, 3)
	w.ann.run("ssh", "web", "echo hello").is(t, 0)
	asks := w.ann.start("exec", "prod", "--", "true")
	bob.decides("approve", waiting(t, asks)).is(t, 0)
	asks.finish().is(t, 0)
	asks = w.ann.start("exec", "prod", "--", "false")
	bob.decides("deny", waiting(t, asks)).is(t, 0)
	asks.finish().is(t, 253)
	w.ann.run("exec", "web", "--", "no-such-program").is(t, 127)
	web.proc.stop()

	file := w.path("acme.audit")
	var whole []string
	eventually(t, "all machines have handed their entries in", func() bool {
		_ = os.Remove(file) // of the time before: an export overwrites nothing
		w.ann.run("audit", "export", "--out", file).is(t, 0)
		whole = slices.Collect(strings.Lines(string(must(os.ReadFile(file)))))
		r, code := w.verify(whole)
		return code == 0 && r.OpenSessions == 0 && r.Behind == 0
	})
	r, _ := w.verify(whole)
	if r.Machines != 2 || r.Entries < 30 || len(r.Findings) != 0 {
		t.Fatalf("report: %+v", r)
	}
	if strings.Contains(strings.Join(whole, ""), "hunter2") {
		t.Error("N8: a password of a command line is in the log")
	}
	fingerprint := w.ann.member().Fingerprint.String()
	stranger := w.person("auditor") // has the file and the fingerprint, nothing else
	a := stranger.run("audit", "verify", "--fingerprint", fingerprint, file).is(t, 0)
	if !strings.Contains(a.out, "nothing was edited, deleted, inserted or reordered; nobody here knows whether that is the end") {
		t.Errorf("verify says %q", a.out)
	}
	stranger.run("audit", "verify", "--fingerprint", strings.Repeat("0", 64), file).is(t, 1)

	// Cut behind a checkpoint, with a last line that says so: an export that the server
	// could have made then. Whoever knows how many entries there were is told.
	cut := slices.Clone(whole[:len(whole)-1])
	for kind(cut[len(cut)-1]) != "checkpoint" || strings.HasPrefix(whole[len(cut)], "{\"end\"") {
		cut = cut[:len(cut)-1]
	}
	entries := len(slices.DeleteFunc(slices.Clone(cut), func(l string) bool { return kind(l) != "entry" }))
	write(t, w.path("cut.audit"), strings.Join(cut, "")+fmt.Sprintf("{\"end\":%d}\n", entries))
	strict := []string{"audit", "verify", "--fingerprint", fingerprint, "--at-least", fmt.Sprint(r.Entries)}
	stranger.run(append(strict, file)...).is(t, 0)
	a = stranger.run(append(strict, w.path("cut.audit"))...).is(t, 3)
	if want := fmt.Sprintf("has %d entries, not %d: its end was cut off", entries, r.Entries); !strings.Contains(a.err, want) {
		t.Errorf("verify says %q, not %q", a.err, want)
	}
	stranger.run("audit", "verify", "--fingerprint", fingerprint, w.path("cut.audit")).is(t, 0) // an honest export of that time is the same file
	stranger.run("audit", "verify", "--fingerprint", fingerprint, "--complete", w.path("cut.audit")).is(t, 4)
	stranger.run("audit", "verify", "--fingerprint", fingerprint, "--at-least", "-1", file).is(t, 2)
	w.ann.run("audit", "verify", "--complete", w.path("cut.audit")).is(t, 3) // she has seen more

	// The same as tiles, cosigned by the machine that is still there.
	tiles := w.path("acme-log")
	w.ann.run("audit", "export", "--tiles", tiles).is(t, 0)
	w.ann.run("audit", "export", "--tiles", tiles).is(t, 1) // nothing is overwritten
	w.ann.run("audit", "export", "--tiles", tiles+"2", "--out", file+"2").is(t, 2)
	wantNoLeftovers(t, w.path())
	stranger.run("audit", "verify", "--fingerprint", fingerprint, "--cosigners", "1", tiles).is(t, 0)
	stranger.run("audit", "verify", "--fingerprint", fingerprint, "--cosigners", "9", tiles).is(t, 2) // nobody has so many

	// Ann's client has seen that the log went on; the file is an older export now, and
	// that is what she is told: in words, in a status of its own, and as JSON.
	w.ann.run("audit", "export", "--out", file+"3").is(t, 0) // shows her the tiles' export in the log
	a = w.ann.run("audit", "verify", file).is(t, 3)
	for _, say := range []string{"older than what this client has seen", "hint: export again", "outdated: "} {
		if !strings.Contains(a.out+a.err, say) {
			t.Errorf("verify says %q and %q, not %q", a.out, a.err, say)
		}
	}
	if r, code := w.verify(whole); code != 3 || r.Verdict != "outdated" || r.Seen <= r.Entries || len(r.Findings) != 1 || r.Findings[0].Code != "outdated" {
		t.Errorf("exit %d, %+v", code, r)
	}
	stranger.run("audit", "verify", "--fingerprint", fingerprint, file).is(t, 0) // has seen nothing newer

	for what, tamper := range map[string]func(i int) []string{
		"edited":   func(i int) []string { return slices.Concat(whole[:i], []string{edit(whole[i])}, whole[i+1:]) },
		"deleted":  func(i int) []string { return slices.Delete(slices.Clone(whole), i, i+1) },
		"inserted": func(i int) []string { return slices.Insert(slices.Clone(whole), i, whole[i]) },
		"swapped": func(i int) []string {
			l := slices.Clone(whole)
			j := (i + 1) % len(l)
			l[i], l[j] = l[j], l[i]
			return l
		},
		"cut off":           func(i int) []string { return whole[:i] },
		"cut in the middle": func(i int) []string { return append(slices.Clone(whole[:i]), whole[i][:len(whole[i])/2]) },
	} {
		t.Run(what, func(t *testing.T) {
			tried := map[string]bool{}
			for i := range whole {
				pair := kind(whole[i]) + kind(whole[(i+1)%len(whole)])
				if i < len(whole)-2 && tried[pair] {
					continue // one of its kind with such a neighbour is enough; package audit tries all
				}
				tried[pair] = true
				r, code := w.verify(tamper(i))
				if code == 3 && harmless(what, kind(whole[i]), kind(whole[(i+1)%len(whole)])) {
					continue
				}
				if code != 1 {
					t.Errorf("line %d, %s %s: exit %d, %+v\n%s", i, kind(whole[i]), what, code, r, tail(whole[i], 300))
				}
			}
		})
	}
}

// wantNoLeftovers fails when an export that did not come to its end left something.
func wantNoLeftovers(t *testing.T, dir string) {
	t.Helper()
	for _, f := range must(os.ReadDir(dir)) {
		if strings.HasPrefix(f.Name(), ".tucdesk-export-") {
			t.Errorf("%s is left", f.Name())
		}
	}
}

// TestInterruptedExportLeavesNothing: Ctrl-C in the middle of an export ends it, and
// there is no half file and no half folder. A machine that does not answer keeps the
// export from its end until then.
func TestInterruptedExportLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.agent("web", "web")
	if err := m.proc.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer m.proc.cmd.Process.Signal(syscall.SIGCONT)
	for _, to := range []string{"--out", "--tiles"} {
		dir := t.TempDir()
		p := w.ann.start("audit", "export", to, filepath.Join(dir, "log"))
		eventually(t, "the export has begun", func() bool { return len(must(os.ReadDir(dir))) > 0 })
		if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		p.finish().is(t, 130)
		if list := must(os.ReadDir(dir)); len(list) != 0 {
			t.Errorf("%s: %v is left", to, list)
		}
	}
}

// kind names what a line of an export holds.
func kind(line string) string {
	var l map[string]json.RawMessage
	if json.Unmarshal([]byte(line), &l) == nil {
		for _, name := range []string{"entry", "checkpoint", "approval", "agent", "roster", "root", "format", "end"} {
			if l[name] != nil {
				return name
			}
		}
	}
	return "?"
}

// harmless reports what may go unnoticed, because what the log says stays the
// same: a version, a decision or a checkpoint that stands there twice, a
// checkpoint less on the way to the last one, and in another order two machines,
// or a checkpoint and the decision that belongs to the entry behind both.
func harmless(what, kind, next string) bool {
	switch what {
	case "inserted":
		return kind == "roster" || kind == "checkpoint" || kind == "approval"
	case "deleted":
		return kind == "checkpoint"
	case "swapped":
		return kind == "agent" && next == "agent" || kind == "checkpoint" && next == "approval"
	}
	return false
}

// edit changes one character in the middle of a line for another of its kind.
func edit(line string) string {
	b := []byte(line)
	for i := len(b) / 2; i < len(b); i++ {
		switch c := b[i]; {
		case c >= '0' && c <= '9':
			b[i] = '0' + (c-'0'+1)%10
			return string(b)
		case c >= 'a' && c <= 'z':
			b[i] = 'a' + (c-'a'+1)%26
			return string(b)
		}
	}
	return "x" + line
}
