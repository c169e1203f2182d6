package bench

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// machineName is what the target is called in the team.
const machineName = "target"

// build compiles the programs of the module around the working folder, as the
// manual says.
func build(ctx context.Context, dir string) (string, error) {
	root, err := os.Getwd()
	for ; err == nil; root = filepath.Dir(root) {
		if _, missing := os.Stat(filepath.Join(root, "cmd", "tucdesk-agent")); missing == nil {
			break
		}
		if root == filepath.Dir(root) {
			return "", errors.New("building the programs: not in a checkout of TucDesk; name a folder with built ones by --programs")
		}
	}
	if err != nil {
		return "", err
	}
	env := append(os.Environ(), "CGO_ENABLED=0")
	if runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" {
		env = append(env, "GOEXPERIMENT=runtimesecret")
	}
	for _, name := range []string{"tucdesk", "tucdesk-agent", "tucdesk-server", "tucdesk-relay"} {
		// What "go run" has linked the go command keeps; "go build" links again.
		cmd := exec.CommandContext(ctx, "go", "run", "-trimpath", "-ldflags=-s -w", "-exec", "cp", "./cmd/"+name, filepath.Join(dir, name))
		cmd.Dir, cmd.Env = root, env
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building %q: %v\n%s", name, err, out)
		}
	}
	return dir, nil
}

// team is a TucDesk team of one operator.
type team struct {
	*run
	hub    *netlab.Host
	relays map[*netlab.Host]*exec.Cmd
}

// rules allow what the rows do.
const rules = `version = 1
mode = "enforce"

[[allow]]
id = "bench"
who.roles = ["operator", "admin", "owner"]
actions = ["shell", "exec", "copy", "forward"]
`

func (t *team) program(name string) string { return filepath.Join(t.cfg.Programs, name) }

func (t *team) path(parts ...string) string {
	return filepath.Join(append([]string{t.dir}, parts...)...)
}

// found starts a server on hub and founds a team. With relays it has those, else
// one in its own process.
func (r *run) found(hub *netlab.Host, relays []*netlab.Host) *team {
	t := &team{run: r, hub: hub, relays: map[*netlab.Host]*exec.Cmd{}}
	url := "https://" + hub.IPv4().String()
	text := fmt.Sprintf("name = \"hub\"\nurl = %q\n", url)
	for _, h := range relays {
		text += fmt.Sprintf("[[relay.external]]\nudp = \"%[1]s:3478\"\ntcp = \"%[1]s:3478\"\n", h.IPv4())
	}
	r.write(t.path("server.toml"), text)
	_, setup := r.serve(hub, "tucdesk-setup:", clean(), t.program("tucdesk-server"), "run", "--state", t.path("server"), "--config", t.path("server.toml"), "--url", url)
	for i, h := range relays {
		config := t.path(fmt.Sprintf("relay%d.toml", i))
		r.write(config, fmt.Sprintf("listen = \"%s:3478\"\nsecret = %q\n", h.IPv4(), t.path("server", "relay.secret")))
		t.relays[h], _ = r.serve(h, "relaying on", clean(), t.program("tucdesk-relay"), "--config", config)
	}
	r.write(t.path("passphrase"), rand.Text()+"\n")
	r.write(t.path("policy.toml"), rules)
	init := t.client(hub, "team", "init", "--policy", t.path("policy.toml"), "--name", "bench", "--email", "bench@example.com", "--passphrase-file", t.path("passphrase"), "-")
	init.Stdin = strings.NewReader(setup)
	r.must(init)
	return t
}

// client prepares a command of the operator's client on a host.
func (t *team) client(h *netlab.Host, args ...string) *exec.Cmd {
	cmd := h.Command(t, t.program("tucdesk"), args...)
	cmd.Env = clean("XDG_STATE_HOME=" + t.path("operator"))
	return cmd
}

// join makes a host a machine of the team and starts its agent.
func (t *team) join(h *netlab.Host) {
	token := t.must(t.client(t.hub, "token", "create", "--quiet"))
	join := h.Command(t, t.program("tucdesk-agent"), "join", "--state", t.path("agent"), "--name", machineName, "-")
	join.Env, join.Stdin = clean(), strings.NewReader(token)
	t.must(join)
	t.serve(h, "msg=connected", clean(), t.program("tucdesk-agent"), "run", "--state", t.path("agent"))
	for start := time.Now(); ; {
		var hosts []struct{ Online bool }
		out, err := command(t.client(t.hub, "ls", "--json"))
		if err == nil && json.Unmarshal([]byte(out), &hosts) == nil && len(hosts) == 1 && hosts[0].Online {
			return
		}
		if time.Since(start) > readyTime || t.pause(20*time.Millisecond) != nil {
			t.Fatalf("the agent is not online: %v %s", err, out)
		}
	}
}

// offers reports whether a command of the client has a flag.
func (t *team) offers(command, flag string) bool {
	out, err := t.client(t.hub, command, "--help").Output()
	return err == nil && strings.Contains(string(out), flag)
}
