package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/rendezvous"
)

// output is written by the program while the test reads it.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// typed runs one command to its end.
func typed(ctx context.Context, args ...string) (status int, out, talk string) {
	var o, e output
	status = cli.Run(ctx, &cli.IO{Out: &o, Err: &e}, root(), args)
	return status, o.String(), e.String()
}

// configured writes a configuration with which any ports are taken: the one in the
// address is where clients would be sent, and nobody listens there.
func configured(t *testing.T) (state, config, url string) {
	t.Helper()
	dir := t.TempDir()
	config = filepath.Join(dir, "server.toml")
	url = "https://127.0.0.1:8443"
	text := "name = \"rv1\"\nurl = \"" + url + "\"\nlisten = \"127.0.0.1:0\"\n[relay]\nlisten = \"127.0.0.1:0\"\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "state"), config, url
}

// serving runs the server until it has printed want to stdout or, for want "",
// says that it serves; then it stops it.
func serving(t *testing.T, want string, args ...string) (out, talk string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var o, e output
	done := make(chan int, 1)
	go func() { done <- cli.Run(ctx, &cli.IO{Out: &o, Err: &e}, root(), args) }()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(o.String(), want) || !strings.Contains(e.String(), "serving on") {
		select {
		case <-tick.C:
		case status := <-done:
			t.Fatalf("ended with %d: %s", status, e.String())
		case <-deadline.C:
			t.Fatalf("never served: %s", e.String())
		}
	}
	cancel()
	if status := <-done; status != 0 {
		t.Fatalf("stopped with %d: %s", status, e.String())
	}
	return o.String(), e.String()
}

func TestFirstStartMakesAServerAndLaterOnesKeepIt(t *testing.T) {
	state, config, url := configured(t)
	at := []string{"--state", state, "--config", config}
	first, said := serving(t, "tucdesk-setup:", append([]string{"run", "--url", url}, at...)...)
	if strings.Count(first, "\n") != 1 {
		t.Fatalf("stdout %q: a script wants the setup string alone", first)
	}
	if !strings.Contains(said, "; it was written to standard output\n") {
		t.Errorf("who redirects the output does not read where the string is:\n%s", said)
	}
	if want := "websocket=" + strings.TrimPrefix(url, "https://"); !strings.Contains(said, want) || strings.Contains(said, "websocket=false") {
		t.Errorf("who looks for the relay's WebSockets reads no %q in\n%s", want, said)
	}
	if !strings.Contains(said, "msg=\"server stopped\"") {
		t.Errorf("who stops the server reads nothing of that:\n%s", said)
	}
	before, err := os.ReadFile(filepath.Join(state, "access.key"))
	if err != nil {
		t.Fatal(err)
	}
	serving(t, "tucdesk-setup:", append([]string{"run"}, at...)...)
	after, err := os.ReadFile(filepath.Join(state, "access.key"))
	if err != nil || !bytes.Equal(before, after) {
		t.Fatal("a later start changed the keys")
	}
	if status, _, talk := typed(t.Context(), append([]string{"check"}, at...)...); status != 0 {
		t.Fatalf("check: %d %s", status, talk)
	}
	if status, out, talk := typed(t.Context(), append([]string{"setup-code"}, at...)...); status != 0 || !strings.HasPrefix(out, "tucdesk-setup:") {
		t.Fatalf("setup-code: %d %s", status, talk)
	}
}

// A disk that is not mounted looks like a first start.
func TestNoServerIsMadeWithoutBeingTold(t *testing.T) {
	state, config, _ := configured(t)
	for _, args := range [][]string{
		{"run", "--state", state},
		{"run", "--state", state, "--config", config},
		{"run", "--state", state, "--config", config, "--url", "https://elsewhere"},
		{"setup-code", "--state", state, "--config", config},
		{"check", "--state", state, "--config", config},
	} {
		if status, out, talk := typed(t.Context(), args...); status == 0 || out != "" || !strings.Contains(talk, "error:") {
			t.Errorf("%v: status %d, out %q, talk %q", args, status, out, talk)
		}
		if created, err := rendezvous.Created(state); created || err != nil {
			t.Fatalf("%v made keys, %v", args, err)
		}
	}
}

