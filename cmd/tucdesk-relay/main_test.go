package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
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
	if _, err := load(config); refusal.Of(err) != refusal.BadFileMode {
		t.Fatalf("mode 0640: %v", err)
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
	for name, text := range map[string]string{"empty": "", "a key": "tucdesk-seed:AAAA", "short": secretPrefix + "AAAA", "not base64": secretPrefix + "!", "long": secretPrefix + string(make([]byte, maxSecret))} {
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
