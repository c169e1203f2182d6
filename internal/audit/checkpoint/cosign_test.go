package checkpoint

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func point() Checkpoint { return Checkpoint{origin, tree.Head{Size: 3, Root: key.Hash{9}}} }

// The line checked by the letter of C2SP tlog-cosignature, with nothing of ours.
func TestCosignatureIsTheStandardsOne(t *testing.T) {
	k := private[key.Agent](t, 30)
	line, err := Cosign(point(), k, noon)
	check(t, err)
	fields := strings.Split(line, " ")
	if len(fields) != 3 || fields[0] != "\u2014" {
		t.Fatalf("line %q", line)
	}
	raw, err := base64.StdEncoding.DecodeString(fields[2])
	check(t, err)
	pub := k.Public().Bytes()
	id := sha256.Sum256(append([]byte(fields[1]+"\n\x04"), pub...))
	if len(raw) != 4+8+64 || string(raw[:4]) != string(id[:4]) || binary.BigEndian.Uint64(raw[4:]) != uint64(noon.Unix()) {
		t.Errorf("bytes %x", raw)
	}
	note, _ := signed(t)
	body, _, _ := strings.Cut(note, "\n\n")
	if !ed25519.Verify(pub, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s\n", noon.Unix(), body), raw[12:]) {
		t.Error("the signature does not hold")
	}
}

func TestEveryByteOfACosignatureCounts(t *testing.T) {
	k := private[key.Operator](t, 11)
	line, err := Cosign(point(), k, noon)
	check(t, err)
	at, err := CheckCosignature(point(), line, k.Public())
	if err != nil || !at.Equal(noon) {
		t.Fatalf("%v, %v", at, err)
	}
	for i := range len(line) {
		b := []byte(line)
		b[i] ^= 1
		_, err := CheckCosignature(point(), string(b), k.Public())
		wantCode(t, err, refusal.BadSignature)
		_, err = CheckCosignature(point(), line[:i], k.Public())
		wantCode(t, err, refusal.BadSignature)
	}
	_, err = CheckCosignature(point(), line+"\n", k.Public())
	wantCode(t, err, refusal.BadSignature)
}

func TestCosignatureOfAnotherCheckpointOrKey(t *testing.T) {
	k := private[key.Agent](t, 30)
	line, err := Cosign(point(), k, noon)
	check(t, err)
	for name, edit := range map[string]func(*Checkpoint){
		"size":   func(c *Checkpoint) { c.Size++ },
		"root":   func(c *Checkpoint) { c.Root[31] ^= 1 },
		"origin": func(c *Checkpoint) { c.Origin += "x" },
	} {
		c := point()
		edit(&c)
		if _, err := CheckCosignature(c, line, k.Public()); refusal.Of(err) != refusal.BadSignature {
			t.Errorf("other %s: %v", name, err)
		}
	}
	_, err = CheckCosignature(point(), line, private[key.Agent](t, 31).Public())
	wantCode(t, err, refusal.BadSignature)
	_, err = CheckCosignature(point(), line, private[key.Operator](t, 30).Public()) // the same bytes in another role
	wantCode(t, err, refusal.BadSignature)
	if _, err := Cosign(point(), k, time.Unix(-1, 0)); refusal.Of(err) != refusal.BadTime {
		t.Errorf("before 1970: %v", err)
	}
}

// An identity key signs three kinds of text. That none can pass for another hangs on
// how they begin.
func TestNoTextOfAnIdentityKeyBeginsAnother(t *testing.T) {
	labels := []string{cosignLabel, "tucdesk-statement-v1", "tucdesk-session-v1/agent-auth", "tucdesk-session-v1/operator-auth"}
	for i, a := range labels {
		for j, b := range labels {
			if i != j && strings.HasPrefix(a, b) {
				t.Errorf("%q begins %q", b, a)
			}
		}
	}
}

func TestNoteWithCosignaturesStaysANote(t *testing.T) {
	note, k := signed(t)
	var lines []string
	for n := range byte(MaxCosigners + 3) {
		l, err := Cosign(point(), private[key.Agent](t, 30+n), noon)
		check(t, err)
		lines = append(lines, l)
	}
	full := WithCosignatures(note, lines...)
	if len(full) > MaxNote/2 {
		t.Errorf("note of %d bytes", len(full))
	}
	c, _, err := Open(full, origin, k.Public())
	check(t, err)
	list := Cosignatures(full, origin, k.Public())
	if len(list) != MaxCosigners {
		t.Fatalf("%d cosignatures", len(list))
	}
	for n, l := range list {
		pub := private[key.Agent](t, 30+byte(n)).Public()
		if _, err := CheckCosignature(c, l.Text, pub); err != nil || l.Role != "agent" || l.Kid != pub.ID() {
			t.Errorf("%+v: %v", l, err)
		}
	}
	if list := Cosignatures(full, origin); list != nil {
		t.Errorf("cosignatures of a note that nobody signed: %v", list)
	}
	// A witness of another kind stands beside ours and means nothing here.
	foreign := note + "\u2014 witness.example/w1 " + base64.StdEncoding.EncodeToString(make([]byte, 76)) + "\n"
	if list := Cosignatures(foreign, origin, k.Public()); len(list) != 1 || list[0].Role != "" {
		t.Errorf("%+v", list)
	}
}

// What is accepted has one spelling.
func FuzzCosignature(f *testing.F) {
	k := private[key.Agent](f, 30)
	line, err := Cosign(point(), k, noon)
	check(f, err)
	f.Add(line)
	f.Add("\u2014 tucdesk/agent/ AAAA")
	f.Fuzz(func(t *testing.T, line string) {
		at, err := CheckCosignature(point(), line, k.Public())
		if err != nil {
			return
		}
		if again, err := Cosign(point(), k, at); err != nil || again != line {
			t.Errorf("%q is written as %q", line, again)
		}
	})
}