func TestB17OpenKeyFileStopsTheServer(t *testing.T) {
	state, config, url := configured(t)
	serving(t, "tucdesk-setup:", "run", "--url", url, "--state", state, "--config", config)
	for _, name := range []string{"access.key", "grant.key", "audit.key", "tls.key", "relay.secret"} {
		path := filepath.Join(state, name)
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, verb := range []string{"check", "run"} {
			status, _, talk := typed(t.Context(), verb, "--state", state, "--config", config)
			if status == 0 || !strings.Contains(talk, path) || !strings.Contains(talk, "chmod 600") {
				t.Errorf("%s with open %s: %d %s", verb, name, status, talk)
			}
			if secret := name == "relay.secret"; secret == strings.Contains(talk, "a new key is a new server") || secret != strings.Contains(talk, "put a new one in its place") || strings.Contains(talk, "revoke") {
				t.Errorf("%s with open %s advises %s", verb, name, talk)
			}
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheckAsJSONSaysWhatIsInOrder(t *testing.T) {
	state, config, url := configured(t)
	serving(t, "tucdesk-setup:", "run", "--url", url, "--state", state, "--config", config)
	status, out, talk := typed(t.Context(), "check", "--json", "--state", state, "--config", config)
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil || status != 0 || talk != "" {
		t.Fatalf("status %d, printed %q, %v, said %q", status, out, err, talk)
	}
	if want := (map[string]any{"schemaVersion": 1.0, "config": config, "state": state}); !maps.Equal(got, want) {
		t.Errorf("printed %v, want %v", got, want)
	}
	if err := os.Remove(filepath.Join(state, "grant.key")); err != nil {
		t.Fatal(err)
	}
	if status, out, _ := typed(t.Context(), "check", "--json", "--state", state, "--config", config); status != cli.ExitFailed || out != "" {
		t.Errorf("without a key: status %d, printed %q", status, out)
	}
}

// The hint about an open relay secret is a command, which has to do what it says.
func TestB17HintMakesANewRelaySecret(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("file modes do not say who may read here")
	}
	state, config, url := configured(t)
	serving(t, "tucdesk-setup:", "run", "--url", url, "--state", state, "--config", config)
	path := filepath.Join(state, "relay.secret")
	old, err := rendezvous.LoadRelaySecret(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	_, _, talk := typed(t.Context(), "check", "--state", state, "--config", config)
	_, line, _ := strings.Cut(talk, "in its place: ")
	line, _, _ = strings.Cut(line, "\n")
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v, %s", line, err, out)
	}
	fresh, err := rendezvous.LoadRelaySecret(path)
	if err != nil || bytes.Equal(fresh.Bytes(), old.Bytes()) {
		t.Fatalf("after %s: %v", line, err)
	}
	if status, _, talk := typed(t.Context(), "check", "--state", state, "--config", config); status != 0 {
		t.Errorf("check afterwards: %d %s", status, talk)
	}
}

func TestConfigurationMistakesAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"name = \"rv\"\nurl = \"https://h\"\nlistne = \":1\"":                                                      "listne",
		"name = \"RV\"\nurl = \"https://h\"":                                                                       "name",
		"name = \"rv\"\nurl = \"http://h\"":                                                                        "url",
		"name = \"rv\"\nurl = \"https://h\"\nlisten = \"1\"":                                                       "listen",
		"name = \"rv\"\nurl = \"https://h\"\n[relay]\nexternal = [{}]":                                             "relay.external",
		"name = \"rv\"\nurl = \"https://h\"\n[relay]\nexternal = [" + strings.Repeat("{udp = \"a:1\"},", 99) + "]": "relay.external: at most",
	} {
		config := filepath.Join(t.TempDir(), "server.toml")
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if status, _, talk := typed(t.Context(), "check", "--config", config, "--state", t.TempDir()); status != cli.ExitFailed || !strings.Contains(talk, want) || !strings.Contains(talk, "tucdesk-server check") {
			t.Errorf("%q: %d %s", text, status, talk)
		}
	}
}

// relayServer makes a server whose [relay] table is lines.
func relayServer(t *testing.T, lines string) (flags []string) {
	t.Helper()
	state := filepath.Join(t.TempDir(), "state")
	if err := rendezvous.Create(state, rendezvous.Config{Name: "rv", URL: "https://h"}); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(state, rendezvous.ConfigFile)
	text := "name = \"rv\"\nurl = \"https://h\"\nlisten = \"127.0.0.1:0\"\n[relay]\n" + lines + "\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--state", state}
}

// What check calls in order, run must start with.
func TestCheckAndRunRefuseTheSameRelayAddresses(t *testing.T) {
	for lines, key := range map[string]string{
		"secure = \"localhost:15349\"":                            "relay.secure",
		"secure = \"127.0.0.1:65536\"":                            "relay.secure",
		"listen = \"localhost:3478\"":                             "relay.listen",
		"listen = \"127.0.0.1:0\"\nsecure = \"[localhost]:5349\"": "relay.secure",
	} {
		flags := relayServer(t, lines)
		for _, verb := range []string{"check", "run"} {
			status, _, talk := typed(t.Context(), append([]string{verb}, flags...)...)
			if status != cli.ExitFailed || !strings.Contains(talk, key+": \"") || !strings.Contains(talk, "hint: mend that in") {
				t.Errorf("%s with %q: %d %s", verb, lines, status, talk)
			}
		}
	}
}

func TestCheckAndRunTakeTheSameRelayAddresses(t *testing.T) {
	for _, lines := range []string{
		"listen = \"127.0.0.1:0\"",
		"listen = \"127.0.0.1:0\"\nsecure = \"off\"",
		"secure = \"localhost:5349\"\nexternal = [{udp = \"r:3478\"}]", // no relay in this process
	} {
		flags := relayServer(t, lines)
		if status, _, talk := typed(t.Context(), append([]string{"check"}, flags...)...); status != 0 {
			t.Errorf("check with %q: %d %s", lines, status, talk)
		}
		serving(t, "tucdesk-setup:", append([]string{"run"}, flags...)...)
	}
}

