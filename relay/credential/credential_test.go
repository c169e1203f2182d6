package credential

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

var start = time.Unix(1767225600, 0) // 2026-01-01

func fixed(t testing.TB) Secret {
	t.Helper()
	s, err := SecretFrom(bytes.Repeat([]byte{1}, MinSecret))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWorkedExample(t *testing.T) {
	var pair Pair
	for i := range pair {
		pair[i] = byte(i)
	}
	c := Mint(fixed(t), pair, Operator, start.Add(-time.Minute), time.Minute)
	if want := "v1.1767225600.000102030405060708090a0b0c0d0e0f.o"; c.Username != want {
		t.Errorf("user name %q, want %q", c.Username, want)
	}
	// Computed with: printf %s USERNAME | openssl dgst -sha256 -mac HMAC -macopt hexkey:0101…01
	if want := "0db1d07aa290066c75a307d50c6cfdef9e7f3e70204f78df24c259791b0c12b9"; hex.EncodeToString(c.Password) != want {
		t.Errorf("password %x", c.Password)
	}
	if want := "DbHQeqKQBmx1owfVDGz9755_PnAgT3jfJMJZeRsMErk"; Text(c.Password) != want {
		t.Errorf("text %q", Text(c.Password))
	}
}

func TestMintedPairsPassAndShareOnlyThePair(t *testing.T) {
	s := NewSecret()
	o, a := MintPair(s, start, 10*time.Minute)
	no, err := Check(o.Username, start)
	if err != nil {
		t.Fatal(err)
	}
	na, err := Check(a.Username, start)
	if err != nil {
		t.Fatal(err)
	}
	if no.Pair != na.Pair || no.Role != Operator || na.Role != Agent || no.Role.Other() != na.Role || na.Role.Other() != no.Role {
		t.Errorf("%+v and %+v are not a pair", no, na)
	}
	if bytes.Equal(o.Password, a.Password) {
		t.Error("one password for both roles")
	}
	if next, _ := MintPair(s, start, time.Minute); next.Username[:48] == o.Username[:48] {
		t.Error("two sessions share a pair")
	}
	if again := Mint(s, no.Pair, Operator, start, 10*time.Minute); again.Username != o.Username || !bytes.Equal(again.Password, o.Password) {
		t.Error("mint is not a function of its arguments")
	}
}

func TestM9LifetimeIsCappedAndExpiryIsSharp(t *testing.T) {
	o, _ := MintPair(fixed(t), start, 100*time.Hour)
	if got := o.ExpiresAt.Sub(start); got != MaxLifetime {
		t.Errorf("lives %v", got)
	}
	for _, tc := range []struct {
		at   time.Time
		want error
	}{
		{start.Add(-MaxSkew), nil},
		{start.Add(-MaxSkew - time.Second), ErrTooLong},
		{start.Add(MaxLifetime - time.Nanosecond), nil},
		{start.Add(MaxLifetime), ErrExpired},
		{start.Add(1000 * time.Hour), ErrExpired},
	} {
		if _, err := Check(o.Username, tc.at); !errors.Is(err, tc.want) {
			t.Errorf("at %v: %v, want %v", tc.at.Sub(start), err, tc.want)
		}
	}
}

func TestM9EveryAlteredUserNameHasAnotherPassword(t *testing.T) {
	s := fixed(t)
	o, _ := MintPair(s, start, time.Hour)
	for i := range o.Username {
		for bit := range 8 {
			b := []byte(o.Username)
			b[i] ^= 1 << bit
			if bytes.Equal(Password(s, string(b)), o.Password) {
				t.Fatalf("byte %d, bit %d: same password", i, bit)
			}
		}
	}
	if bytes.Equal(Password(NewSecret(), o.Username), o.Password) {
		t.Error("another secret makes the same password")
	}
}

func TestOnlyOneSpellingOfAUserNameIsRead(t *testing.T) {
	good := "v1.1767225600.000102030405060708090a0b0c0d0e0f.o"
	if _, err := Parse(good); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "v1", good + " ", " " + good, good + "\n", good + ".o", good[:len(good)-1],
		strings.Replace(good, "v1", "v2", 1), strings.Replace(good, "v1", "V1", 1),
		strings.Replace(good, ".17", ".017", 1), strings.Replace(good, ".17", ".+17", 1), strings.Replace(good, ".17", ".-17", 1),
		strings.Replace(good, "1767225600", "0", 1), strings.Replace(good, "1767225600", "", 1),
		strings.Replace(good, "1767225600", "99999999999999999999", 1), strings.Replace(good, "1767225600", "17672256_0", 1),
		strings.Replace(good, "0a0b", "0A0b", 1), strings.Replace(good, "0a0b", "0a0", 1), strings.Replace(good, "0a0b", "0agb", 1),
		strings.TrimSuffix(good, "o") + "O", strings.TrimSuffix(good, "o") + "x", strings.TrimSuffix(good, "o") + "oa",
		strings.Repeat("v1.", 1000),
	} {
		if _, err := Check(bad, start.Add(-time.Minute)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestSecretsNeverPrint(t *testing.T) {
	s := fixed(t)
	c := Mint(s, Pair{}, Agent, start, time.Hour)
	for _, v := range []any{s, &s, struct{ S Secret }{s}, []Secret{s}, c, []Credential{c}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			out := fmt.Sprintf(verb, v)
			if strings.Contains(out, "0101") || strings.Contains(out, "\x01\x01") || strings.Contains(out, "1 1 1") ||
				strings.Contains(out, hex.EncodeToString(c.Password)) || strings.Contains(out, string(c.Password)) {
				t.Errorf("%T with %s prints %q", v, verb, out)
			}
		}
	}
	if out, err := json.Marshal(struct{ S Secret }{s}); err == nil {
		t.Errorf("marshalled to %s", out)
	}
}

func TestSecretsHaveALeastLength(t *testing.T) {
	if _, err := SecretFrom(make([]byte, MinSecret-1)); err == nil {
		t.Error("short secret taken")
	}
	b := bytes.Repeat([]byte{7}, 40)
	s, err := SecretFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	b[0] = 0
	out := s.Bytes()
	out[1] = 0
	if !bytes.Equal(s.Bytes(), bytes.Repeat([]byte{7}, 40)) {
		t.Error("secret shares memory with its caller")
	}
	if s.IsZero() || NewSecret().IsZero() || !(Secret{}).IsZero() {
		t.Error("IsZero is wrong")
	}
	defer func() {
		if recover() == nil {
			t.Error("minted without a secret")
		}
	}()
	Password(Secret{}, "x")
}

func FuzzParse(f *testing.F) {
	o, a := MintPair(fixed(f), start, time.Hour)
	f.Add(o.Username)
	f.Add(a.Username)
	f.Add("v1.1.00000000000000000000000000000000.a")
	f.Fuzz(func(t *testing.T, username string) {
		n, err := Parse(username)
		if err == nil && n.String() != username {
			t.Fatalf("%q was read as %q", username, n.String())
		}
	})
}
