package operator

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

func TestStoredRosterIsBelievedAsLittleAsAServer(t *testing.T) {
	m := newTeam(t)
	m.account(t)
	path := m.home.path(rosterFile)
	whole := must(os.ReadFile(path))
	for i := 0; i < len(whole); i += 7 { // each takes a whole chain of signatures
		flipped := bytes.Clone(whole)
		flipped[i] ^= 1
		if err := os.WriteFile(path, flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := open(m.home); err == nil {
			t.Fatalf("a roster file with byte %d changed was believed", i)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := open(m.home); refusal.Of(err) != refusal.BadFileMode {
		t.Errorf("a roster file that others may read: %v, want bad_file_mode", err)
	}
}

func TestNewsThatDoNotVerifyChangeNothing(t *testing.T) {
	m := newTeam(t)
	a := m.account(t)
	before, version := must(os.ReadFile(m.home.path(rosterFile))), a.state.Version()
	good := m.next(a, func(r *roster.Roster) { r.Revoke(m.bob.ID()) })
	stranger := m.next(a, func(*roster.Roster) {})
	stranger.Statement = bytes.Replace(stranger.Statement, []byte(`"sig":"`), []byte(`"sig":"A`), 1)
	other := []byte("format = 1\n")
	for name, c := range map[string]struct {
		news wire.RosterNews
		want refusal.Code
	}{
		"no valid signature":        {wire.RosterNews{Updates: []wire.RosterUpdate{stranger}}, ""},
		"right, then wrong":         {wire.RosterNews{Updates: []wire.RosterUpdate{good, stranger}}, ""},
		"text of another policy":    {wire.RosterNews{Updates: []wire.RosterUpdate{good}, Policy: append(bytes.Clone(m.text), '\n')}, refusal.PolicyMismatch},
		"another text, no roster":   {wire.RosterNews{Policy: append(bytes.Clone(m.text), '\n')}, refusal.PolicyMismatch},
		"text that is not a policy": {wire.RosterNews{Updates: []wire.RosterUpdate{good}, Policy: other}, ""},
	} {
		err := a.learn(c.news)
		if err == nil || c.want != "" && refusal.Of(err) != c.want {
			t.Errorf("%s: %v, want a refusal %s", name, err, c.want)
		}
		if a.state.Version() != version || !bytes.Equal(must(os.ReadFile(m.home.path(rosterFile))), before) {
			t.Fatalf("%s left roster version %d", name, a.state.Version())
		}
	}
	if err := a.learn(wire.RosterNews{Updates: []wire.RosterUpdate{good}}); err != nil || a.state.Version() != version+1 || a.rules == nil {
		t.Errorf("honest news: %v, version %d", err, a.state.Version())
	}
	if err := a.learn(m.news()); refusal.Of(err) != refusal.Rollback {
		t.Errorf("the first roster again: %v, want rollback", err)
	}
	if again, err := open(m.home); err != nil || again.state.Version() != version+1 {
		t.Errorf("the folder does not hold what was learnt: %v", err)
	}
}

func TestFirstRosterMustRestOnThePinnedRoot(t *testing.T) {
	m, other := newTeam(t), newTeam(t)
	a := must(open(m.home))
	defer a.close()
	if err := a.learn(wire.RosterNews{}); refusal.Of(err) != refusal.Gap {
		t.Errorf("no roster at all: %v, want gap", err)
	}
	if err := a.learn(other.news()); err == nil || a.state != nil {
		t.Errorf("another team's roster was taken: %v", err)
	}
}

func TestServerWithAnotherRosterOfOneVersionIsAFork(t *testing.T) {
	a := newTeam(t).account(t)
	v := a.state.Version()
	for _, c := range []struct {
		reply wire.LoginReply
		want  refusal.Code
	}{
		{wire.LoginReply{RosterVersion: v, RosterHash: a.state.Hash()}, ""},
		{wire.LoginReply{RosterVersion: v, RosterHash: key.Hash{1}}, refusal.Fork},
		{wire.LoginReply{RosterVersion: v + 1, RosterHash: key.Hash{1}}, ""}, // to be fetched and verified
	} {
		if err := a.sameRoster(c.reply); refusal.Of(err) != c.want {
			t.Errorf("version %d: %v, want %q", c.reply.RosterVersion, err, c.want)
		}
	}
}

func TestDamagedPolicyComesAgainWithTheNextNews(t *testing.T) {
	m := newTeam(t)
	m.account(t)
	for _, text := range []string{"", "= nonsense", string(m.text) + "\n"} {
		if err := os.WriteFile(m.home.path(policyFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := open(m.home)
		if err != nil || a.rules != nil {
			t.Fatalf("with policy %q: %v, rules %v", text, err, a.rules)
		}
		if err := a.showPolicy(nil); refusal.Of(err) != refusal.PolicyMismatch {
			t.Errorf("showing policy %q as the one in force: %v", text, err)
		}
		if err := a.learn(wire.RosterNews{Policy: m.text}); err != nil || a.rules == nil {
			t.Errorf("after news: %v, rules %v", err, a.rules)
		}
	}
}

func TestNamesAreThoseOfVerifiedCertificates(t *testing.T) {
	m := newTeam(t)
	a := m.account(t)
	web, twin, db := m.machine("web", m.enroller), m.machine("web", m.enroller), m.machine("db", m.enroller)
	forged := m.machine("db", generate[key.Enroller]()) // an enroller of nobody's
	swapped := wire.AgentInfo{Token: web.Token, Certificate: db.Certificate}
	broken := wire.AgentInfo{Token: db.Token, Certificate: []byte(`{"payload":"e30"`)}
	id := must(a.state.VerifyAgent(twin.Token, twin.Certificate, time.Now())).Agent.ID()
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
		got, err := a.pick(c.list, c.name)
		if refusal.Of(err) != c.want {
			t.Errorf("%q: %v, want %q", c.name, err, c.want)
		}
		if err == nil && got.cert.Name != c.name && got.cert.Agent.ID() != id {
			t.Errorf("%q found %q", c.name, got.cert.Name)
		}
	}
	if good, bad := a.verified([]wire.AgentInfo{web, forged, swapped, db}, time.Now()); len(good) != 2 || bad != 2 {
		t.Errorf("%d good and %d bad, want 2 and 2", len(good), bad)
	}
}

func TestRevokedMachineIsNotOffered(t *testing.T) {
	m := newTeam(t)
	a := m.account(t)
	web := m.machine("web", m.enroller)
	id := must(a.pick([]wire.AgentInfo{web}, "web")).cert.Agent.ID()
	if err := a.learn(wire.RosterNews{Updates: []wire.RosterUpdate{m.next(a, func(r *roster.Roster) { r.Revoke(id) })}}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.pick([]wire.AgentInfo{web}, "web"); refusal.Of(err) != refusal.NotFound {
		t.Errorf("a revoked machine: %v, want not_found", err)
	}
	// An rm that got as far as this goes on by the key's id, without an owner.
	if got, err := a.revokeAgent(t.Context(), nil, nil, id.String()); err != nil || got != id {
		t.Errorf("going on: %v, %v", got, err)
	}
}

func TestExpiryIsToldInTime(t *testing.T) {
	a := newTeam(t).account(t)
	end := a.state.ExpiresAt()
	for left, want := range map[time.Duration]string{
		expiryWarning + time.Hour: "", expiryWarning - time.Hour: "in 13 days", time.Hour: "in 0 days", 0: "has expired", -time.Hour: "has expired",
	} {
		got := strings.Join(a.warnings(end.Add(-left)), "\n")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%v before the end: %q, want %q", left, got, want)
		}
	}
}

func TestServerThatShowedTwoLogsGetsNoSession(t *testing.T) {
	m := newTeam(t)
	a := m.account(t)
	if err := a.trusted(); err != nil {
		t.Fatalf("before anything was seen: %v", err)
	}
	origin := checkpoint.Origin("main", m.root.Team)
	for _, seen := range []string{
		`{"format":"tucdesk-witness-v1","origin":"` + origin + `","checkpoint":"","evidence":["a note"]}` + "\n",
		"not what a witness writes",
	} {
		if err := os.WriteFile(m.home.path(auditSeenFile), []byte(seen), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := a.trusted(); refusal.Of(err) != refusal.AuditFork {
			t.Errorf("with %q: %v, want audit_fork", seen, err)
		}
		if _, err := a.connect(t.Context(), nil, want{host: "web"}); refusal.Of(err) != refusal.AuditFork {
			t.Errorf("a session with %q: %v, want audit_fork", seen, err)
		}
	}
}

func TestClientThatTheRosterCallsTooOld(t *testing.T) {
	m := newTeam(t)
	a := m.account(t)
	if err := m.home.writeJSON(loginFile, savedLogin{Token: "x", Expires: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if err := a.begin(t.Context()); err != nil {
		t.Fatalf("before: %v", err)
	}
	if err := a.learn(wire.RosterNews{Updates: []wire.RosterUpdate{m.next(a, func(r *roster.Roster) { r.MinVersion = "99.0.0" })}}); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"a command":                   a.begin(t.Context()),
		"a session that is under way": second(a.tryConnect(t.Context(), nil, want{host: "web"})),
	} {
		if refusal.Of(err) != refusal.ProgramTooOld {
			t.Errorf("%s: %v, want program_too_old", what, err)
		}
	}
	if status, _, talk := tucdesk(t, "ls", "--state", m.home.dir); status != 1 || !strings.Contains(talk, "hint: install a newer release") {
		t.Errorf("status %d, said %q", status, talk)
	}
}

func second[T any](_ T, err error) error { return err }
