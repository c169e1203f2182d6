package conformance

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
	"github.com/tucdesk/tucdesk/internal/programtest"
)

// patience bounds what fails, not what passes.
const patience = 4 * time.Minute

const rules = `version = 1
mode = "enforce"

[gate]
where.tags_any = ["prod"]
approval.count = 1

[[allow]]
id = "team"
who.roles = ["operator", "admin"]
actions = ["shell", "exec", "forward", "forward-agent", "background"]

[[allow]]
id = "sockets"
who.roles = ["operator", "admin"]
actions = ["forward"]
targets = ["ROOTS/sender.sock", "ROOTS/l.sock", "ROOTS/r.sock", "ROOTS/l2.sock", "ROOTS/r2.sock"]

[[allow]]
id = "files"
who.roles = ["operator", "admin"]
where.tags_any = ["web", "prod"]
actions = ["copy"]

[[allow]]
id = "look"
who.roles = ["operator", "admin"]
where.tags_any = ["ro"]
actions = ["copy-read"]

[[allow]]
id = "put"
who.roles = ["operator", "admin"]
where.tags_any = ["in"]
actions = ["copy-write"]
roots = ["ROOTS/in"]

[[allow]]
id = "data"
who.roles = ["operator", "admin"]
where.tags_any = ["in"]
actions = ["copy-read"]
roots = ["ROOTS/out"]

[[allow]]
id = "rootless"
who.roles = ["operator", "admin"]
where.tags_any = ["plain"]
actions = ["shell", "exec", "copy", "forward", "background"]
users = ["@agent", "nobody", "root", "nosuchuser"]

[[block]]
id = "sealed"
where.tags_any = ["closed"]
actions = ["forward", "forward-agent", "background"]
`

// programs are what the cases run against.
var programs programtest.Set

// rig is a team with one person and a few machines. They share the disk, and nothing of
// the network: localhost is another place here than there.
type rig struct {
	t     *testing.T
	dir   string
	bin   string
	env   []string
	here  *netlab.Host // where the person and the server are
	there *netlab.Host // where the agents are

	port  string // where both sides serve, each its own file
	plain string // folder of the agent that is not root
}

// needs skips the test where a program is missing, and fails it in CI.
func needs(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is missing: apt-get install %s", name, packages)
			}
			t.Skipf("%s is missing: apt-get install %s", name, packages)
		}
	}
}

// packages of Debian hold all programs that are needed.
const packages = "openssh-client rsync git bsdutils ansible-core sshfs mosh openssl sudo"

