package statement

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// note is a payload with one field of every sort that real payloads have.
type note struct {
	Text   string            `json:"text"`
	Number int64             `json:"number"`
	List   []string          `json:"list"`
	Key    key.Public[owner] `json:"key"`
	Inner  Signed            `json:"inner"`
}

type (
	owner = key.Owner
	agent = key.Agent
)

func (note) Kind() Kind { return Kind{Type: "tucdesk/note/v1", MaxSize: 4096} }

// other has the same fields and another type.
type other note

func (other) Kind() Kind { return Kind{Type: "tucdesk/other/v1", MaxSize: 4096} }

// tiny has the type of note and less room.
type tiny note

func (tiny) Kind() Kind { return Kind{Type: "tucdesk/note/v1", MaxSize: 40} }

func newKey(t testing.TB, b byte) key.Private[owner] {
	t.Helper()
	k, err := key.FromSeed[owner](bytes.Repeat([]byte{b}, key.SeedSize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func knows(keys ...key.Private[owner]) func(key.ID) (Verifier, error) {
	return func(id key.ID) (Verifier, error) {
		for _, k := range keys {
			if k.ID() == id {
				return k.Public(), nil
			}
		}
		return nil, refusal.New(refusal.UnknownKey, "not in this test")
	}
}

func sample(t testing.TB) (note, Signed, key.Private[owner]) {
	t.Helper()
	k := newKey(t, 7)
	inner, err := Sign(k, other{Text: "<inner> & co", Key: k.Public()})
	if err != nil {
		t.Fatal(err)
	}
	n := note{Text: "grüße <b>\u2028\"", Number: -5, List: []string{"a", ""}, Key: k.Public(), Inner: inner}
	s, err := Sign(k, n)
	if err != nil {
		t.Fatal(err)
	}
	return n, s, k
}

func same(a, b note) bool {
	x, errX := encode(a)
	y, errY := encode(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func TestSignOpen(t *testing.T) {
	n, s, k := sample(t)
	got, id, err := Open[note](s, knows(k))
	if err != nil || id != k.ID() || !same(got, n) {
		t.Fatalf("%+v by %s, %v", got, id, err)
	}
	if id, err := s.Kid(); err != nil || id != k.ID() {
		t.Errorf("kid %s, %v", id, err)
	}
	if s.Hash() != key.Hash(sha256.Sum256(preAuth("tucdesk/note/v1", mustEncode(t, n)))) {
		t.Error("hash is not that of the signed bytes")
	}
}

func TestEveryFlippedByteIsRejected(t *testing.T) {
	_, s, k := sample(t)
	for i := range s {
		for _, mask := range []byte{0x01, 0x20, 0x80} {
			bad := slices.Clone(s)
			bad[i] ^= mask
			if _, _, err := Open[note](bad, knows(k)); refusal.Of(err) == "" {
				t.Fatalf("byte %d xor %#x: %v, want a refusal", i, mask, err)
			}
		}
	}
}

func TestCutAndExtendedStatementsAreRejected(t *testing.T) {
	_, s, k := sample(t)
	for i := range s {
		if _, _, err := Open[note](s[:i], knows(k)); refusal.Of(err) == "" {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	for _, tail := range []string{" ", "\n", "\x00", "{}", "}", string(s)} {
		if _, _, err := Open[note](append(slices.Clone(s), tail...), knows(k)); refusal.Of(err) == "" {
			t.Errorf("trailing %q was taken", tail)
		}
	}
}

// TestEnvelopeHasOneSpelling feeds envelopes that encoding/json reads as the
// honest one.
func TestEnvelopeHasOneSpelling(t *testing.T) {
	_, s, k := sample(t)
	text := string(s)
	var e envelope
	if err := json.Unmarshal(s, &e); err != nil {
		t.Fatal(err)
	}
	middle := e.Payload[:10] + `\n` + e.Payload[10:]
	sigMiddle := e.Sig[:10] + `\r\n` + e.Sig[10:]
	for name, bad := range map[string]string{
		"duplicate key":      strings.Replace(text, `{"payload"`, `{"type":"x","payload"`, 1),
		"case variant":       strings.Replace(text, `"payload"`, `"Payload"`, 1),
		"unknown field":      strings.Replace(text, `{`, `{"x":1,`, 1),
		"space":              strings.Replace(text, `:`, `: `, 1),
		"order":              fmt.Sprintf(`{"type":%q,"payload":%q,"kid":%q,"sig":%q}`, e.Type, e.Payload, e.Kid, e.Sig),
		"escape":             strings.Replace(text, `tucdesk/`, `tucdesk\/`, 1),
		"base64 padding":     strings.Replace(text, e.Sig, e.Sig+"==", 1),
		"line end in data":   strings.Replace(text, e.Payload, middle, 1),
		"line end in sig":    strings.Replace(text, e.Sig, sigMiddle, 1),
		"upper case kid":     strings.Replace(text, e.Kid.String(), strings.ToUpper(e.Kid.String()), 1),
		"loose last bits":    strings.Replace(text, e.Sig, loosen(e.Sig), 1),
		"array around":       "[" + text + "]",
		"null":               "null",
		"empty":              "",
		"byte order mark":    "\ufeff" + text,
		"string not object":  `"x"`,
		"number for payload": strings.Replace(text, `"`+e.Payload+`"`, "1", 1),
	} {
		if bad == text {
			t.Errorf("%s: the case changes nothing", name)
		}
		if _, _, err := Open[note](Signed(bad), knows(k)); refusal.Of(err) == "" {
			t.Errorf("%s was taken: %v", name, err)
		}
	}
}

// loosen sets the unused low bits of the last character.
func loosen(b64 string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(alphabet, b64[len(b64)-1])
	return b64[:len(b64)-1] + string(alphabet[i^1])
}

// TestPayloadHasOneSpelling signs payloads that are not in the one encoding. The
// signature is right: an honest reader must still not take two readings.
func TestPayloadHasOneSpelling(t *testing.T) {
	k := newKey(t, 7)
	good := string(mustEncode(t, note{Text: "a", Key: k.Public()}))
	for name, bad := range map[string]string{
		"duplicate key":    strings.Replace(good, `{`, `{"text":"b",`, 1),
		"case variant":     strings.Replace(good, `"text"`, `"TEXT"`, 1),
		"unknown field":    strings.Replace(good, `{`, `{"x":1,`, 1),
		"missing field":    strings.Replace(good, `"number":0,`, ``, 1),
		"float":            strings.Replace(good, `"number":0`, `"number":0.0`, 1),
		"exponent":         strings.Replace(good, `"number":0`, `"number":0e1`, 1),
		"minus zero":       strings.Replace(good, `"number":0`, `"number":-0`, 1),
		"too large number": strings.Replace(good, `"number":0`, `"number":9223372036854775808`, 1),
		"invalid UTF-8":    strings.Replace(good, `"a"`, "\"\xff\"", 1),
		"lone surrogate":   strings.Replace(good, `"a"`, `"\ud800"`, 1),
		"escaped letter":   strings.Replace(good, `"a"`, `"\u0061"`, 1),
		"space":            good + " ",
		"trailing data":    good + good,
		"wrong type":       strings.Replace(good, `"a"`, `1`, 1),
		"null":             "null",
		"nothing":          "",
	} {
		if bad == good {
			t.Errorf("%s: the case changes nothing", name)
		}
		if _, _, err := Open[note](signRaw(t, k, "tucdesk/note/v1", bad), knows(k)); refusal.Of(err) != refusal.BadStatement {
			t.Errorf("%s: %v, want bad_statement", name, err)
		}
	}
	if _, _, err := Open[note](signRaw(t, k, "tucdesk/note/v1", good), knows(k)); err != nil {
		t.Errorf("the honest one: %v", err)
	}
}

func signRaw(t testing.TB, k key.Private[owner], typ, payload string) Signed {
	t.Helper()
	e := envelope{Payload: base64.RawURLEncoding.EncodeToString([]byte(payload)), Type: typ, Kid: k.ID()}
	e.Sig = base64.RawURLEncoding.EncodeToString(k.Sign(preAuth(typ, []byte(payload))))
	return mustEncode(t, e)
}

func mustEncode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTypesDoNotMix(t *testing.T) {
	_, s, k := sample(t)
	if _, _, err := Open[other](s, knows(k)); refusal.Of(err) != refusal.WrongType {
		t.Errorf("a note opened as another: %v", err)
	}
	relabelled := Signed(strings.Replace(string(s), "tucdesk/note/v1", "tucdesk/other/v1", 1))
	if _, _, err := Open[other](relabelled, knows(k)); refusal.Of(err) != refusal.BadSignature {
		t.Errorf("a relabelled note: %v", err)
	}
}

func TestPreAuthSeparatesItsParts(t *testing.T) {
	if bytes.Equal(preAuth("ab", []byte("c")), preAuth("a", []byte("bc"))) {
		t.Error("two statements share their signed text")
	}
	want := preAuthLabel + "\x00\x00\x00\x00\x00\x00\x00\x02ab\x00\x00\x00\x00\x00\x00\x00\x01c"
	if got := string(preAuth("ab", []byte("c"))); got != want {
		t.Errorf("signed text %q, want %q", got, want)
	}
}

func TestSizeCaps(t *testing.T) {
	n, s, k := sample(t)
	if _, err := Sign(k, tiny(n)); refusal.Of(err) != refusal.TooLarge {
		t.Errorf("signing too much: %v", err)
	}
	if _, _, err := Open[tiny](s, knows(k)); refusal.Of(err) != refusal.TooLarge {
		t.Errorf("opening too much: %v", err)
	}
	if _, _, err := Open[note](bytes.Repeat([]byte("["), 1<<20), knows(k)); refusal.Of(err) != refusal.TooLarge {
		t.Errorf("a megabyte of brackets: %v", err)
	}
}

func TestFinderDecides(t *testing.T) {
	_, s, k := sample(t)
	if _, _, err := Open[note](s, knows()); refusal.Of(err) != refusal.UnknownKey {
		t.Errorf("unknown key: %v", err)
	}
	nobody := func(key.ID) (Verifier, error) { return nil, nil }
	if _, _, err := Open[note](s, nobody); refusal.Of(err) != refusal.BadSignature {
		t.Errorf("finder without an answer: %v", err)
	}
	wrong := func(key.ID) (Verifier, error) { return newKey(t, 9).Public(), nil }
	if _, _, err := Open[note](s, wrong); refusal.Of(err) != refusal.BadSignature {
		t.Errorf("finder with another key: %v", err)
	}
	zero := func(key.ID) (Verifier, error) { return key.Public[agent]{}, nil }
	if _, _, err := Open[note](s, zero); refusal.Of(err) != refusal.BadSignature {
		t.Errorf("finder with the zero key: %v", err)
	}
	_, _, err := Open[note](s, func(key.ID) (Verifier, error) { return k.Public(), refusal.New(refusal.KeyRevoked, "test") })
	if refusal.Of(err) != refusal.KeyRevoked {
		t.Errorf("finder refuses: %v", err)
	}
}

func TestOpenSelfSigned(t *testing.T) {
	n, s, k := sample(t)
	own := func(n note, id key.ID) (Verifier, error) { return n.Key, nil }
	got, id, err := OpenSelfSigned(s, own)
	if err != nil || id != k.ID() || !same(got, n) {
		t.Fatalf("%v", err)
	}
	thief := newKey(t, 9)
	stolen, err := Sign(thief, n)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenSelfSigned(stolen, own); refusal.Of(err) != refusal.BadSignature {
		t.Errorf("signed by a key that it does not bring: %v", err)
	}
	if _, _, err := OpenSelfSigned(stolen[:len(stolen)-1], own); refusal.Of(err) != refusal.BadStatement {
		t.Errorf("cut: %v", err)
	}
	refuse := func(note, key.ID) (Verifier, error) { return nil, refusal.New(refusal.KeyInUse, "test") }
	if _, _, err := OpenSelfSigned(s, refuse); refusal.Of(err) != refusal.KeyInUse {
		t.Errorf("finder refuses: %v", err)
	}
}

func TestCosignature(t *testing.T) {
	_, s, _ := sample(t)
	second := newKey(t, 9)
	c, err := Cosign(second, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckCosignature(s, c, second.Public()); err != nil {
		t.Fatal(err)
	}
	other := signRaw(t, second, "tucdesk/note/v1", "{}")
	bad := map[string]error{
		"over another statement": CheckCosignature(other, c, second.Public()),
		"by another key":         CheckCosignature(s, c, newKey(t, 8).Public()),
		"without a key":          CheckCosignature(s, c, nil),
		"of another kid":         CheckCosignature(s, Cosignature{Kid: newKey(t, 8).ID(), Sig: c.Sig}, second.Public()),
		"with a line end":        CheckCosignature(s, Cosignature{Kid: c.Kid, Sig: c.Sig[:5] + "\n" + c.Sig[5:]}, second.Public()),
		"without a signature":    CheckCosignature(s, Cosignature{Kid: c.Kid}, second.Public()),
	}
	for name, err := range bad {
		if refusal.Of(err) != refusal.BadSignature {
			t.Errorf("cosignature %s: %v", name, err)
		}
	}
	if _, err := Cosign(second, Signed("{}")); refusal.Of(err) != refusal.BadStatement {
		t.Errorf("cosigning no statement: %v", err)
	}
	if err := CheckCosignature(Signed("{}"), c, second.Public()); refusal.Of(err) != refusal.BadStatement {
		t.Errorf("checking no statement: %v", err)
	}
}

func TestSignedTravelsInsideJSONUnchanged(t *testing.T) {
	_, s, _ := sample(t)
	type box struct {
		A Signed `json:"a"`
		B Signed `json:"b"`
	}
	raw := mustEncode(t, box{A: s})
	var got box
	if err := json.Unmarshal(raw, &got); err != nil || !bytes.Equal(got.A, s) || got.B != nil {
		t.Errorf("%v: %s", err, raw)
	}
	if (Signed("junk")).Hash() != (key.Hash{}) {
		t.Error("junk has a hash")
	}
	if _, err := (Signed("junk")).Kid(); refusal.Of(err) != refusal.BadStatement {
		t.Errorf("junk has a kid: %v", err)
	}
}

func FuzzEnvelope(f *testing.F) {
	_, s, k := sample(f)
	f.Add([]byte(s))
	f.Add([]byte(signRaw(f, k, "tucdesk/note/v1", "{}")))
	f.Add([]byte(`{"payload":"","type":"","kid":"","sig":""}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, payload, err := read(raw)
		if err != nil {
			return
		}
		e.Payload = base64.RawURLEncoding.EncodeToString(payload)
		if again, err := encode(e); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("a second spelling: %q and %q", raw, again)
		}
		if n, _, err := Open[note](raw, knows(k)); err == nil && !bytes.Equal(mustEncode(t, n), payload) {
			t.Errorf("opened as something else than was signed: %+v", n)
		}
	})
}

func FuzzPayload(f *testing.F) {
	k := newKey(f, 7)
	f.Add(string(mustEncode(f, note{Text: "a", Key: k.Public()})))
	f.Add(`{"text":"a","number":1,"list":null,"key":"","inner":null}`)
	f.Fuzz(func(t *testing.T, payload string) {
		n, err := decode[note]([]byte(payload))
		if err == nil && string(mustEncode(t, n)) != payload {
			t.Errorf("a second spelling of %q", payload)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	n, _, k := sample(b)
	for b.Loop() {
		if _, err := Sign(k, n); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	_, s, k := sample(b)
	find := knows(k)
	for b.Loop() {
		if _, _, err := Open[note](s, find); err != nil {
			b.Fatal(err)
		}
	}
}