// Its code stands, at a client, for a server that was not reached: here that would be
// this very program.
func TestASilentDatabaseIsNamed(t *testing.T) {
	var talk output
	err := fmt.Errorf("looking for a team: %w", refusal.New(refusal.Unavailable, "the database did not answer"))
	if status := cli.Report(&talk, noAnswer(err)); status != cli.ExitFailed || !strings.Contains(talk.String(), "hint: is the database running") {
		t.Errorf("status %d, said %q", status, talk.String())
	}
	if other := errors.New("no"); noAnswer(other) != other || noAnswer(nil) != nil {
		t.Error("another error was changed")
	}
}

func TestWrittenConfigurationReadsBack(t *testing.T) {
	at := place{config: filepath.Join(t.TempDir(), "server.toml")}
	want := rendezvous.Config{Name: "rv-1.example", URL: "https://[::1]:8443", Listen: "[::1]:8443", Database: "postgres://u@h/d?passfile=/x y",
		Relay: rendezvous.Relay{Secret: `/a "b"\c`, Listen: ":3479", Public: "h:3479", Secure: "off", External: []rendezvous.External{{UDP: "a:1"}, {TCP: "b:2"},
			{TLS: "c:3", DTLS: "c:4", WebSocket: "c:443", Key: strings.Repeat("ab", 32)}}}}
	if err := rendezvous.WriteConfig(at.config, want); err != nil {
		t.Fatal(err)
	}
	got, err := load(at)
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != want.Name || got.URL != want.URL || got.Listen != want.Listen || got.Database != want.Database ||
		got.Relay.Secret != want.Relay.Secret || got.Relay.Public != want.Relay.Public || got.Relay.Secure != "off" || !slices.Equal(got.Relay.External, want.Relay.External) {
		t.Fatalf("%+v", got)
	}
	if err := rendezvous.WriteConfig(at.config, want); err == nil {
		t.Fatal("overwrote a configuration")
	}
}

// A mistyped key leads to a list of them, which has to be whole.
func TestHelpNamesEveryKeyOfTheConfiguration(t *testing.T) {
	status, help, _ := typed(t.Context(), "check", "--help")
	if status != 0 {
		t.Fatalf("status %d", status)
	}
	var look func(reflect.Type)
	look = func(c reflect.Type) {
		for i := range c.NumField() {
			f := c.Field(i)
			name := f.Tag.Get("toml")
			if name == "" || name == "-" {
				continue
			}
			switch f.Type.Kind() {
			case reflect.Struct:
				look(f.Type)
			case reflect.Slice:
				look(f.Type.Elem())
			}
			if !regexp.MustCompile(`(?m)\b`+name+`( = |\]|,)`).MatchString(help) && !strings.Contains(help, ", "+name) {
				t.Errorf("the help has no key %q", name)
			}
		}
	}
	look(reflect.TypeFor[rendezvous.Config]())
}

// Root who looks at a service's folder is told to be that user. To take the files over,
// which is what one file alone would suggest, ends the service at its next start.
func TestRootIsSentToTheOwnerOfTheFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving a folder to another user needs root: run the test as root")
	}
	other, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("there is no user nobody: run the test where there is one")
	}
	state, config, url := configured(t)
	serving(t, "tucdesk-setup:", "run", "--url", url, "--state", state, "--config", config)
	if out, err := exec.CommandContext(t.Context(), "chown", "-R", other.Uid, state).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, verb := range []string{"check", "setup-code", "run"} {
		status, _, talk := typed(t.Context(), verb, "--state", state, "--config", config)
		want := "runuser -u nobody -- tucdesk-server " + verb + " --state " + state + " --config " + config + "\n"
		if runtime.GOOS != "linux" {
			want = "sudo -u nobody tucdesk-server " + verb
		}
		if status != cli.ExitFailed || !strings.Contains(talk, want) || strings.Contains(talk, "chown") || strings.Contains(talk, "a new key is a new server") {
			t.Errorf("%s: status %d, %s", verb, status, talk)
		}
	}
}

// A file that a start as root left in the service's folder is given back.
func TestAFileOfRootIsGivenBackToTheService(t *testing.T) {
	dir := t.TempDir()
	me, err := user.Current()
	if err != nil || runtime.GOOS == "windows" {
		t.Skip("folders have no owner here")
	}
	err = place{state: dir}.about("run", fmt.Errorf("reading the configuration: %w", fs.ErrPermission))
	told := new(cli.Error)
	if !errors.As(err, &told) || !strings.Contains(strings.Join(told.Hints, "\n"), "chown -R "+me.Username+" "+dir) {
		t.Errorf("%v, hints %v", err, told.Hints)
	}
	port := fmt.Errorf("relay: %w", &net.OpError{Op: "listen", Net: "udp", Err: os.NewSyscallError("bind", syscall.EACCES)})
	if got := (place{state: dir}).about("run", port); got != port {
		t.Errorf("a port that is denied is told as a file: %v", got)
	}
}
