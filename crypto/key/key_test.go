package key

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

func TestSeedRoundTrip(t *testing.T) {
	k, seed := testKey[Agent](t)
	var b bytes.Buffer
	if err := k.WriteSeed(&b); err != nil || !bytes.Equal(b.Bytes(), seed) {
		t.Errorf("seed did not come back: %v", err)
	}
	for _, n := range []int{0, 31, 33} {
		if _, err := FromSeed[Agent](make([]byte, n)); err == nil {
			t.Errorf("a seed of %d bytes was taken", n)
		}
	}
}

// TestRFC8032Vectors are tests 1 and 2 of RFC 8032, section 7.1.
func TestRFC8032Vectors(t *testing.T) {
	for _, v := range []struct{ seed, pub, msg, sig string }{
		{
			"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
			"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
			"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
		},
		{
			"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
			"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
			"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
		},
	} {
		k, err := FromSeed[Operator](unhex(t, v.seed))
		if err != nil {
			t.Fatal(err)
		}
		sig := k.Sign(unhex(t, v.msg))
		if hex.EncodeToString(k.Public().Bytes()) != v.pub || hex.EncodeToString(sig) != v.sig || !k.Public().Verify(unhex(t, v.msg), sig) {
			t.Errorf("vector %s: public %x, signature %x", v.seed[:8], k.Public().Bytes(), sig)
		}
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestB13AlteredSignaturesAreRejected(t *testing.T) {
	k, _ := testKey[Operator](t)
	msg := []byte("message")
	sig := k.Sign(msg)
	pub := k.Public()
	if !pub.Verify(msg, sig) {
		t.Fatal("honest signature does not verify")
	}
	for i := range sig {
		bad := slices.Clone(sig)
		bad[i] ^= 1
		if pub.Verify(msg, bad) {
			t.Errorf("byte %d flipped, still valid", i)
		}
		if pub.Verify(msg, sig[:i]) {
			t.Errorf("cut to %d bytes, still valid", i)
		}
	}
	if pub.Verify(msg, append(slices.Clone(sig), 0)) {
		t.Error("a trailing byte, still valid")
	}
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	s := slices.Clone(sig[32:])
	slices.Reverse(s)
	s = new(big.Int).Add(new(big.Int).SetBytes(s), order).FillBytes(make([]byte, 32))
	slices.Reverse(s)
	if pub.Verify(msg, append(slices.Clone(sig[:32]), s...)) {
		t.Error("S+L, still valid")
	}
}

func TestRolesDoNotMix(t *testing.T) {
	k, _ := testKey[Owner](t)
	text := k.Public().String()
	mix := func(name string, parse func(string) error) {
		t.Helper()
		if err := parse(text); refusal.Of(err) != refusal.WrongRole {
			t.Errorf("owner's key as %s: %v, want wrong_role", name, err)
		}
	}
	mix("agent", func(s string) error { _, err := ParsePublic[Agent](s); return err })
	mix("operator", func(s string) error { _, err := ParsePublic[Operator](s); return err })
	mix("enroller", func(s string) error { _, err := ParsePublic[Enroller](s); return err })
	mix("grant", func(s string) error { var p Public[Grant]; return p.UnmarshalText([]byte(s)) })
	if _, err := ParsePublic[Owner](text); err != nil {
		t.Error(err)
	}
	if _, same := any(k.Public()).(Public[Agent]); same {
		t.Error("two roles share a type")
	}
}

func TestPublicTextHasOneSpelling(t *testing.T) {
	k, _ := testKey[Agent](t)
	text := k.Public().String()
	if p, err := ParsePublic[Agent](text); err != nil || p != k.Public() {
		t.Fatalf("%q: %v", text, err)
	}
	for _, bad := range []string{
		"", text + "=", text + "A", text + "\n", " " + text, text[:len(text)-1], strings.ToUpper(text),
		text[:30] + "\n" + text[30:], text[:30] + "\r\n" + text[30:], strings.TrimPrefix(text, "tucdesk-"),
	} {
		if _, err := ParsePublic[Agent](bad); refusal.Of(err) == "" {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestZeroKeysDoNothing(t *testing.T) {
	var pub Public[Agent]
	var priv Private[Agent]
	if pub.Verify(nil, make([]byte, SignatureSize)) || !pub.IsZero() || !priv.IsZero() || !priv.Public().IsZero() {
		t.Error("a zero key is a key")
	}
	if _, err := pub.MarshalText(); err == nil {
		t.Error("the zero key was encoded")
	}
	if err := priv.WriteSeed(&bytes.Buffer{}); err == nil {
		t.Error("the seed of no key was written")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteSeedReportsTheWriter(t *testing.T) {
	k, _ := testKey[Agent](t)
	if err := k.WriteSeed(failing{}); err == nil {
		t.Error("a failed write was reported as success")
	}
}

func TestIDTextHasOneSpelling(t *testing.T) {
	id := ID{0xab, 0xcd}
	text := id.String()
	if got, err := ParseID(text); err != nil || got != id {
		t.Fatalf("%q: %v", text, err)
	}
	for _, bad := range []string{"", strings.ToUpper(text), text[1:], text + "0", text[:63] + "g", text[:63] + "\n"} {
		if _, err := ParseID(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if !(ID{}).IsZero() || id.IsZero() {
		t.Error("IsZero is wrong")
	}
	js, err := json.Marshal(id)
	if err != nil || string(js) != `"`+text+`"` {
		t.Errorf("JSON is %s, %v", js, err)
	}
}

func TestShortCode(t *testing.T) {
	for _, v := range []struct {
		id   ID
		want string
	}{
		{ID{}, "0000-0000-0000"},
		{ID{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "ZZZZ-ZZZZ-ZZZZ"},
		{ID{0x08, 0x86, 0x42, 0x98, 0xe8, 0x4a, 0x96, 0xcf}, "1234-5678-9ABC"},
	} {
		if got := v.id.ShortCode(); got != v.want {
			t.Errorf("short code of %s is %s, want %s", v.id, got, v.want)
		}
	}
}

func TestAccessKeyServesAJWTLibrary(t *testing.T) {
	k, _ := testKey[Access](t)
	sig, err := AccessSigner(k).Sign(nil, []byte("header.claims"), &ed25519.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !ed25519.Verify(k.Public().Bytes(), []byte("header.claims"), sig) {
		t.Error("signature does not verify")
	}
}

func FuzzParsePublic(f *testing.F) {
	k, _ := testKey[Agent](f)
	f.Add(k.Public().String())
	f.Add("tucdesk-agent-pub:")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParsePublic[Agent](s); err == nil && p.String() != s {
			t.Errorf("%q has a second spelling %q", p.String(), s)
		}
	})
}

func FuzzParseID(f *testing.F) {
	f.Add(ID{1}.String())
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseID(s); err == nil && id.String() != s {
			t.Errorf("%q has a second spelling %q", id.String(), s)
		}
	})
}
