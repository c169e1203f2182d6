package account_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/teamtest"
	"github.com/tucdesk/tucdesk/policy/roster"
)

func TestStoredRosterIsBelievedAsLittleAsAServer(t *testing.T) {
	m := teamtest.NewTeam(t)
	m.Account(t)
	path := m.Home.Path(account.RosterFile)
	whole := teamtest.Must(os.ReadFile(path))
	for i := 0; i < len(whole); i += 7 { // each takes a whole chain of signatures
		flipped := bytes.Clone(whole)
		flipped[i] ^= 1
		if err := os.WriteFile(path, flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := account.Open(m.Home); err == nil {
			t.Fatalf("a roster file with byte %d changed was believed", i)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := account.Open(m.Home); refusal.Of(err) != refusal.BadFileMode {
		t.Errorf("a roster file that others may read: %v, want bad_file_mode", err)
	}
}

func TestNewsThatDoNotVerifyChangeNothing(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	before, version := teamtest.Must(os.ReadFile(m.Home.Path(account.RosterFile))), a.State.Version()
	good := m.Next(a, func(r *roster.Roster) { r.Revoke(m.Bob.ID()) })
	stranger := m.Next(a, func(*roster.Roster) {})
	stranger.Statement = bytes.Replace(stranger.Statement, []byte(`"sig":"`), []byte(`"sig":"A`), 1)
	other := []byte("format = 1\n")
	for name, c := range map[string]struct {
		news wire.RosterNews
		want refusal.Code
	}{
		"no valid signature":        {wire.RosterNews{Updates: []wire.RosterUpdate{stranger}}, ""},
		"right, then wrong":         {wire.RosterNews{Updates: []wire.RosterUpdate{good, stranger}}, ""},
		"text of another policy":    {wire.RosterNews{Updates: []wire.RosterUpdate{good}, Policy: append(bytes.Clone(m.Text), '\n')}, refusal.PolicyMismatch},
		"another text, no roster":   {wire.RosterNews{Policy: append(bytes.Clone(m.Text), '\n')}, refusal.PolicyMismatch},
		"text that is not a policy": {wire.RosterNews{Updates: []wire.RosterUpdate{good}, Policy: other}, ""},
	} {
		err := a.Learn(c.news)
		if err == nil || c.want != "" && refusal.Of(err) != c.want {
			t.Errorf("%s: %v, want a refusal %s", name, err, c.want)
		}
		if a.State.Version() != version || !bytes.Equal(teamtest.Must(os.ReadFile(m.Home.Path(account.RosterFile))), before) {
			t.Fatalf("%s left roster version %d", name, a.State.Version())
		}
	}
	if err := a.Learn(wire.RosterNews{Updates: []wire.RosterUpdate{good}}); err != nil || a.State.Version() != version+1 || a.Rules == nil {
		t.Errorf("honest news: %v, version %d", err, a.State.Version())
	}
	if err := a.Learn(m.News()); refusal.Of(err) != refusal.Rollback {
		t.Errorf("the first roster again: %v, want rollback", err)
	}
	if again, err := account.Open(m.Home); err != nil || again.State.Version() != version+1 {
		t.Errorf("the folder does not hold what was learnt: %v", err)
	}
}

func TestFirstRosterMustRestOnThePinnedRoot(t *testing.T) {
	m, other := teamtest.NewTeam(t), teamtest.NewTeam(t)
	a := teamtest.Must(account.Open(m.Home))
	defer a.Close()
	if err := a.Learn(wire.RosterNews{}); refusal.Of(err) != refusal.Gap {
		t.Errorf("no roster at all: %v, want gap", err)
	}
	if err := a.Learn(other.News()); err == nil || a.State != nil {
		t.Errorf("another team's roster was taken: %v", err)
	}
}

func TestServerWithAnotherRosterOfOneVersionIsAFork(t *testing.T) {
	a := teamtest.NewTeam(t).Account(t)
	v := a.State.Version()
	for _, c := range []struct {
		reply wire.LoginReply
		want  refusal.Code
	}{
		{wire.LoginReply{RosterVersion: v, RosterHash: a.State.Hash()}, ""},
		{wire.LoginReply{RosterVersion: v, RosterHash: key.Hash{1}}, refusal.Fork},
		{wire.LoginReply{RosterVersion: v + 1, RosterHash: key.Hash{1}}, ""}, // to be fetched and verified
	} {
		if err := a.SameRosterForTest(c.reply); refusal.Of(err) != c.want {
			t.Errorf("version %d: %v, want %q", c.reply.RosterVersion, err, c.want)
		}
	}
}

func TestDamagedPolicyComesAgainWithTheNextNews(t *testing.T) {
	m := teamtest.NewTeam(t)
	m.Account(t)
	for _, text := range []string{"", "= nonsense", string(m.Text) + "\n"} {
		if err := os.WriteFile(m.Home.Path(account.PolicyFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := account.Open(m.Home)
		if err != nil || a.Rules != nil {
			t.Fatalf("with policy %q: %v, rules %v", text, err, a.Rules)
		}
		if err := a.ShowPolicy(nil); refusal.Of(err) != refusal.PolicyMismatch {
			t.Errorf("showing policy %q as the one in force: %v", text, err)
		}
		if err := a.Learn(wire.RosterNews{Policy: m.Text}); err != nil || a.Rules == nil {
			t.Errorf("after news: %v, rules %v", err, a.Rules)
		}
	}
}

func TestNamesAreThoseOfVerifiedCertificates(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	web, twin, db := m.Machine("web", m.Enroller), m.Machine("web", m.Enroller), m.Machine("db", m.Enroller)
	forged := m.Machine("db", teamtest.Generate[key.Enroller]()) // an enroller of nobody's
	swapped := wire.AgentInfo{Token: web.Token, Certificate: db.Certificate}
	broken := wire.AgentInfo{Token: db.Token, Certificate: []byte(`{"payload":"e30"`)}
	id := teamtest.Must(a.State.VerifyAgent(twin.Token, twin.Certificate, time.Now())).Agent.ID()
	for _, c := range []struct {
		list []wire.AgentInfo
		name string
		want refusal.Code
	}{
		{[]wire.AgentInfo{web, db}, "web", ""},
		{[]wire.AgentInfo{web, db}, "we", refusal.NotFound},
		{[]wire.AgentInfo{web, db}, "", refusal.NotFound},
		{[]wire.AgentInfo{web, twin}, "web", refusal.NameTaken},
		{[]wire.AgentInfo{web, twin}, id.String(), ""},
		{[]wire.AgentInfo{forged, swapped, broken, {}}, "db", refusal.NotFound},
		{[]wire.AgentInfo{forged, db}, "db", ""},
	} {
		got, err := a.PickForTest(c.list, c.name)
		if refusal.Of(err) != c.want {
			t.Errorf("%q: %v, want %q", c.name, err, c.want)
		}
		if err == nil && got.Cert.Name != c.name && got.Cert.Agent.ID() != id {
			t.Errorf("%q found %q", c.name, got.Cert.Name)
		}
	}
	if good, bad := a.Verified([]wire.AgentInfo{web, forged, swapped, db}, time.Now()); len(good) != 2 || bad != 2 {
		t.Errorf("%d good and %d bad, want 2 and 2", len(good), bad)
	}
}

func TestNameOfATagIsAnsweredWithWhatExecTakes(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	list := []wire.AgentInfo{
		m.Machine("evil", teamtest.Generate[key.Enroller](), "prod", "env=stage", "mine"), // an enroller of nobody's
		m.Machine("web2", m.Enroller, "prod", "env=stage"), m.Machine("web1", m.Enroller, "prod", "env=stage"), m.Machine("db", m.Enroller),
	}
	wantHints := func(name string, want ...string) {
		t.Helper()
		if err := m.Home.WriteJSON("agents.json", list); err != nil {
			t.Fatal(err)
		}
		err, said := a.Absent(name), new(cli.Error)
		if !errors.As(err, &said) || !slices.Equal(said.Hints, append(want, "tucdesk ls")) || refusal.Of(err) != refusal.NotFound {
			t.Errorf("%q: %v, %q", name, err, said.Hints)
		}
	}
	wantHints("prod", `"prod" is a tag; exec takes the names of the machines that carry it: web1,web2`)
	wantHints("stage", "exec takes a label in place of a name: env=stage")
	wantHints("env=stage", "exec takes a label in place of a name: env=stage")
	wantHints("bd", "did you mean: db")
	for _, name := range []string{"tage", "mine", ""} {
		wantHints(name)
	}
	for i := range 7 {
		list = append(list, m.Machine(fmt.Sprint("node", i), m.Enroller, "prod"))
	}
	wantHints("prod", `"prod" is a tag of 9 machines; exec takes their names, separated by commas: tucdesk ls -q prod`)
}

func TestExpiryIsToldInTime(t *testing.T) {
	a := teamtest.NewTeam(t).Account(t)
	end := a.State.ExpiresAt()
	for left, want := range map[time.Duration]string{
		account.ExpiryWarning + time.Hour: "", account.ExpiryWarning - time.Hour: "in 13 days", time.Hour: "in 0 days", 0: "has expired", -time.Hour: "has expired",
	} {
		got := strings.Join(a.Warnings(end.Add(-left)), "\n")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%v before the end: %q, want %q", left, got, want)
		}
	}
}

// Whoever was revoked must not be sent to an owner with the same key: the roster
// refuses it for ever.
func TestRevokedKeyIsNotOfferedToAnOwnerAgain(t *testing.T) {
	m := teamtest.NewTeam(t)
	cause := refusal.New(refusal.NotLoggedIn, "no such team and key")
	fresh := teamtest.Must(account.Open(m.Home))
	defer fresh.Close()
	known := m.Account(t)
	again := teamtest.Must(account.Open(m.Home))
	defer again.Close()
	if err := again.Learn(wire.RosterNews{Updates: []wire.RosterUpdate{m.Next(known, func(r *roster.Roster) { r.Revoke(known.Key.ID()) })}}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		a     *account.Account
		offer bool
		code  refusal.Code
	}{
		"never in the roster":                {fresh, true, refusal.NotLoggedIn},
		"in the roster that was seen last":   {known, false, refusal.NotLoggedIn},
		"revoked by the roster as it is now": {again, false, refusal.KeyRevoked},
	} {
		err := c.a.AskOwnerForTest(cause)
		var e *cli.Error
		if !errors.As(err, &e) || e.Exit != cli.ExitNotLoggedIn || refusal.Of(err) != c.code {
			t.Fatalf("%s: %v", name, err)
		}
		if offer := strings.Contains(strings.Join(e.Hints, "\n"), "tucdesk-operator-pub:"); offer != c.offer || offer != strings.Contains(strings.Join(e.Hints, "\n"), "--role ROLE") {
			t.Errorf("%s: %q", name, e.Hints)
		}
		if c.offer && err.Error() != "not_logged_in: your key is new here; an owner has to add it" {
			t.Errorf("%s: said %q", name, err)
		}
		if !c.offer && e.Hints[0] != cli.NewKey {
			t.Errorf("%s: %q", name, e.Hints)
		}
	}
}
