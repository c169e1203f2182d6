package principal

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func private[R key.Role](t testing.TB, n byte) key.Private[R] {
	t.Helper()
	k, err := key.FromSeed[R](bytes.Repeat([]byte{n}, key.SeedSize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// raw is the n-th access key for signing what Mint would not.
func raw(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func ann(t testing.TB) Principal {
	return Principal{
		Team: Trusted(wire.TeamID{7}), Operator: private[key.Operator](t, 9).ID(),
		Email: "ann@example.org", Person: "ann", Role: policy.Operator,
	}
}

func mint(t testing.TB, i *Issuer) string {
	t.Helper()
	text, _, err := i.Mint(ann(t), now)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// forge signs any header and claims with the right key.
func forge(header, claims string) string {
	text := b64(header) + "." + b64(claims)
	return text + "." + b64(string(ed25519.Sign(raw(1), []byte(text))))
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func part(t testing.TB, token string, n int) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[n])
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func wantCode(t testing.TB, what string, err error, codes ...refusal.Code) {
	t.Helper()
	got := refusal.Of(err)
	for _, c := range codes {
		if got == c {
			return
		}
	}
	t.Errorf("%s: got %v, want %v", what, err, codes)
}

func TestMintedTokenVerifies(t *testing.T) {
	i := NewIssuer(private[key.Access](t, 1))
	text, expires, err := i.Mint(ann(t), now)
	if err != nil {
		t.Fatal(err)
	}
	got, err := i.Verify(text, now)
	if err != nil {
		t.Fatal(err)
	}
	want := ann(t)
	want.ID, want.ExpiresAt = got.ID, wire.At(now.Add(Lifetime))
	if got != want || expires != want.ExpiresAt || got.ID == (wire.Nonce{}) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if again := mint(t, i); again == text {
		t.Error("two tokens are equal")
	}
	if forge(part(t, text, 0), part(t, text, 1)) != text {
		t.Error("a token has a second encoding")
	}
}

func TestMintNeedsAWholePrincipal(t *testing.T) {
	i := NewIssuer(private[key.Access](t, 1))
	for _, edit := range []func(*Principal){
		func(p *Principal) { p.Team = TeamID{} }, func(p *Principal) { p.Operator = key.ID{} },
		func(p *Principal) { p.Role = 0 }, func(p *Principal) { p.Email = strings.Repeat("x", MaxToken) },
	} {
		p := ann(t)
		edit(&p)
		if _, _, err := i.Mint(p, now); err == nil {
			t.Errorf("minted for %+v", p)
		}
	}
}

func TestFormerKeyStillVerifies(t *testing.T) {
	old := NewIssuer(private[key.Access](t, 1))
	text := mint(t, old)
	next := NewIssuer(private[key.Access](t, 2), private[key.Access](t, 1).Public())
	if _, err := next.Verify(text, now); err != nil {
		t.Error(err)
	}
	_, err := NewIssuer(private[key.Access](t, 2)).Verify(text, now)
	wantCode(t, "key that was taken away", err, refusal.UnknownKid)
	// A token of one of our keys does not pass under the name of another.
	claims := strings.ReplaceAll(part(t, text, 1), private[key.Access](t, 1).ID().String(), private[key.Access](t, 2).ID().String())
	_, err = next.Verify(forge(part(t, text, 0), claims), now)
	wantCode(t, "issuer of another key", err, refusal.BadToken)
}

func TestC1AlgNone(t *testing.T) {
	i := NewIssuer(private[key.Access](t, 1))
	text := mint(t, i)
	for _, alg := range []string{`"none"`, `"None"`, `"NONE"`, `""`, `"EDDSA"`, `"EdDSA "`, `"Ed25519"`} {
		for _, sig := range []string{"", strings.Split(text, ".")[2]} {
			h := strings.Replace(part(t, text, 0), `"EdDSA"`, alg, 1)
			_, err := i.Verify(b64(h)+"."+b64(part(t, text, 1))+"."+sig, now)
			wantCode(t, alg, err, refusal.BadAlg)
		}
	}
	_, err := i.Verify(forge(`{"typ":"tucdesk-access+jwt"}`, part(t, text, 1)), now)
	wantCode(t, "no alg", err, refusal.BadAlg)
	_, err = i.Verify(forge(strings.Replace(part(t, text, 0), `"EdDSA"`, `null`, 1), part(t, text, 1)), now)
	wantCode(t, "null alg", err, refusal.BadAlg)
}

func TestC2HMACWithThePublicKey(t *testing.T) {
	i := NewIssuer(private[key.Access](t, 1))
	text := mint(t, i)
	public := raw(1).Public().(ed25519.PublicKey)
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string][]byte{
		"raw": public, "der": der, "pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "empty": {},
	} {
		h := strings.Replace(part(t, text, 0), `"EdDSA"`, `"HS256"`, 1)
		signing := b64(h) + "." + b64(part(t, text, 1))
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(signing))
		_, err := i.Verify(signing+"."+b64(string(mac.Sum(nil))), now)
		wantCode(t, name, err, refusal.BadAlg)
	}
}

func TestC3UnknownSigner(t *testing.T) {
	i := NewIssuer(private[key.Access](t, 1))
	text := mint(t, i)
	_, err := i.Verify(mint(t, NewIssuer(private[key.Access](t, 2))), now)
	wantCode(t, "another EdDSA key", err, refusal.UnknownKid)

	// Our kid over another key's signature.
	signing := b64(part(t, text, 0)) + "." + b64(part(t, text, 1))
	_, err = i.Verify(signing+"."+b64(string(ed25519.Sign(raw(2), []byte(signing)))), now)
	wantCode(t, "our kid", err, refusal.BadSignature)

	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for alg, signer := range map[string]crypto.Signer{"RS256": rsaKey, "ES256": ecKey} {
		for kid, code := range map[string]refusal.Code{i.kid: refusal.BadAlg, strings.Repeat("ab", 32): refusal.UnknownKid} {
			h := fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":%q}`, alg, kid, tokenType)
			signing := b64(h) + "." + b64(part(t, text, 1))
			sum := sha256.Sum256([]byte(signing))
			sig, err := signer.Sign(rand.Reader, sum[:], crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			_, err = i.Verify(signing+"."+b64(string(sig)), now)
			wantCode(t, alg, err, code)
		}
	}
}

func TestC4KeyIDs(t *testing.T) {
	i := NewIssuer(private[key.Access](t, 1))
	text := mint(t, i)
	for _, kid := range []string{
		"", "../../x", "' OR 1=1 --", "a\x00b", i.kid + "\x00", strings.ToUpper(i.kid), " " + i.kid, i.kid[:63],
		private[key.Operator](t, 9).ID().String(), private[key.Access](t, 2).ID().String(), strings.Repeat("a", 10<<10),
	} {
		quoted, err := json.Marshal(kid)
		if err != nil {
			t.Fatal(err)
		}
		h := strings.Replace(part(t, text, 0), `"`+i.kid+`"`, string(quoted), 1)
		_, err = i.Verify(forge(h, part(t, text, 1)), now)
		wantCode(t, fmt.Sprintf("kid %.20q", kid), err, refusal.UnknownKid, refusal.BadToken)
	}
	for _, h := range []string{
		`{"alg":"EdDSA","typ":"tucdesk-access+jwt"}`, strings.Replace(part(t, text, 0), `"`+i.kid+`"`, `["x"]`, 1), strings.Replace(part(t, text, 0), `"`+i.kid+`"`, `7`, 1),
	} {
		_, err := i.Verify(forge(h, part(t, text, 1)), now)
		wantCode(t, h, err, refusal.UnknownKid, refusal.BadHeader)
	}
}

func TestC5HeaderFields(t *testing.T) {
	i := NewIssuer(private[key.Access](t, 1))
	text := mint(t, i)
	h := part(t, text, 0)
	for _, extra := range []string{
		`"jwk":{}`, `"jku":"https://x"`, `"x5u":"https://x"`, `"x5c":[]`, `"crit":["b64"]`, `"b64":false`, `"zip":"DEF"`, `"cty":"JWT"`,
		`"Alg":"none"`, `"KID":"x"`, `"x":null`, `"alg":"EdDSA"`, `"typ":"tucdesk-access+jwt"`,
	} {
		for _, changed := range []string{h[:len(h)-1] + "," + extra + "}", "{" + extra + "," + h[1:]} {
			_, err := i.Verify(forge(changed, part(t, text, 1)), now)
			wantCode(t, changed, err, refusal.BadHeader)
		}
	}
	for _, changed := range []string{" " + h, h + "\n", strings.Replace(h, ",", ", ", 1), `[]`, `null`, `"x"`, ``, h + h, strings.Replace(h, "EdDSA", `\u0045dDSA`, 1)} {
		_, err := i.Verify(forge(changed, part(t, text, 1)), now)
		wantCode(t, changed, err, refusal.BadHeader, refusal.BadAlg)
	}
}

// edit changes one claim in the text and signs again.
func edit(t *testing.T, text, claim, value string) string {
	t.Helper()
	var fields map[string]json.RawMessage
	claims := part(t, text, 1)
	if err := json.Unmarshal([]byte(claims), &fields); err != nil {
		t.Fatal(err)
	}
	old := `"` + claim + `":` + string(fields[claim])
	if !strings.Contains(claims, old) {
		t.Fatalf("no claim %s", claim)
	}
	replaced := strings.Replace(claims, old, `"`+claim+`":`+value, 1)
	if value == "" {
		replaced = strings.Replace(claims, old+",", "", 1)
	}
	return forge(part(t, text, 0), replaced)
}

func TestC6Expiry(t *testing.T) {
	i := NewIssuer(private[key.Access](t, 1))
	text := mint(t, i)
	for after, code := range map[time.Duration]refusal.Code{
		0: "", Lifetime - time.Second: "", Lifetime + Leeway - time.Second: "", Lifetime + Leeway: refusal.Expired,
		Lifetime + Leeway + time.Second: refusal.Expired, 365 * 24 * time.Hour: refusal.Expired,
	} {
		_, err := i.Verify(text, now.Add(after))
		wantCode(t, after.String(), err, code)
	}
	at := now.Unix()
	for value, codes := range map[string][]refusal.Code{
		"": {refusal.BadToken, refusal.Expired}, `"` + fmt.Sprint(at+60) + `"`: {refusal.BadToken}, fmt.Sprint(at+60) + ".5": {refusal.BadToken},
		fmt.Sprint(at+60) + ".0": {refusal.BadToken}, "1e308": {refusal.BadToken}, "1e10": {refusal.BadToken}, "-1": {refusal.Expired}, "0": {refusal.Expired},
		"null": {refusal.BadToken, refusal.Expired}, "9223372036854775807": {refusal.BadToken, refusal.Expired}, "9223372036854775808": {refusal.BadToken},
		"-9223372036854775808": {refusal.Expired, refusal.BadToken}, fmt.Sprint(at + 901): {refusal.BadToken}, "[]": {refusal.BadToken},
	} {
		_, err := i.Verify(edit(t, text, "exp", value), now)
		wantCode(t, "exp "+value, err, codes...)
	}
	_, err := i.Verify(edit(t, text, "iat", "-9223372036854775808"), now)
	wantCode(t, "iat from the beginning of time", err, refusal.BadToken)
	_, err = i.Verify(edit(t, edit(t, text, "iat", fmt.Sprint(at-3600)), "nbf", fmt.Sprint(at-3600)), now)
	wantCode(t, "made for too long", err, refusal.BadToken)
}

func TestC7FromTheFuture(t *testing.T) {
	i := NewIssuer(private[key.Access](t, 1))
	text := mint(t, i)
	for before, code := range map[time.Duration]refusal.Code{
		time.Second: "", Leeway: "", Leeway + time.Second: refusal.NotYetValid, time.Hour: refusal.NotYetValid,
	} {
		_, err := i.Verify(text, now.Add(-before))
		wantCode(t, before.String(), err, code)
	}
	for _, claim := range []string{"nbf", "iat"} {
		_, err := i.Verify(edit(t, text, claim, fmt.Sprint(now.Unix()+60)), now)
		wantCode(t, claim, err, refusal.NotYetValid)
	}
}

func TestClaimsMustBeComplete(t *testing.T) {
	i := NewIssuer(private[key.Access](t, 1))
	text := mint(t, i)
	for claim, values := range map[string][]string{
		"iss": {"", `"x"`, `null`, `["` + i.kid + `"]`}, "aud": {"", `"x"`, `null`, `[]`, `["` + audiencePrefix + i.kid + `"]`, `["` + audiencePrefix + i.kid + `","x"]`},
		"jti": {"", `"x"`, `null`, `"` + strings.Repeat("AB", 16) + `"`}, "team_id": {"", `"x"`, `null`, `"` + strings.Repeat("0", 32) + `"`, `7`},
		"email": {"", `null`, `7`}, "role": {"", `"root"`, `null`, `"Operator"`, `2`}, "person": {"", `null`},
		"cnf": {"", `{}`, `null`, `{"kid":"x"}`, `{"kid":"` + strings.Repeat("0", 64) + `"}`, `{"kid":"` + strings.Repeat("1", 64) + `","x":1}`},
	} {
		for _, value := range values {
			if claim == "cnf" && value == "" {
				continue // the last claim; {} stands for it
			}
			_, err := i.Verify(edit(t, text, claim, value), now)
			wantCode(t, claim+" "+value, err, refusal.BadToken)
		}
	}
	claims := part(t, text, 1)
	for _, changed := range []string{
		claims[:len(claims)-1] + `,"x":1}`, `{"role":"owner",` + claims[1:], claims[:len(claims)-1] + `,"role":"owner"}`, claims[:len(claims)-1] + `,"ROLE":"owner"}`,
		" " + claims, claims + " ", claims + claims, "null", "[]", "", "{}",
	} {
		_, err := i.Verify(forge(part(t, text, 0), changed), now)
		wantCode(t, changed, err, refusal.BadToken, refusal.Expired)
	}
}

func TestC10Encodings(t *testing.T) {
	i := NewIssuer(private[key.Access](t, 1))
	text := mint(t, i)
	p := strings.Split(text, ".")
	for _, bad := range []string{
		"", ".", "..", "...", text + ".", "." + text, text + "." + p[2], p[0] + "." + p[1], text + "=", text + "==", text + "\n", " " + text, "\t" + text,
		p[0] + "=." + p[1] + "." + p[2], p[0] + "." + p[1] + "=." + p[2], p[0] + "\n." + p[1] + "." + p[2], p[0] + "." + p[1] + ".",
		strings.Replace(text, p[2][:4], "+/+/", 1), strings.Repeat("a", 5<<20), strings.Repeat(".", 5<<20), strings.Repeat("a.", 2000), "Bearer " + text,
	} {
		if _, err := i.Verify(bad, now); err == nil {
			t.Errorf("%.60q verifies", bad)
		} else {
			wantCode(t, fmt.Sprintf("%.60q", bad), err, refusal.BadToken, refusal.WrongType, refusal.BadSignature, refusal.BadHeader)
		}
	}
}

func TestEveryCharacterOfATokenCounts(t *testing.T) {
	i := NewIssuer(private[key.Access](t, 1))
	text := mint(t, i)
	for n := range len(text) {
		for _, bit := range []byte{1, 2, 0x20} {
			b := []byte(text)
			b[n] ^= bit
			if _, err := i.Verify(string(b), now); err == nil {
				t.Errorf("character %d may be %q", n, b[n])
			}
		}
		if _, err := i.Verify(text[:n], now); err == nil {
			t.Errorf("%d characters are enough", n)
		}
	}
}

func TestC11OtherThingsAsToken(t *testing.T) {
	i := NewIssuer(private[key.Access](t, 1))
	text := mint(t, i)
	proof, err := statement.Sign(private[key.Operator](t, 9), wire.Proof{ID: wire.NewNonce(), IssuedAt: wire.At(now)})
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"proof": b64(string(proof)), "raw proof": string(proof), "word": "hello"} {
		_, err := i.Verify(token, now)
		wantCode(t, name, err, refusal.WrongType, refusal.BadToken)
	}
	for _, typ := range []string{"JWT", "at+jwt", "tucdesk-refresh+jwt", "", "TUCDESK-ACCESS+JWT"} {
		_, err := i.Verify(forge(strings.Replace(part(t, text, 0), tokenType, typ, 1), part(t, text, 1)), now)
		wantCode(t, typ, err, refusal.WrongType)
	}
}

// C16: the team of a Principal is the claim's, and no text can be found in an
// error that would help to guess.
func TestC16ErrorsEchoNothing(t *testing.T) {
	i := NewIssuer(private[key.Access](t, 1))
	text := mint(t, i)
	for _, bad := range []string{
		edit(t, text, "email", `"mallory@evil.example"`) + "x", edit(t, text, "exp", `"mallory"`), edit(t, text, "role", `"mallory"`),
		forge(`{"alg":"mallory","kid":"`+i.kid+`","typ":"x"}`, "{}"), forge(`{"alg":"EdDSA","kid":"mallory"}`, "{}"), "mallory.mallory.mallory", "mallory",
	} {
		_, err := i.Verify(bad, now)
		if err == nil || strings.Contains(err.Error(), "mallory") || strings.Contains(err.Error(), text[:20]) {
			t.Errorf("error %v", err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	i := NewIssuer(private[key.Access](f, 1))
	text := mint(f, i)
	f.Add(text)
	f.Add(strings.Replace(text, ".", "..", 1))
	f.Add(b64(`{"alg":"none"}`) + "." + b64("{}") + ".")
	f.Fuzz(func(t *testing.T, token string) {
		p, err := i.Verify(token, now)
		if err == nil && token != forge(part(t, token, 0), part(t, token, 1)) {
			t.Errorf("%q verifies as %+v and is not its own encoding", token, p)
		}
		if err != nil && refusal.Of(err) == "" {
			t.Errorf("%q: an error without a code: %v", token, err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	i := NewIssuer(private[key.Access](b, 1))
	text := mint(b, i)
	for b.Loop() {
		if _, err := i.Verify(text, now); err != nil {
			b.Fatal(err)
		}
	}
}
