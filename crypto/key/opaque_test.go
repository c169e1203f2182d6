package key

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// formsOf lists the usual forms of every part of a secret.
func formsOf(secret []byte) (forms [][]byte) {
	for i := 0; i+6 <= len(secret); i++ {
		part := secret[i : i+6]
		decimal := strings.Trim(fmt.Sprint(part), "[]")
		goSyntax := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", part), "[]byte{"), "}")
		for _, form := range []string{
			string(part), hex.EncodeToString(part), decimal, strings.ReplaceAll(decimal, " ", ","), goSyntax,
			strings.ToUpper(hex.EncodeToString(part)), fmt.Sprintf("% x", part),
			strings.Trim(fmt.Sprintf("%o", part), "[]"), strings.Trim(fmt.Sprintf("%b", part), "[]"),
			base64.RawStdEncoding.EncodeToString(part), base64.RawURLEncoding.EncodeToString(part),
		} {
			forms = append(forms, []byte(form))
		}
	}
	return forms
}

func leaks(text []byte, forms [][]byte) bool {
	return slices.ContainsFunc(forms, func(form []byte) bool { return bytes.Contains(text, form) })
}

func TestLeakDetectorFindsKeyBytes(t *testing.T) {
	k, seed := testKey[Owner](t)
	for _, verb := range "vsxXqdob" {
		text := fmt.Sprintf("%"+string(verb), []byte(k.k()))
		if verb != 'q' && !leaks([]byte(text), formsOf(seed)) {
			t.Errorf("detector is blind to %%%c: %s", verb, text)
		}
	}
	js, _ := json.Marshal([]byte(k.k()))
	if !leaks(js, formsOf(seed)) {
		t.Error("detector is blind to base64")
	}
}

func testKey[R Role](t testing.TB) (Private[R], []byte) {
	t.Helper()
	seed := make([]byte, SeedSize)
	for i := range seed {
		seed[i] = byte(101 + i*5)
	}
	k, err := FromSeed[R](seed)
	if err != nil {
		t.Fatal(err)
	}
	return k, seed
}

func TestA20PrivateKeysNeverPrint(t *testing.T) {
	neverPrints[Owner](t)
	neverPrints[Enroller](t)
	neverPrints[Token](t)
	neverPrints[Operator](t)
	neverPrints[Agent](t)
	neverPrints[Access](t)
	neverPrints[Grant](t)
	neverPrints[Audit](t)
}

func neverPrints[R Role](t *testing.T) {
	k, seed := testKey[R](t)
	forms := formsOf(seed)
	type exported struct{ K Private[R] }
	type hidden struct{ k Private[R] }
	h := hidden{k}
	all := []any{k, &k, []Private[R]{k}, map[string]Private[R]{"k": k}, exported{k}, &exported{k}, h, &h, []hidden{h}, struct{ h *hidden }{&h}}
	t.Run(roleName[R](), func(t *testing.T) {
		for _, v := range all {
			for name, text := range encodings(v) {
				if leaks(text, forms) {
					t.Errorf("%s of a %T shows key bytes: %q", name, v, text)
				}
			}
		}
	})
}

func encodings(v any) map[string][]byte {
	out := map[string][]byte{}
	for _, flags := range []string{"", "+", "#", " ", "-40", "#0", "+#"} {
		for _, verb := range "vTtbcdoOqxXUeEfFgGsp" {
			f := "%" + flags + string(verb)
			out[f] = fmt.Appendf(nil, f, v)
		}
	}
	out["print"] = fmt.Append(nil, v)
	out["errorf"] = []byte(fmt.Errorf("oops: %v", v).Error())
	out["json"], _ = json.Marshal(v)
	out["xml"], _ = xml.Marshal(v)
	var g, text, js bytes.Buffer
	_ = gob.NewEncoder(&g).EncodeValue(reflect.ValueOf(v))
	slog.New(slog.NewTextHandler(&text, nil)).Info("x", "k", v)
	slog.New(slog.NewJSONHandler(&js, nil)).Info("x", "k", v)
	out["gob"], out["slog text"], out["slog json"] = g.Bytes(), text.Bytes(), js.Bytes()
	return out
}

func TestPrivateKeysAreNotComparable(t *testing.T) {
	if reflect.TypeFor[Private[Agent]]().Comparable() {
		t.Error("private keys can be compared with ==")
	}
}
