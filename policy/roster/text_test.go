package roster_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/policy/roster"
)

func setupInfo(t tb) roster.SetupInfo {
	return roster.SetupInfo{Name: "rv.example", URL: "https://127.0.0.1:8443", Keys: server(t, 1).Keys, Code: bytes.Repeat([]byte{9}, 16)}
}

func (m *team) joinString() string {
	m.t.Helper()
	s, err := roster.JoinString(m.signed, m.signedToken(m.token()), private[key.Token](m.t, 1))
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

func (m *team) teamString() string {
	m.t.Helper()
	s, err := roster.TeamString(roster.TeamInfo{Server: server(m.t, 1).Address(), Root: m.signed})
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

func setupString(t tb) string {
	s, err := roster.SetupString(setupInfo(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestJoinStringCarriesAllAHostNeeds(t *testing.T) {
	m := found(t, 0, 1, 1)
	for _, s := range []string{m.joinString(), "  " + m.joinString() + "\r\n"} {
		j, err := roster.ParseJoin(s)
		if err != nil {
			t.Fatal(err)
		}
		if j.Fingerprint != m.fingerprint || j.Token.Server != server(t, 1).Address() || j.Key.Public() != j.Token.Key {
			t.Errorf("got %v, %v", j.Fingerprint, j.Token.Server)
		}
		st, err := roster.Found(j.RootSigned, j.Fingerprint, m.first)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.VerifyToken(j.TokenSigned, now); err != nil {
			t.Error(err)
		}
	}
}

func TestJoinDoesNotPrintItsSeed(t *testing.T) {
	m := found(t, 0, 1, 1)
	j, err := roster.ParseJoin(m.joinString())
	if err != nil {
		t.Fatal(err)
	}
	var seed bytes.Buffer
	if err := j.Key.WriteSeed(&seed); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		got := fmt.Sprintf(verb, j)
		for _, secret := range []string{seed.String(), fmt.Sprintf("%x", seed.Bytes()), base64.RawURLEncoding.EncodeToString(seed.Bytes())} {
			if strings.Contains(got, secret) {
				t.Errorf("%s prints the seed", verb)
			}
		}
	}
}

func TestG9DamagedJoinString(t *testing.T) {
	m, other := found(t, 0, 1, 1), found(t, 10, 1, 1)
	good := m.joinString()
	for n := range len(good) {
		if _, err := roster.ParseJoin(good[:n]); err == nil {
			t.Fatalf("cut at %d of %d: accepted", n, len(good))
		}
	}
	parse := func(s string) error { _, err := roster.ParseJoin(s); return err }
	wantCode(t, "another kind", parse(m.teamString()), refusal.BadToken)
	wantCode(t, "something behind", parse(good+"A"), refusal.BadToken)
	wantCode(t, "padding", parse(good+"="), refusal.BadToken)
	wantCode(t, "a megabyte", parse("tucdesk-join:"+strings.Repeat("A", 1<<20)), refusal.BadToken)
	wantCode(t, "capital prefix", parse("T"+good[1:]), refusal.BadToken)

	mixed, _ := roster.JoinString(other.signed, m.signedToken(m.token()), private[key.Token](t, 1))
	wantCode(t, "root of another team", parse(mixed), refusal.WrongTeam)
	mixed, _ = roster.JoinString(m.signed, m.signedToken(m.token()), private[key.Token](t, 2))
	wantCode(t, "seed of another token", parse(mixed), refusal.BadToken)
	mixed, _ = roster.JoinString(m.signed, m.signedCert(cert(t, 1)), private[key.Token](t, 1))
	wantCode(t, "no token", parse(mixed), refusal.WrongType)
	mixed, _ = roster.JoinString(nil, m.signedToken(m.token()), private[key.Token](t, 1))
	wantCode(t, "no root", parse(mixed), refusal.BadChain)
	bad := m.token()
	bad.MaxUses = 0
	mixed, _ = roster.JoinString(m.signed, m.signedToken(bad), private[key.Token](t, 1))
	wantCode(t, "invalid token", parse(mixed), refusal.BadStatement)
	if _, err := roster.JoinString(m.signed, m.signedToken(m.token()), key.Private[key.Token]{}); err == nil {
		t.Error("a join string without seed was written")
	}
}

// A byte of the string either breaks it at once or breaks the token's signature,
// which VerifyToken sees before the host does anything. Every byte of the token
// itself is flipped in flip_test.go.
func TestJoinStringWithAByteFlipped(t *testing.T) {
	t.Parallel()
	m := found(t, 0, 1, 1)
	good := []byte(m.joinString())
	for i := 0; i < len(good); i += 3 {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		j, err := roster.ParseJoin(string(bad))
		if err != nil {
			continue
		}
		if _, err := m.state.VerifyToken(j.TokenSigned, now); err == nil && j.Fingerprint == m.fingerprint {
			t.Fatalf("byte %d, bit %d: accepted", i, i%8)
		}
	}
}

func TestSetupAndTeamStrings(t *testing.T) {
	m := found(t, 0, 1, 1)
	info, err := roster.ParseSetup(setupString(t))
	if err != nil || info.URL != setupInfo(t).URL || !bytes.Equal(info.Code, setupInfo(t).Code) || info.Keys != setupInfo(t).Keys {
		t.Errorf("setup: %+v, %v", info, err)
	}
	if s := info.Server(); s.Name != "rv.example" || s.Address().Pin != info.Keys.TLS {
		t.Errorf("server entry: %+v", s)
	}
	ti, err := roster.ParseTeam(m.teamString())
	if err != nil || ti.Fingerprint() != m.fingerprint || ti.Server != server(t, 1).Address() {
		t.Errorf("team: %+v, %v", ti, err)
	}
	_, err = roster.ParseSetup(m.teamString())
	wantCode(t, "team string as setup string", err, refusal.BadToken)
	_, err = roster.ParseTeam(m.joinString())
	wantCode(t, "join string as team string", err, refusal.BadToken)
}

func TestTextFormsAreNotWrittenFromBadParts(t *testing.T) {
	m := found(t, 0, 1, 1)
	i := setupInfo(t)
	i.Code = i.Code[:15]
	_, err := roster.SetupString(i)
	wantCode(t, "short code", err, refusal.BadToken)
	i = setupInfo(t)
	i.URL = "http://127.0.0.1"
	_, err = roster.SetupString(i)
	wantCode(t, "plain HTTP", err, refusal.BadName)
	for _, bad := range badNames {
		i = setupInfo(t)
		i.Name = bad
		_, err = roster.SetupString(i)
		wantCode(t, fmt.Sprintf("server %q", bad), err, refusal.BadName)
	}
	_, err = roster.TeamString(roster.TeamInfo{Root: m.signed})
	wantCode(t, "no server", err, refusal.BadName)
	_, err = roster.TeamString(roster.TeamInfo{Server: server(t, 1).Address(), Root: m.first.Statement})
	wantCode(t, "no root", err, refusal.WrongType)
}

func FuzzParseJoin(f *testing.F) {
	m := found(f, 0, 1, 1)
	f.Add(m.joinString())
	f.Add(m.teamString())
	f.Add("tucdesk-join:")
	f.Fuzz(func(t *testing.T, s string) {
		j, err := roster.ParseJoin(s)
		if err != nil {
			return
		}
		again, err := roster.JoinString(j.RootSigned, j.TokenSigned, j.Key)
		if err != nil || again != strings.TrimSpace(s) {
			t.Errorf("parsed, but written again as %q, %v", again, err)
		}
	})
}

func FuzzParseSetup(f *testing.F) {
	f.Add(setupString(f))
	f.Add("tucdesk-setup:e30")
	f.Fuzz(func(t *testing.T, s string) {
		i, err := roster.ParseSetup(s)
		if err != nil {
			return
		}
		if again, err := roster.SetupString(i); err != nil || again != strings.TrimSpace(s) {
			t.Errorf("parsed, but written again as %q, %v", again, err)
		}
	})
}

func FuzzParseTeam(f *testing.F) {
	m := found(f, 0, 1, 1)
	f.Add(m.teamString())
	f.Add("tucdesk-team:bnVsbA")
	f.Fuzz(func(t *testing.T, s string) {
		ti, err := roster.ParseTeam(s)
		if err != nil {
			return
		}
		if again, err := roster.TeamString(ti); err != nil || again != strings.TrimSpace(s) {
			t.Errorf("parsed, but written again as %q, %v", again, err)
		}
	})
}
