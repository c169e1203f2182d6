package endtoend

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// namesOneSocket has a rule for one socket, and another for copies into the folder that it
// lies in, which stands for ROOT.
const namesOneSocket = `version = 1
mode = "enforce"

[[allow]]
id = "files"
who.roles = ["owner", "admin"]
actions = ["copy-read", "copy-write"]
roots = ["ROOT"]

[[allow]]
id = "web"
who.roles = ["owner", "admin"]
actions = ["forward-local"]
targets = ["ROOT/run/web.sock"]
`

// says is a socket that says its name to whoever connects, until the test's end.
func says(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l := must(net.Listen("unix", path))
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	greets(t, l, filepath.Base(filepath.Dir(path)))
}

// sftp runs lines, and goes on behind those that are refused.
func (p *person) sftp(lines ...string) answer {
	p.w.t.Helper()
	needsSSH(p.w.t)
	block := filepath.Join(p.home, "ssh-config")
	write(p.w.t, block, p.run("ssh-config").is(p.w.t, 0).out)
	cmd := exec.Command("sftp", "-F", block, "-b", "-", "web.tucdesk")
	cmd.Stdin = strings.NewReader("-" + strings.Join(lines, "\n-") + "\n")
	cmd.Env = cleanEnv("XDG_STATE_HOME=" + p.home)
	return launch(p.w.t, cmd).finish()
}

// A rule names one socket, another opens the folder that it lies in for copies. Neither may
// lead to a socket that no rule names, by sftp or by whatever else writes there.
func TestP4ANamedSocketDoesNotOpenAnother(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	w := newWorld(t, func(_ *world, p *plan) { p.policy = strings.ReplaceAll(namesOneSocket, "ROOT", root) })
	w.agent("web", "web")
	named := root + "/run/web.sock"
	says(t, named)
	says(t, root+"/priv/supervisor.sock")
	reach := func() answer { return launch(t, w.ann.cmd("ssh", "-W", named, "web")).finish() }
	if a := reach().is(t, 0); a.out != "run" {
		t.Fatalf("it says %q", a.out)
	}
	w.ann.sftp("rename "+named+" "+root+"/run/old", "rm "+named, "rename "+root+"/run "+root+"/old",
		"rename "+root+"/priv/supervisor.sock "+named, "symlink "+root+"/priv/supervisor.sock "+named).is(t, 0)
	if a := reach().is(t, 0); a.out != "run" {
		t.Errorf("after sftp it says %q", a.out)
	}
	if err := os.Rename(named, root+"/run/old"); err != nil { // by a program of the machine
		t.Fatal(err)
	}
	if err := os.Symlink(root+"/priv/supervisor.sock", named); err != nil {
		t.Fatal(err)
	}
	if a := reach(); a.out != "" || a.code == 0 || !strings.Contains(a.err, "symbolic link") {
		t.Errorf("the link: status %d, it says %q, %q", a.code, a.out, a.err)
	}
}
