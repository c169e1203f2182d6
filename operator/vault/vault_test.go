package vault

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
)

func newOwner(t *testing.T) key.Private[key.Owner] {
	t.Helper()
	owner, err := key.Generate[key.Owner]()
	if err != nil {
		t.Fatal(err)
	}
	return owner
}

// cheap is a cost of scrypt that tests can bear. That people's files open at the
// full cost is shown by the programs' tests.
const cheap = 10

func TestOnlyThePassphraseOpens(t *testing.T) {
	owner, path := newOwner(t), filepath.Join(t.TempDir(), "owner.age")
	if err := create(path, []byte("correct horse"), owner, cheap); err != nil {
		t.Fatal(err)
	}
	got, err := Open(path, []byte("correct horse"))
	if err != nil || got.ID() != owner.ID() {
		t.Fatalf("opened %v, %v", got, err)
	}
	if _, err := Open(path, []byte("correct horsf")); !errors.Is(err, ErrPassphrase) {
		t.Errorf("wrong passphrase: %v, want ErrPassphrase", err)
	}
	if err := create(path, []byte("another one"), newOwner(t), cheap); err == nil {
		t.Error("an owner key was overwritten")
	}
}

// The cost stands in the file's head, so whoever steals one cannot pay less.
func TestFileCostsWhatItSays(t *testing.T) {
	for _, work := range []int{cheap, cheap + 2} {
		path := filepath.Join(t.TempDir(), "owner.age")
		if err := create(path, []byte("correct horse"), newOwner(t), work); err != nil {
			t.Fatal(err)
		}
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		head := strings.Split(string(file), "\n")[1]
		if !strings.HasPrefix(head, "-> scrypt ") || !strings.HasSuffix(head, fmt.Sprint(" ", work)) {
			t.Errorf("cost %d: the head is %q", work, head)
		}
	}
	if workLog2 < 18 {
		t.Errorf("people's files cost 2^%d", workLog2)
	}
}

func TestTheSeedIsNotInTheFile(t *testing.T) {
	owner, path := newOwner(t), filepath.Join(t.TempDir(), "owner.age")
	if err := create(path, []byte("correct horse"), owner, cheap); err != nil {
		t.Fatal(err)
	}
	var seed bytes.Buffer
	if err := owner.WriteSeed(&seed); err != nil {
		t.Fatal(err)
	}
	text, _ := Recovery(owner)
	file, _ := os.ReadFile(path)
	if bytes.Contains(file, seed.Bytes()) || bytes.Contains(file, text[len(text)-43:]) {
		t.Error("the file holds the seed in the clear")
	}
}

func TestShortPassphraseLeavesNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "owner.age")
	if err := Create(path, []byte("short"), newOwner(t)); err == nil {
		t.Fatal("a short passphrase was taken")
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a file was left behind")
	}
}

func TestRecoveryKeyAsTypedByAPerson(t *testing.T) {
	owner := newOwner(t)
	text, err := Recovery(owner)
	if err != nil {
		t.Fatal(err)
	}
	typed := append([]byte("  "), bytes.ReplaceAll(text, []byte(":"), []byte(": \n"))...)
	if got, err := ParseRecovery(typed); err != nil || got.ID() != owner.ID() {
		t.Errorf("got %v, %v", got, err)
	}
	for n := range len(text) {
		if _, err := ParseRecovery(text[:n]); err == nil {
			t.Errorf("a recovery key cut to %d characters was taken", n)
		}
	}
}