func newRig(t *testing.T) *rig {
	inet := netlab.New(t).Internet()
	r := &rig{t: t, here: inet.Host("here"), there: inet.Host("there"), dir: t.TempDir(), bin: filepath.Dir(programs.Path(t, "tucdesk"))}
	r.env = []string{"PATH=" + r.bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + r.path("home"), "XDG_STATE_HOME=" + r.path("ann"), "TERM=xterm", "LC_ALL=C.UTF-8"}
	for _, d := range []string{"home", "ann", "in", "out"} {
		if err := os.Mkdir(r.path(d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	keepFolder(t, "/run/sshd")
	r.serve()
	for name, tags := range map[string]string{"web": "web,zone=a", "ro": "ro", "closed": "closed", "prod": "prod", "walled": "in"} {
		r.machine(name, tags)
	}
	r.rootless()
	r.serveSides()
	r.run(nil, "tucdesk", "ssh-config", "--install")
	r.write("config", "Include "+r.path("home", ".ssh", "config.d", "tucdesk")+"\n")
	return r
}

// keepFolder makes a folder that cases use and puts a file there, so that nobody else
// takes it away who found it missing, as the tests of internal/bench do. Where only root
// can do that, the cases that use it say so.
func keepFolder(t *testing.T, dir string) {
	for range 100 { // somebody may take it away in between
		_ = os.Mkdir(dir, 0o755)
		if f, err := os.CreateTemp(dir, "kept"); err == nil {
			_ = f.Close()
			t.Cleanup(func() { _ = os.Remove(f.Name()) })
			return
		}
	}
}

// program is where one of ours is, or the path that was given.
func (r *rig) program(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(r.bin, name)
}

func (r *rig) path(parts ...string) string {
	return filepath.Join(append([]string{r.dir}, parts...)...)
}

func (r *rig) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(r.path(name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// run types one command of ann's and returns its output.
func (r *rig) run(in io.Reader, name string, args ...string) string {
	r.t.Helper()
	return r.runOn(r.here, in, name, args...)
}

func (r *rig) runOn(h *netlab.Host, in io.Reader, name string, args ...string) string {
	r.t.Helper()
	cmd := exec.Command(r.program(name), args...)
	cmd.Env, cmd.Stdin = r.env, in
	var out, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := h.Do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		r.t.Fatalf("%s %q: %v\n%s", name, args, err, complaint.String())
	}
	return strings.TrimSpace(out.String())
}

// start runs a program on a host until the test's end. Its words are in log.
func (r *rig) start(h *netlab.Host, log, name string, args ...string) {
	r.t.Helper()
	f, err := os.Create(r.path(log))
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(r.program(name), args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = r.env, f, f
	if err := h.Do(cmd.Start); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		kill.Stop()
		_ = f.Close()
	})
}

// says waits until log holds a line that begins with text, or holds it, and returns
// that line.
func (r *rig) says(log, text string) string {
	r.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		words, _ := os.ReadFile(r.path(log))
		for line := range strings.Lines(string(words)) {
			if strings.Contains(line, text) && strings.HasSuffix(line, "\n") {
				return strings.TrimSpace(line)
			}
		}
	}
	words, _ := os.ReadFile(r.path(log))
	r.t.Fatalf("%s never says %q:\n%s", log, text, words)
	return ""
}

// serve starts the server and founds the team.
func (r *rig) serve() {
	ip := r.here.IPv4().String()
	addr, relay := ip+":443", ip+":3478"
	r.write("server.toml", fmt.Sprintf("name = \"main\"\nurl = \"https://%s\"\nlisten = %q\n[relay]\nsecure = \"127.0.0.1:0\"\nlisten = %q\npublic = %q\n", addr, addr, relay, relay))
	r.write("policy.toml", strings.ReplaceAll(rules, "ROOTS", r.dir))
	r.write("passphrase", rand.Text()+"\n")
	r.start(r.here, "server.log", "tucdesk-server", "run", "--state", r.path("server"), "--config", r.path("server.toml"), "--url", "https://"+addr)
	setup := r.says("server.log", "tucdesk-setup:")
	r.run(nil, "tucdesk", "team", "init", "--name", "acme", "--email", "ann@acme.example", "--tags", "web,ro,closed,prod,in,plain,zone=a", "--policy", r.path("policy.toml"), "--passphrase-file", r.path("passphrase"), setup)
}

func (r *rig) machine(name, tags string) {
	r.agent(name, tags, r.path(name), r.program("tucdesk-agent"))
}

// agent joins and starts one by the words that run its program.
func (r *rig) agent(name, tags, state string, words ...string) {
	token := r.run(nil, "tucdesk", "token", "create", "--quiet", "--tags", tags)
	word := func(more ...string) []string { return append(slices.Clone(words[1:]), more...) }
	r.runOn(r.there, strings.NewReader(token), words[0], word("join", "--state", state, "--name", name, "-")...)
	r.start(r.there, name+".log", words[0], word("run", "--state", state)...)
	r.says(name+".log", "msg=connected")
}

// smallDisk mounts one of two megabytes until the test's end.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("small", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "size=2m,mode=700"); err != nil {
		t.Fatalf("mounting a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmounting it: %v", err)
		}
	})
	return dir
}
