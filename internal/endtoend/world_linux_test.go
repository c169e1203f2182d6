package endtoend

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/programtest"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/vault"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// rules is the policy of the tests: hosts tagged prod are gated but for two
// commands, hosts tagged vault are closed.
const rules = `version = 1
mode = "enforce"

[environment]
allow = ["LANG", "GREETING"]

[gate]
where.tags_any = ["prod"]
approval.count = 1
approval.roles = ["approver", "admin"]

[[allow]]
id = "team"
who.roles = ["operator", "approver", "admin"]
actions = ["shell", "exec"]

[[allow]]
id = "look"
who.roles = ["operator", "approver", "admin"]
where.tags_any = ["prod"]
actions = ["exec"]
commands = [["/usr/bin/uptime"]]

[[block]]
id = "closed"
where.tags_any = ["vault"]
who.roles = ["viewer", "operator", "approver", "admin", "owner"]
actions = ["shell", "exec"]
`

// world is one team on one server, with its people and machines in folders of
// their own.
type world struct {
	t      testing.TB
	dir    string
	addr   string // of API and control channel
	relay  string // where the relay listens
	server *process
	beside *process // the relay of a world that has it by UDP alone
	setup  string   // the set-up string, a secret once
	ann    *person  // founded the team; role admin
}

// option changes a world before its server is configured.
type option func(*world, *plan)

// plan is what a world begins with.
type plan struct {
	policy     string
	udp        string // the one way to the relay that endpoints are told; "" for every way there is
	passphrase bool   // ann's owner key is behind one; it costs a second and 256 MiB
}

// byUDP leaves endpoints no other way to the relay. Where they have one they take
// it when UDP answers late, which on a busy machine it does.
func byUDP(w *world, p *plan) { p.udp = w.relay }

// withPassphrase has the team founded as a person does it.
func withPassphrase(_ *world, p *plan) { p.passphrase = true }

// newWorld starts a server with its relay and has ann found a team.
func newWorld(t testing.TB, opts ...option) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), addr: freeAddr(t), relay: freeAddr(t)}
	p := plan{policy: rules}
	for _, o := range opts {
		o(w, &p)
	}
	write(t, w.path("server.toml"), w.config(p))
	w.startServer("--url", "https://"+w.addr)
	eventually(t, "the server prints a set-up string", func() bool {
		return strings.HasPrefix(w.server.out.String(), "tucdesk-setup:") && strings.HasSuffix(w.server.out.String(), "\n")
	})
	w.setup = strings.TrimSpace(w.server.out.String())
	if p.udp != "" {
		w.startRelay()
	}
	w.found(p)
	return w
}

// config is the server's configuration.
func (w *world) config(p plan) string {
	text := fmt.Sprintf("name = \"hub.example\"\nurl = \"https://%s\"\nlisten = %q\n", w.addr, w.addr)
	if p.udp != "" {
		return text + fmt.Sprintf("[[relay.external]]\nudp = %q\n", p.udp)
	}
	return text + fmt.Sprintf("[relay]\nsecure = \"127.0.0.1:0\"\nlisten = %q\n", w.relay)
}

// startRelay runs the relay program, for UDP and TCP, on the server's secret.
func (w *world) startRelay(env ...string) {
	w.t.Helper()
	write(w.t, w.path("relay.toml"), fmt.Sprintf("listen = %q\nsecret = %q\n", w.relay, w.path("server", "relay.secret")))
	cmd := exec.Command(program(w.t, "tucdesk-relay"), "--config", w.path("relay.toml"))
	cmd.Env = cleanEnv(env...)
	w.beside = launch(w.t, cmd)
	w.beside.says("relaying on", 1)
}

func (w *world) path(parts ...string) string {
	return filepath.Join(append([]string{w.dir}, parts...)...)
}

// freeAddr is one on loopback whose port is this test's until its end.
func freeAddr(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", programtest.Port(t))
}

