package members

import (
	"bytes"
	"errors"
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

func TestRevokedMachineIsNotOffered(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	web := m.Machine("web", m.Enroller)
	good, _ := a.Verified([]wire.AgentInfo{web}, time.Now())
	id := good[0].Cert.Agent.ID()
	if err := a.Learn(wire.RosterNews{Updates: []wire.RosterUpdate{m.Next(a, func(r *roster.Roster) { r.Revoke(id) })}}); err != nil {
		t.Fatal(err)
	}
	if good, bad := a.Verified([]wire.AgentInfo{web}, time.Now()); len(good) != 0 || bad != 1 {
		t.Errorf("a revoked machine: %d good and %d bad", len(good), bad)
	}
	// An rm that got as far as this goes on by the key's id, without an owner.
	if got, err := (&agentRemove{}).revoke(t.Context(), a, nil, id.String()); err != nil || got != id {
		t.Errorf("going on: %v, %v", got, err)
	}
}

// Who has entered the team string and was not added yet has no roster to ask.
func TestNobodyIsRevokedWithoutARoster(t *testing.T) {
	m := teamtest.NewTeam(t)
	a, err := account.Open(m.Home)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for what, try := range map[string]func() error{
		"operator revoke": func() error { return (&operatorRevoke{}).run(t.Context(), nil, a, "bob@example.org") },
		"agent rm":        func() error { _, err := (&agentRemove{}).revoke(t.Context(), a, nil, m.Bob.ID().String()); return err },
		"owner rm":        func() error { return (&ownerChange{}).remove(t.Context(), nil, a, "x") },
		"owner threshold": func() error { return (&ownerChange{threshold: 1}).run(t.Context(), nil, a, func(*roster.Roster) {}) },
	} {
		if err := try(); refusal.Of(err) != refusal.NotLoggedIn {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Two keys of one short code are found in 2^30 tries. By that code the first alone is not
// taken out of the owners, so that the other stays one.
func TestE4TwoOwnersOfOneShortCodeAreNotTakenForOne(t *testing.T) {
	one, two := teamtest.Generate[key.Owner]().Public(), teamtest.Generate[key.Owner]().Public()
	code := one.ID().ShortCode()
	for _, who := range []string{code, strings.ToLower(code), one.ID().String(), one.String()} {
		if got, err := only(ownersOf([]key.Public[key.Owner]{two, one}, who), who); err != nil || got != one {
			t.Errorf("%s: %v, %v", who, got, err)
		}
	}
	if _, err := only([]key.Public[key.Owner]{one, two}, code); refusal.Of(err) != refusal.BadRequest {
		t.Errorf("two of one code: %v", err)
	}
	if _, err := only(ownersOf([]key.Public[key.Owner]{two}, code), code); refusal.Of(err) != refusal.NotFound {
		t.Errorf("none: %v", err)
	}
}

func TestRevokingOneselfAsks(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	var none *cli.Error
	io := &cli.IO{In: teamtest.Pipe(t, "y\n"), Err: &bytes.Buffer{}}
	for _, who := range []string{"ann@example.org", m.Ann.ID().String(), m.Ann.ID().ShortCode()} {
		err := (&operatorRevoke{}).run(t.Context(), io, a, who)
		if !errors.As(err, &none) || !strings.Contains(err.Error(), "your own key") {
			t.Errorf("%s: %v", who, err)
		}
	}
	if err := (&operatorRevoke{}).run(t.Context(), io, a, "eve@example.org"); refusal.Of(err) != refusal.NotFound {
		t.Errorf("nobody: %v", err)
	}
	if err := (&operatorRevoke{}).run(t.Context(), io, a, "bob@example.org"); refusal.Of(err) != refusal.WrongRole {
		t.Errorf("another's key goes on to the owner key, which is not here: %v", err)
	}
}

// ssh calls each machine by its name and a suffix. One that is really called so is meant
// before the other.
func TestMachineThatIsCalledAsSSHWouldIsTheOneThatIsRemoved(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	if err := m.Home.WriteJSON("agents.json", []wire.AgentInfo{m.Machine("web", m.Enroller), m.Machine("web.tucdesk", m.Enroller)}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"web", "web.tucdesk"} {
		if got, err := find(t.Context(), a, name); err != nil || got.Cert.Name != name {
			t.Errorf("%s is %q, %v", name, got.Cert.Name, err)
		}
	}
}
