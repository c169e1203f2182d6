package labtest

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// machineName is what the machine is called in the team.
const machineName = "target"

// halfTrip is the delay of a link to the internet where a test does not say
// otherwise: 40 ms from one end to the other and back.
const halfTrip = 10 * time.Millisecond

// relayPort is where relays listen for UDP and TCP.
const relayPort = 3478

// lab makes an empty lab, or skips the test. It comes first, so that nothing is
// built or founded where there can be no lab.
func lab(t testing.TB) *netlab.Lab {
	t.Helper()
	l := netlab.New(t)
	programs.Path(t, "tucdesk") // built, or the test ends here
	return l
}

// founded is a team of one operator whose server's address is that of the first
// host of any lab. It is made once; each test has a copy. A machine joins in each
// test: an agent ends what one with its key has left on this machine.
var founded struct {
	once sync.Once
	dir  string // with the folders server and operator; empty if it failed
}

func found(t testing.TB) string {
	t.Helper()
	founded.once.Do(func() {
		w := &world{t: t, dir: filepath.Join(programs.Dir(), "founded"), lab: netlab.New(t)}
		w.inet = w.lab.Internet()
		w.hub = w.inet.Host("hub")
		w.write("server.toml", w.config(nil))
		w.startServer("--url", "https://"+w.hub.IPv4().String())
		eventually(t, "a set-up string", func() bool { return strings.HasSuffix(w.server.out.String(), "\n") })
		w.write("passphrase", rand.Text()+"\n")
		init := w.client(w.hub, "team", "init", "--name", "lab", "--email", "ann@lab.example", "--passphrase-file", w.path("passphrase"), "-")
		init.Stdin = strings.NewReader(w.server.out.String())
		must(t, init)
		w.server.stop()
		founded.dir = w.dir
	})
	if founded.dir == "" {
		t.Fatal("there is no team: founding it failed in another test")
	}
	return founded.dir
}

// world is one team in one lab.
type world struct {
	t      testing.TB
	dir    string
	lab    *netlab.Lab
	inet   *netlab.Network
	hub    *netlab.Host // where the server is
	server *process
	relays []*relayHost // empty: the server's own

	laptop  *netlab.Host // where the operator sits
	machine *netlab.Host
	agent   *process
	env     []string // more for operator and agent

	agentFlags []string
}

// relayHost is a host with tucdesk-relay on it.
type relayHost struct {
	*netlab.Host
	proc *process
}

// newWorld starts a server and so many relays beside it; with none the server
// has its own.
func newWorld(t *testing.T, relays int) *world {
	t.Helper()
	w := prepare(t, relays)
	for i, r := range w.relays {
		w.write(relayFile(i), fmt.Sprintf("listen = \"%s\"\nsecret = %q\n", r.addr(), w.path("server", "relay.secret")))
	}
	w.run(w.config(w.relays))
	return w
}

// prepare makes the hosts of a world and its copy of the team.
func prepare(t *testing.T, relays int) *world {
	t.Helper()
	w := &world{t: t, lab: lab(t), dir: t.TempDir()}
	w.inet = w.lab.Internet()
	w.hub = w.inet.Host("hub")
	if out, err := exec.Command("cp", "-a", found(t)+"/.", w.dir).CombinedOutput(); err != nil {
		t.Fatalf("copying the team: %v %s", err, out)
	}
	for range relays {
		w.relays = append(w.relays, &relayHost{Host: w.inet.Host("relay")})
	}
	return w
}

// run starts the server and its relays, whose files have been written.
func (w *world) run(config string) {
	w.t.Helper()
	w.write("server.toml", config)
	w.startServer()
	for i, r := range w.relays {
		r.proc = w.serve(r.Host, "relaying on", "tucdesk-relay", "--config", w.path(relayFile(i)))
	}
}

func relayFile(i int) string { return fmt.Sprintf("relay%d.toml", i) }