// startServer runs the server on the world's state until it serves.
func (w *world) startServer(args ...string) {
	w.t.Helper()
	cmd := exec.Command(program(w.t, "tucdesk-server"), append([]string{"run", "--state", w.path("server"), "--config", w.path("server.toml")}, args...)...)
	cmd.Env = cleanEnv()
	w.server = launch(w.t, cmd)
	w.server.says("serving on", 1)
}

// cleanEnv is an environment without anything of the machine the test runs on.
func cleanEnv(more ...string) []string {
	return append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent", "TERM=xterm-256color"}, more...)
}

// found has ann found the team. Her owner key, or the recovery key beside it, and
// the passphrase if there is one lie beside her state.
func (w *world) found(p plan) {
	w.t.Helper()
	w.ann = w.person("ann")
	write(w.t, w.path("policy.toml"), p.policy)
	init := []string{"team", "init", "--name", "acme", "--email", "ann@acme.example", "--tags", "prod,vault,web", "--policy", w.path("policy.toml"), "--json"}
	if !p.passphrase {
		owner := must(vault.Recovery(must(key.Generate[key.Owner]())))
		write(w.t, w.path("ann-recovery"), string(owner)+"\n")
		w.ann.run(append(init, "--recovery-key-file", w.path("ann-recovery"), w.setup)...).is(w.t, 0)
		return
	}
	write(w.t, w.path("ann-passphrase"), rand.Text()+"\n")
	a := w.ann.run(append(init, "--passphrase-file", w.path("ann-passphrase"), w.setup)...).is(w.t, 0)
	var team struct{ RecoveryKey string }
	decode(w.t, a.out, &team)
	write(w.t, w.path("ann-recovery"), team.RecoveryKey+"\n")
}

// decode reads the JSON that a command printed, all of it.
func decode(t testing.TB, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, tail(text, 1000))
	}
}

// person is an operator with a machine of their own.
type person struct {
	w    *world
	name string
	home string
}

func (w *world) person(name string) *person {
	return &person{w: w, name: name, home: w.path("people", name)}
}

func (p *person) state(file string) string { return filepath.Join(p.home, "tucdesk", file) }

// cmd is one command of this person's client, not started.
func (p *person) cmd(args ...string) *exec.Cmd {
	p.w.t.Helper()
	if err := os.MkdirAll(p.home, 0o700); err != nil {
		p.w.t.Fatal(err)
	}
	cmd := exec.Command(program(p.w.t, "tucdesk"), args...)
	cmd.Env = cleanEnv("XDG_STATE_HOME=" + p.home)
	return cmd
}

// run types a command and waits for its end.
func (p *person) run(args ...string) answer { return p.feed(nil, args...) }

// feed is run with standard input.
func (p *person) feed(in io.Reader, args ...string) answer {
	p.w.t.Helper()
	cmd := p.cmd(args...)
	cmd.Stdin = in
	return launch(p.w.t, cmd).finish()
}

// start types a command and leaves it running.
func (p *person) start(args ...string) *process { return launch(p.w.t, p.cmd(args...)) }

// owner is run for a verb that needs an owner's key. The recovery key is one and
// costs no second of work, as the passphrase does.
func (p *person) owner(args ...string) answer {
	p.w.t.Helper()
	return p.run(append(args, "--recovery-key-file", p.w.path("ann-recovery"))...)
}

// key loads the person's key, as whoever broke into the machine could.
func (p *person) key() key.Private[key.Operator] {
	p.w.t.Helper()
	return must(keyfile.LoadKey[key.Operator](p.state("operator.key")))
}

// trust is the roster chain as this person has verified it.
func (p *person) trust() *roster.State {
	p.w.t.Helper()
	var m struct {
		Fingerprint key.Hash `json:"fingerprint"`
	}
	decode(p.w.t, string(must(os.ReadFile(p.state("team.json")))), &m)
	return must(roster.Load(must(os.ReadFile(p.state("roster"))), m.Fingerprint))
}

