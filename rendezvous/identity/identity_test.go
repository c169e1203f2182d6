package identity

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

func create(t *testing.T) (dir string, k *Keys) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "state")
	if err := keyfile.CreateDir(dir); err != nil {
		t.Fatal(err)
	}
	if there, err := Created(dir); there || err != nil {
		t.Fatal(there, err)
	}
	if err := Create(dir, "rv1", "rv.example"); err != nil {
		t.Fatal(err)
	}
	k, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, k
}

func TestKeysAreMadeOnceAndReadBack(t *testing.T) {
	dir, k := create(t)
	if there, err := Created(dir); !there || err != nil {
		t.Fatal(there, err)
	}
	again, err := Load(dir)
	if err != nil || again.Public() != k.Public() {
		t.Fatalf("%v: other keys the second time", err)
	}
	if Create(dir, "rv1", "rv.example") == nil {
		t.Fatal("made over existing ones")
	}
	if after, err := Load(dir); err != nil || after.Public() != k.Public() {
		t.Fatalf("%v: the attempt changed them", err)
	}
	leaf := k.TLS.Leaf
	if leaf.Subject.CommonName != "rv1" || leaf.VerifyHostname("rv.example") != nil || k.Public().TLS != k.Pin {
		t.Errorf("certificate of %s for %v", leaf.Subject, leaf.DNSNames)
	}
	_, other := create(t)
	if a, b := k.Public(), other.Public(); a.Access == b.Access || a.Grant == b.Grant || a.Audit == b.Audit || a.TLS == b.TLS {
		t.Error("two servers share a key")
	}
}

// A disk that is missing, or half there, makes no new key.
func TestMissingKeyIsNeverMade(t *testing.T) {
	for _, name := range []string{fileAccess, fileGrant, fileAudit, fileTLSKey, fileTLSCert} {
		dir, _ := create(t)
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err == nil {
			t.Errorf("loaded without %s", name)
		}
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s came back", name)
		}
		if there, err := Created(dir); !there || err != nil {
			t.Errorf("without %s: %v, %v", name, there, err)
		}
	}
}

func TestB17OpenKeyFilesAreRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes are not Windows'")
	}
	for _, name := range []string{fileAccess, fileGrant, fileAudit, fileTLSKey} {
		dir, _ := create(t)
		if err := os.Chmod(filepath.Join(dir, name), 0o640); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); refusal.Of(err) != refusal.BadFileMode {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRelaySecretIsNothingElse(t *testing.T) {
	dir, _ := create(t)
	path := filepath.Join(dir, "relay.secret")
	if err := CreateSecret(path); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSecret(path); err != nil {
		t.Fatal(err)
	}
	if CreateSecret(path) == nil {
		t.Fatal("made over an existing one")
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Which texts are no secret is package credential's to know.
	if err := os.WriteFile(path, good[:len(good)-5], 0o600); err != nil {
		t.Fatal(err)
	}
	bad := new(SecretError)
	if _, err := LoadSecret(path); !errors.As(err, &bad) || bad.File != path || strings.Contains(err.Error(), string(good[len(good)-20:len(good)-8])) {
		t.Errorf("one that was cut: %v", err)
	}
	if _, err := LoadSecret(filepath.Join(dir, fileAccess)); err == nil {
		t.Error("another key file was taken for it")
	}
}
