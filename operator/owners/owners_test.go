package owners

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/teamtest"
	"github.com/tucdesk/tucdesk/operator/vault"
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
	if got, err := revokeAgent(t.Context(), a, nil, nil, id.String()); err != nil || got != id {
		t.Errorf("going on: %v, %v", got, err)
	}
}

func TestPassphraseComesFromAPrivateFile(t *testing.T) {
	for text, want := range map[string]string{"correct horse\n": "correct horse", "correct horse\r\nnot this": "correct horse", "no end": "no end", " kept ": " kept ", "": ""} {
		o := Options{passphrase: teamtest.Write(t, "pass", text, 0o600)}
		if got, err := o.readPassphrase(t.Context(), ""); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	o := Options{passphrase: teamtest.Write(t, "pass", "correct horse\n", 0o644)}
	if _, err := o.newPassphrase(t.Context()); refusal.Of(err) != refusal.BadFileMode {
		t.Errorf("a passphrase that others may read: %v, want bad_file_mode", err)
	}
}

func TestOwnerKeyOrRecoveryKey(t *testing.T) {
	home := account.Home{Dir: t.TempDir()}
	io := &cli.IO{Err: os.Stderr}
	var missing *cli.Error
	if _, err := (&Options{}).Owner(t.Context(), io, home); !errors.As(err, &missing) || len(missing.Hints) == 0 {
		t.Errorf("without an owner key: %v", err)
	}
	owner := teamtest.LockedOwner(t, home)
	recovery := string(teamtest.Must(vault.Recovery(owner)))
	for name, c := range map[string]struct {
		o  Options
		ok bool
	}{
		"the passphrase":       {Options{passphrase: teamtest.Write(t, "pass", "correct horse\n", 0o600)}, true},
		"another passphrase":   {Options{passphrase: teamtest.Write(t, "pass", "correct horsf\n", 0o600)}, false},
		"the recovery key":     {Options{recovery: teamtest.Write(t, "rec", recovery+"\n", 0o600)}, true},
		"half a recovery key":  {Options{recovery: teamtest.Write(t, "rec", recovery[:40], 0o600)}, false},
		"a public file":        {Options{recovery: teamtest.Write(t, "rec", recovery, 0o644)}, false},
		"a file that is none":  {Options{recovery: home.Path("nothing")}, false},
		"the recovery key won": {Options{passphrase: home.Path("nothing"), recovery: teamtest.Write(t, "rec", recovery, 0o600)}, true},
	} {
		got, err := c.o.Owner(t.Context(), io, home)
		if (err == nil) != c.ok || err == nil && got.ID() != owner.ID() {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), recovery[20:30]) {
			t.Errorf("%s: the error shows the key", name)
		}
	}
}

func TestShortCodeIsComparedBeforeAKeyGoesIn(t *testing.T) {
	id := teamtest.Generate[key.Operator]().ID()
	io := &cli.IO{In: teamtest.Pipe(t, "y\n"), Err: &bytes.Buffer{}}
	for code, ok := range map[string]bool{
		id.ShortCode(): true, strings.ToLower(id.ShortCode()): true, strings.ReplaceAll(id.ShortCode(), "-", ""): true,
		id.ShortCode()[1:]: false, "0000-0000-0000": false, "-": false, "": false, // "" asks, and nobody is there
	} {
		if err := compareCode(t.Context(), io, code, "bob@example.org", id); (err == nil) != ok {
			t.Errorf("code %q of %s: %v", code, id.ShortCode(), err)
		}
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
