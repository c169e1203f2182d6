package checkpoint

import (
	"bytes"
	"crypto/ed25519"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

var (
	team   = wire.TeamID{7}
	origin = Origin("rendezvous.example", team)
)

// private makes the n-th key of a role, always the same.
func private[R key.Role](t testing.TB, n byte) key.Private[R] {
	t.Helper()
	k, err := key.FromSeed[R](bytes.Repeat([]byte{n}, key.SeedSize))
	check(t, err)
	return k
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t testing.TB, err error, code refusal.Code) {
	t.Helper()
	if code == "" && err != nil || refusal.Of(err) != code {
		t.Errorf("got %v, want code %q", err, code)
	}
}

// signed is a checkpoint of three entries and the key of its log.
func signed(t testing.TB) (string, key.Private[key.Audit]) {
	t.Helper()
	k := private[key.Audit](t, 4)
	s, err := Sign(Checkpoint{origin, tree.Head{Size: 3, Root: key.Hash{9}}}, k)
	check(t, err)
	return s, k
}

// A note of ours opens with the library's own verifier made from our key, so any
// tool that knows the format can read it.
func TestCheckpointIsAStandardNote(t *testing.T) {
	s, k := signed(t)
	vkey, err := note.NewEd25519VerifierKey(origin, ed25519.PublicKey(k.Public().Bytes()))
	check(t, err)
	v, err := note.NewVerifier(vkey)
	check(t, err)
	n, err := note.Open([]byte(s), note.VerifierList(v))
	check(t, err)
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[0] != "rendezvous.example/audit/"+team.String() || lines[1] != "3" || lines[3] != "" {
		t.Errorf("text %q", n.Text)
	}
	c, kid, err := Open(s, origin, private[key.Audit](t, 50).Public(), k.Public())
	check(t, err)
	if c.Size != 3 || kid != k.ID() || c.text() != n.Text {
		t.Errorf("checkpoint %+v by %v", c, kid)
	}
}

func TestEveryByteOfACheckpointCounts(t *testing.T) {
	s, k := signed(t)
	for i := range len(s) {
		b := []byte(s)
		b[i] ^= 1
		if _, _, err := Open(string(b), origin, k.Public()); err == nil {
			t.Errorf("byte %d may be changed: %q", i, b)
		}
		if _, _, err := Open(s[:i], origin, k.Public()); err == nil {
			t.Errorf("%d bytes are enough", i)
		}
	}
}

func TestCheckpointOfAnotherKeyOrLog(t *testing.T) {
	s, k := signed(t)
	open := func(signed, origin string, k key.Public[key.Audit]) error {
		_, _, err := Open(signed, origin, k)
		return err
	}
	wantCode(t, open(s, origin, private[key.Audit](t, 50).Public()), refusal.BadSignature)
	wantCode(t, open(s, origin, key.Public[key.Audit]{}), refusal.BadSignature)
	wantCode(t, open(s, Origin("other.example", team), k.Public()), refusal.BadSignature)
	wantCode(t, open(s, "", k.Public()), refusal.BadSignature)
	wantCode(t, open(s+strings.Repeat("x", MaxNote), origin, k.Public()), refusal.BadSignature)
	// Rightly signed under this name, with another log's text.
	msg, err := note.Sign(&note.Note{Text: Checkpoint{"other/audit/x", tree.Head{Size: 1}}.text()}, noteSigner{origin, k})
	check(t, err)
	wantCode(t, open(string(msg), origin, k.Public()), refusal.WrongTeam)
}

func TestN11CheckpointSizes(t *testing.T) {
	root := "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo="
	for text, ok := range map[string]bool{
		"o\n1\n" + root + "\n": true, "o\n281474976710656\n" + root + "\n": true,
		"o\n0\n" + root + "\n": false, "o\n-1\n" + root + "\n": false, "o\n+1\n" + root + "\n": false, "o\n01\n" + root + "\n": false,
		"o\n9223372036854775807\n" + root + "\n": false, "o\n9223372036854775808\n" + root + "\n": false, "o\n1e3\n" + root + "\n": false,
		"o\n1\n" + root: false, "o\n1\n" + root + "\nextension\n": false, "o\n1\n" + root[:43] + "\n": false, "o\n1\n\n": false, "": false,
		"o\r\n1\n" + root + "\n": true, // odd, but one spelling; no log has such a name
	} {
		if _, err := parse(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := Peek("no note"); err == nil {
		t.Error("read what is no note")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("rendezvous.example/audit/07\n42\nqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=\n")
	f.Add("\n1\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := parse(text); err == nil && c.text() != text {
			t.Errorf("%q has a second spelling", text)
		}
	})
}
