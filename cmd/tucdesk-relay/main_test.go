package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/hop"
	"github.com/tucdesk/tucdesk/rendezvous"
)

// written makes a server's secret and a configuration that names it.
func written(t *testing.T) (secret, config string) {
	t.Helper()
	state := filepath.Join(t.TempDir(), "state")
	if err := rendezvous.Create(state, rendezvous.Config{Name: "rv1", URL: "https://rv.example"}); err != nil {
		t.Fatal(err)
	}
	secret = filepath.Join(state, "relay.secret")
	config = filepath.Join(t.TempDir(), "relay.toml")
	if err := os.WriteFile(config, []byte("listen = \"127.0.0.1:3478\"\nsecret = '"+secret+"'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return secret, config
}

func TestRelayReadsTheServersSecret(t *testing.T) {
	secret, config := written(t)
	want, err := rendezvous.LoadRelaySecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	got, err := load(config)
	if err != nil || !bytes.Equal(got.Secret.Bytes(), want.Bytes()) || got.UDP.Port() != 3478 || got.TCP != got.UDP {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestB17OpenSecretIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("file modes do not say who may read here")
	}
	secret, config := written(t)
	if err := os.Chmod(secret, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err := load(config)
	if refusal.Of(err) != refusal.BadFileMode {
		t.Fatalf("mode 0640: %v", err)
	}
	var talk bytes.Buffer
	if cli.Report(&talk, err); !strings.Contains(talk.String(), "put a new one in its place") || strings.Contains(talk.String(), "revoke") {
		t.Errorf("mode 0640: it says %s", talk.String())
	}
	if err := os.Chmod(secret, 0o600); err != nil {
		t.Fatal(err)
	}
	moved := secret + ".moved"
	if err := os.Rename(secret, moved); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(moved, secret); err != nil {
		t.Fatal(err)
	}
	if _, err := load(config); refusal.Of(err) != refusal.BadFileMode {
		t.Fatalf("symbolic link: %v", err)
	}
}

func TestOtherFilesAreNoSecret(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "a key": "tucdesk-seed:AAAA", "short": credential.FilePrefix + "AAAA", "not base64": credential.FilePrefix + "!", "long": credential.FilePrefix + string(make([]byte, maxSecret))} {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := loadSecret(path); err == nil || !s.IsZero() {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := load(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing configuration was taken")
	}
}

// command runs the program's command line and returns what it printed.
func command(t *testing.T, args ...string) (out, talk string, exit int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	exit = cli.Run(t.Context(), &cli.IO{In: os.Stdin, Out: &stdout, Err: &stderr}, root(), args)
	return stdout.String(), stderr.String(), exit
}

func TestKeyIsMadeOnceAndItsPinPrinted(t *testing.T) {
	_, path := written(t)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "relay.key")
	text = append(text, "secure = \"127.0.0.1:5349\"\nkey = '"+key+"'\n"...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, talk, exit := command(t, "--config", path); exit != cli.ExitFailed || !strings.Contains(talk, "hint: tucdesk-relay create-key") {
		t.Fatalf("without a key: exit %d\n%s", exit, talk)
	}
	made, _, exit := command(t, "create-key", "--config", path)
	if pin, err := hop.ParsePin(strings.TrimSpace(made)); exit != 0 || err != nil || pin.IsZero() {
		t.Fatalf("exit %d, %q", exit, made)
	}
	if _, talk, exit := command(t, "create-key", "--config", path); exit != cli.ExitFailed || !strings.Contains(talk, "tucdesk-relay pin") {
		t.Errorf("a second key: exit %d\n%s", exit, talk)
	}
	if shown, _, exit := command(t, "pin", "--config", path); exit != 0 || shown != made {
		t.Errorf("exit %d, %q", exit, shown)
	}
	want := "{\n  \"schemaVersion\": 1,\n  \"pin\": \"" + strings.TrimSpace(made) + "\"\n}\n"
	if shown, _, exit := command(t, "pin", "--json", "--config", path); exit != 0 || shown != want {
		t.Errorf("as JSON: exit %d, %q", exit, shown)
	}
	cfg, err := load(path)
	if err != nil || cfg.DTLS != cfg.TLS || cfg.TLS.Port() != 5349 || !cfg.WebSocket || cfg.Identity.Pin().String() != strings.TrimSpace(made) {
		t.Errorf("%+v, %v", cfg, err)
	}
}

// lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestHangUpReadsTheSecretAgain(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("this system has no SIGHUP")
	}
	secret, path := written(t)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(text, []byte(":3478"), []byte(":0"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var talk lockedBuffer
	done := make(chan error, 1)
	go func() { done <- run(ctx, &cli.IO{Out: io.Discard, Err: &talk}, path, &lab{}) }()
	// Our own process gets the signal, so it must not end it before run listens, nor
	// where one of many is delivered after run's end: this stays.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	says := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !strings.Contains(talk.String(), want); {
			if time.Now().After(deadline) {
				t.Fatalf("never said %q:\n%s", want, talk.String())
			}
			self, err := os.FindProcess(os.Getpid())
			if err == nil && strings.Contains(talk.String(), "relay serving") {
				err = self.Signal(syscall.SIGHUP)
			}
			if err != nil {
				t.Fatal(err)
			}
			<-time.After(5 * time.Millisecond)
		}
	}
	says("is the one in use")
	good, err := os.ReadFile(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	says("cannot be read")
	next := credential.NewSecret().FileText()
	if bytes.Equal(next, good) {
		t.Fatal("the same secret")
	}
	if err := os.WriteFile(secret, next, 0o600); err != nil {
		t.Fatal(err)
	}
	says("has been replaced")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if strings.Contains(talk.String(), string(next[len(credential.FilePrefix):])) {
		t.Error("the secret is in the log")
	}
}

// Whoever has a wrong configuration reads what belongs there.
func TestWrongConfigurationSaysWhatBelongsThere(t *testing.T) {
	for text, want := range map[string]string{
		"listen = \"127.0.0.1:99999\"\n": "hint: as in: listen = ",
		"nonsense = 1\n":                 "hint: what has to be in it: tucdesk-relay --help",
	} {
		path := filepath.Join(t.TempDir(), "relay.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, talk, exit := command(t, "--config", path); exit != cli.ExitFailed || !strings.Contains(talk, want) {
			t.Errorf("%q: exit %d, said %q, want %q", text, exit, talk, want)
		}
	}
	_, path := written(t)
	if _, talk, exit := command(t, "pin", "--config", path); exit != cli.ExitFailed || !strings.Contains(talk, "hint: as in: key = ") {
		t.Errorf("a pin without a key: exit %d, said %q", exit, talk)
	}
}

// The key of a relay is replaced; nobody can revoke it.
func TestB17OpenKeyIsRefusedWithWhatToDo(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("file modes do not say who may read here")
	}
	key := filepath.Join(t.TempDir(), "relay.key")
	path, _ := listening(t, "127.0.0.1:0", "secure = \"127.0.0.1:0\"\nkey = '"+key+"'\n")
	if _, talk, exit := command(t, "create-key", "--config", path); exit != 0 {
		t.Fatal(talk)
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"pin"}, {}} {
		_, talk, exit := command(t, append(args, "--config", path)...)
		if exit != cli.ExitFailed || !strings.Contains(talk, "chmod 600") || !strings.Contains(talk, "remove the file; tucdesk-relay create-key makes another") || strings.Contains(talk, "revoke") {
			t.Errorf("%q: exit %d, said %s", args, exit, talk)
		}
	}
}