// enter has a new person make a key, which ann puts into the roster once the
// short code was compared.
func (w *world) enter(name, role string) *person {
	w.t.Helper()
	p := w.person(name)
	var team struct{ TeamString string }
	decode(w.t, w.ann.run("team", "show", "--json").is(w.t, 0).out, &team)
	a := p.run("login", team.TeamString).refused(w.t, 250, "your key is new here")
	line := regexp.MustCompile(`operator add YOUR-EMAIL (\S+)`).FindStringSubmatch(a.err)
	code := regexp.MustCompile(`short code:\s+(\S+)`).FindStringSubmatch(a.err)
	if line == nil || code == nil {
		w.t.Fatalf("no key or short code in:\n%s", a.err)
	}
	w.ann.owner("operator", "add", name+"@acme.example", line[1], "--role", role, "--code", code[1]).is(w.t, 0)
	p.run("login").is(w.t, 0)
	return p
}

// machine is an agent with its state.
type machine struct {
	w    *world
	name string
	dir  string
	proc *process
	cmd  func(*exec.Cmd) // changes the command before each start
}

// token has ann make a join token.
func (w *world) token(tags string) string {
	w.t.Helper()
	return strings.TrimSpace(w.ann.run("token", "create", "--quiet", "--tags", tags).is(w.t, 0).out)
}

// join makes a machine a member, without starting its agent.
func (w *world) join(name, tags string) *machine {
	w.t.Helper()
	m := &machine{w: w, name: name, dir: w.path("machines", name)}
	m.joinWith(w.token(tags)).is(w.t, 0)
	return m
}

func (m *machine) joinWith(token string) answer {
	m.w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.dir), 0o700); err != nil {
		m.w.t.Fatal(err)
	}
	cmd := exec.Command(program(m.w.t, "tucdesk-agent"), "join", "--state", m.dir, "--name", m.name, "-")
	cmd.Stdin, cmd.Env = strings.NewReader(token), cleanEnv()
	return launch(m.w.t, cmd).finish()
}

// agent joins a machine and starts its agent.
func (w *world) agent(name, tags string) *machine {
	w.t.Helper()
	m := w.join(name, tags)
	m.start()
	return m
}

// start runs the agent until it is connected.
func (m *machine) start() {
	m.w.t.Helper()
	m.proc = m.run()
	m.proc.says("msg=connected", 1)
}

// run starts the agent and does not wait.
func (m *machine) run() *process {
	m.w.t.Helper()
	cmd := exec.Command(program(m.w.t, "tucdesk-agent"), "run", "--state", m.dir)
	cmd.Env = cleanEnv("SUPERVISOR_SECRET=only-for-the-agent")
	if m.cmd != nil {
		m.cmd(cmd)
	}
	return launch(m.w.t, cmd)
}

// online waits until the server says so.
func (m *machine) online() {
	m.w.t.Helper()
	eventually(m.w.t, m.name+" is online", func() bool {
		var list []struct {
			Name   string
			Online bool
		}
		a := m.w.ann.run("ls", "--json")
		if a.code != 0 || json.Unmarshal([]byte(a.out), &list) != nil {
			return false
		}
		for _, h := range list {
			if h.Name == m.name && h.Online {
				return true
			}
		}
		return false
	})
}

// key loads the machine's key, as whoever broke into it could.
func (m *machine) key() key.Private[key.Agent] {
	m.w.t.Helper()
	return must(keyfile.LoadKey[key.Agent](filepath.Join(m.dir, "identity")))
}

// marker is a file that appears when something ran that must not.
func (w *world) marker() string { return w.path("ran-" + wire.NewNonce().String()[:8]) }

// noise is n random bytes.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func in(b []byte) io.Reader { return bytes.NewReader(b) }

func now() wire.Millis { return wire.At(time.Now()) }

func encode(v any) (json.RawMessage, error) { return json.Marshal(v) }
