package endtoend

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestStateFolderOutOfABackup puts an older copy of a machine's state folder in the place
// of the present one, as a restored backup does. Nobody accuses the server, which is
// honest; the machine says what is the matter, and the hints that it gives bring it back.
func TestStateFolderOutOfABackup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.agent("web", "web")
	w.ann.run("exec", "web", "--", "true").is(t, 0)
	m.proc.stop()
	backup := w.path("backup")
	if out, err := exec.Command("cp", "-a", m.dir, backup).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m.start()
	w.ann.run("exec", "web", "--", "true").is(t, 0)
	m.status(0)
	m.proc.stop()
	w.ann.run("exec", "web", "--", "true").is(t, 251)

	if err := os.Rename(m.dir, m.dir+"-newer"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(backup, m.dir); err != nil {
		t.Fatal(err)
	}
	m.proc = m.run()
	m.proc.says("disagree on this agent's own log", 1)
	var s struct {
		Code     string
		Forked   bool
		Warnings []string
	}
	eventually(t, "the status says so", func() bool {
		a := m.ask("status", "--json")
		return a.code == 1 && json.Unmarshal([]byte(a.out), &s) == nil && s.Code == "audit_fork" && s.Forked && len(s.Warnings) > 0
	})
	m.status(1).hints(t, "tucdesk agent rm web;").hints(t, `move its state folder "`+m.dir+`" away`)
	for _, f := range must(filepath.Glob(filepath.Join(m.dir, "witness-*.json"))) {
		if raw := string(must(os.ReadFile(f))); !strings.Contains(raw, `"evidence":[]`) {
			t.Errorf("the server is accused: %s", raw)
		}
	}

	w.ann.owner("agent", "rm", "--yes", "web.tucdesk").is(t, 0) // as ssh calls it
	m.proc.stop()
	if err := os.Rename(m.dir, m.dir+"-older"); err != nil {
		t.Fatal(err)
	}
	m.joinWith(w.token("web")).is(t, 0)
	m.start()
	w.ann.run("exec", "web", "--", "true").is(t, 0)
	m.status(0)
}

// ask runs a command of the machine's program on its state folder.
func (m *machine) ask(command string, args ...string) answer {
	m.w.t.Helper()
	cmd := exec.Command(program(m.w.t, "tucdesk-agent"), append([]string{command, "--state", m.dir}, args...)...)
	cmd.Env = cleanEnv()
	return launch(m.w.t, cmd).finish()
}

// status waits until the machine's status, for people, ends with code.
func (m *machine) status(code int) (a answer) {
	m.w.t.Helper()
	eventually(m.w.t, "the machine's status", func() bool {
		a = m.ask("status")
		return a.code == code
	})
	return a
}
