package endtoend

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/rendezvous"
)

// secret is a value that may lie in its own file and nowhere else.
type secret struct {
	name  string
	value []byte
	home  string // the one file, below the world's folder; "" for nowhere
}

// spellings are the forms in which a value could be printed.
func (s secret) spellings() [][]byte {
	list := [][]byte{s.value, []byte(hex.EncodeToString(s.value)), []byte(strings.ToUpper(hex.EncodeToString(s.value))),
		[]byte(strings.Trim(fmt.Sprint(s.value), "[]"))}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		list = append(list, []byte(enc.EncodeToString(s.value)))
	}
	return list
}

func (s secret) in(text []byte) bool {
	return slices.ContainsFunc(s.spellings(), func(f []byte) bool { return bytes.Contains(text, f) })
}

func seed[R key.Role](k key.Private[R]) []byte {
	var b bytes.Buffer
	if err := k.WriteSeed(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// secretsOf knows everything that a thief of all the folders would.
func secretsOf(t testing.TB, w *world, m *machine, join string) []secret {
	t.Helper()
	server := func(name string) string { return filepath.Join("server", name) }
	own := func(path string) string { return must(filepath.Rel(w.dir, path)) }
	setup := must(roster.ParseSetup(w.setup))
	block, _ := pem.Decode(must(os.ReadFile(w.path("server", "tls.key"))))
	if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
		t.Fatal(err)
	}
	var login struct{ Token string }
	decode(t, string(must(os.ReadFile(w.ann.state("login.json")))), &login)
	return []secret{
		{"ann's key", seed(w.ann.key()), own(w.ann.state("operator.key"))},
		{"ann's enroller key", seed(must(keyfile.LoadKey[key.Enroller](w.ann.state("enroller.key")))), own(w.ann.state("enroller.key"))},
		{"ann's JWT", []byte(login.Token), own(w.ann.state("login.json"))},
		{"the recovery key", seed(w.ownerKey()), "ann-recovery"},
		{"the passphrase", bytes.TrimSpace(must(os.ReadFile(w.path("ann-passphrase")))), "ann-passphrase"},
		{"the machine's key", seed(m.key()), own(filepath.Join(m.dir, "identity"))},
		{"the join token's key", seed(must(roster.ParseJoin(join)).Key), ""},
		{"the set-up code", setup.Code, ""},
		{"the server's access key", seed(must(keyfile.LoadKey[key.Access](w.path("server", "access.key")))), server("access.key")},
		{"the server's grant key", seed(must(keyfile.LoadKey[key.Grant](w.path("server", "grant.key")))), server("grant.key")},
		{"the server's audit key", seed(must(keyfile.LoadKey[key.Audit](w.path("server", "audit.key")))), server("audit.key")},
		{"the server's TLS key", block.Bytes[36:68], ""}, // as PEM it has another spelling
		{"the relay's secret", must(rendezvous.LoadRelaySecret(w.path("server", "relay.secret"))).Bytes(), server("relay.secret")},
	}
}

// TestA20NothingSecretIsWritten runs whole sessions with every switch for more
// output that the programs and their libraries have, and looks for every secret in
// everything that was printed, stored or sent.
func TestA20NothingSecretIsWritten(t *testing.T) {
	t.Parallel()
	var tap *tapped
	w := newWorld(t, func(w *world, p *plan) {
		tap = newTap(w.t, w.relay, true)
		p.udp = tap.addr()
	}, withPassphrase)
	loud := []string{"PION_LOG_TRACE=all", "PIONS_LOG_TRACE=all", "GOTRACEBACK=all"}
	w.server.stop()
	cmd := exec.Command(program(t, "tucdesk-server"), "run", "--state", w.path("server"), "--config", w.path("server.toml"))
	cmd.Env = cleanEnv(loud...)
	w.server = launch(t, cmd)
	w.server.says("serving on", 1)
	w.beside.stop()
	w.startRelay(loud...)
	join := w.token("web")
	m := &machine{w: w, name: "web", dir: w.path("machines", "web"), cmd: func(c *exec.Cmd) {
		c.Args = append(c.Args, "--log-json")
		c.Env = append(c.Env, loud...)
	}}
	var printed []*process
	joined := m.joinWith(join).is(t, 0)
	cmd = exec.Command(program(t, "tucdesk-agent"), "run", "--state", m.dir, "--log-json")
	cmd.Env = cleanEnv(loud...)
	m.proc = launch(t, cmd)
	m.proc.says(`"msg":"connected"`, 1)

	// The data of a session is for its two ends: the input here, echoed as hex.
	data := fmt.Sprintf("content of the session %x", noise(16))
	run := func(args ...string) {
		cmd := w.ann.cmd(args...)
		if !slices.Contains(args, "-t") { // a terminal would echo it
			cmd.Stdin = strings.NewReader(data)
		}
		cmd.Env = append(cmd.Env, loud...)
		p := launch(t, cmd)
		p.finish().is(t, 0)
		printed = append(printed, p)
	}
	run("login")
	run("exec", "-v", "web", "--", "sha256sum")
	run("exec", "-t", "-v", "web", "--", "stty", "size")
	run("ssh", "-v", "web", "cat >/dev/null")
	run("team", "show")
	run("token", "ls")
	_ = m.proc.cmd.Process.Signal(syscall.SIGQUIT) // A21: all stacks, and the end
	<-m.proc.ended
	w.server.stop()

	list := secretsOf(t, w, m, join)
	relay := must(rendezvous.LoadRelaySecret(w.path("server", "relay.secret")))
	names := tap.usernames()
	if len(names) < 6 {
		t.Fatalf("saw %d relay user names on the wire, want two for each of three sessions", len(names))
	}
	for _, name := range names {
		list = append(list, secret{"the relay password of " + name, credential.Password(relay, name), ""})
	}
	list = append(list, secret{"session data", []byte(data), ""})
	streams := map[string]string{"server": w.server.err.String() + w.server.out.String(), "relay": w.beside.err.String() + w.beside.out.String(), "agent": m.proc.err.String() + m.proc.out.String(),
		"join": joined.out + joined.err, "wire": tap.all.String()}
	for i, p := range printed {
		streams[fmt.Sprintf("client %d", i)] = p.err.String() + p.out.String()
	}
	for _, s := range list {
		for name, text := range streams {
			if s.in([]byte(text)) {
				t.Errorf("%s is in what the %s printed or sent", s.name, name)
			}
		}
	}
	searchFiles(t, w.dir, list)
	if len(tap.all.String()) < 10_000 || !regexp.MustCompile(`goroutine \d+`).MatchString(streams["agent"]) {
		t.Error("there was nothing to search")
	}
}

// searchFiles looks for every secret in every file. Its own file must have it,
// else the search would prove nothing, and no other, and must be closed to others.
func searchFiles(t *testing.T, dir string, list []secret) {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if strings.Contains(e.Name(), "core") {
			t.Errorf("a core file? %s", path)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil // a socket or a lock
		}
		rel := must(filepath.Rel(dir, path))
		for _, s := range list {
			if !s.in(text) {
				continue
			}
			if info := must(e.Info()); s.home != rel {
				t.Errorf("%s is in %s", s.name, rel)
			} else if info.Mode().Perm() != 0o600 {
				t.Errorf("%s lies in %s with mode %o", s.name, rel, info.Mode().Perm())
			} else {
				found[s.name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.home != "" && !found[s.name] {
			t.Errorf("%s is not even in %s: the search is blind", s.name, s.home)
		}
	}
}

// cleanChild: a program gets its three streams and a fixed environment, and
// nothing of the agent that was opened or set before.
func (w *world) cleanChild(t *testing.T) {
	m := w.join("clean", "web")
	leak := must(os.Open("/dev/null"))
	defer leak.Close()
	m.cmd = func(c *exec.Cmd) { c.ExtraFiles = []*os.File{leak, leak, leak} }
	m.start()
	for _, args := range [][]string{{"exec", "clean", "--"}, {"exec", "-t", "clean", "--"}} {
		// ls itself holds one more, the folder that it reads.
		a := w.ann.run(append(args, "ls", "/proc/self/fd")...).is(t, 0)
		if got := strings.Fields(a.out); !slices.Equal(got, []string{"0", "1", "2", "3"}) {
			t.Errorf("%v: descriptors %v, want 0 1 2 and the one of ls", args, got)
		}
		a = w.ann.run(append(args, "env")...).is(t, 0)
		var names []string
		for line := range strings.Lines(a.out) {
			name, _, _ := strings.Cut(line, "=")
			names = append(names, name)
		}
		slices.Sort(names)
		want := []string{"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "SSH_CONNECTION", "USER"}
		if len(args) == 4 {
			want = []string{"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "SSH_CONNECTION", "SSH_TTY", "TERM", "USER"}
		}
		if !slices.Equal(names, want) || strings.Contains(a.out, "only-for-the-agent") {
			t.Errorf("%v: environment\n%s", args, a.out)
		}
	}
	a := w.ann.run("exec", "clean", "--", "sh", "-c", "cat /proc/$PPID/environ | wc -c; ls -l /proc/$PPID/fd | wc -l").is(t, 0)
	if fields := strings.Fields(a.out); len(fields) > 0 && fields[0] != "0" {
		t.Errorf("the session process itself has an environment of %s bytes", fields[0])
	}
}