func (r *relayHost) addr() netip.AddrPort { return netip.AddrPortFrom(r.IPv4(), relayPort) }

func (w *world) path(parts ...string) string {
	return filepath.Join(append([]string{w.dir}, parts...)...)
}

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// config is the server's configuration.
func (w *world) config(relays []*relayHost) string {
	text := fmt.Sprintf("name = \"hub\"\nurl = \"https://%s\"\n", w.hub.IPv4())
	for _, r := range relays {
		text += fmt.Sprintf("[[relay.external]]\nudp = \"%[1]s\"\ntcp = \"%[1]s\"\n", r.addr())
	}
	return text
}

// clean is an environment without anything of the machine the test runs on.
func clean(more ...string) []string {
	return append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent", "TERM=xterm-256color"}, more...)
}

// serve starts a server on a host and returns when it says it is ready.
func (w *world) serve(h *netlab.Host, ready, name string, args ...string) *process {
	w.t.Helper()
	cmd := h.Command(w.t.Context(), program(name), args...)
	cmd.Env = clean(w.env...)
	cmd.Cancel = func() error { return nil } // launch's clean-up ends it in good order
	p := launch(w.t, cmd)
	p.says(ready)
	return p
}

func (w *world) startServer(args ...string) {
	w.t.Helper()
	w.server = w.serve(w.hub, "serving on", "tucdesk-server", append([]string{"run", "--state", w.path("server"), "--config", w.path("server.toml")}, args...)...)
}

// client prepares a command of the operator.
func (w *world) client(h *netlab.Host, args ...string) *exec.Cmd {
	cmd := h.Command(w.t.Context(), program("tucdesk"), args...)
	cmd.Env = clean(append([]string{"XDG_STATE_HOME=" + w.path("operator")}, w.env...)...)
	return cmd
}

// place puts the operator and the machine where they are for this test, each
// halfTrip away from what it is attached to, and starts the agent.
func (w *world) place(operator, machine *netlab.Network) {
	w.t.Helper()
	w.laptop, w.machine = operator.Host("laptop"), machine.Host("machine")
	for _, h := range []*netlab.Host{w.laptop, w.machine} {
		h.Set(netlab.WAN{Delay: halfTrip})
	}
	token := must(w.t, w.client(w.hub, "token", "create", "--quiet"))
	join := w.hub.Command(w.t.Context(), program("tucdesk-agent"), "join", "--state", w.path("agent"), "--name", machineName, "-")
	join.Env, join.Stdin = clean(), strings.NewReader(token)
	must(w.t, join)
	w.startAgent()
}

func (w *world) startAgent() {
	w.t.Helper()
	w.agent = w.serve(w.machine, "msg=connected", "tucdesk-agent", append([]string{"run", "--state", w.path("agent")}, w.agentFlags...)...)
}

// relayed is how many bytes the links of the relays have carried, both ways.
func (w *world) relayed() (n uint64) {
	hosts := []*netlab.Host{w.hub}
	if len(w.relays) > 0 {
		hosts = nil
		for _, r := range w.relays {
			hosts = append(hosts, r.Host)
		}
	}
	for _, h := range hosts {
		n += carried(h.Link)
	}
	return n
}

// carried is how many bytes a link has carried, both ways.
func carried(l *netlab.Link) uint64 {
	up, down := l.Count()
	return up.Bytes + down.Bytes
}

// relayOnly keeps every UDP packet from a link but those to and from the relays
// and the server, so that there is no direct path.
func (w *world) relayOnly() netlab.Firewall {
	allowed := map[netip.Addr]bool{w.hub.IPv4(): true}
	for _, r := range w.relays {
		allowed[r.IPv4()] = true
	}
	return func(up bool, p netlab.Packet) bool {
		far := p.Src
		if up {
			far = p.Dst
		}
		return p.Proto != netlab.UDP || allowed[far.Addr()]
	}
}
