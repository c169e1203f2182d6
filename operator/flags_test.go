package operator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/operator/vault"
)

func TestEndOfTheProgramBecomesOurs(t *testing.T) {
	lost := errors.New("the session is lost")
	for _, c := range []struct {
		exit session.Exit
		err  error
		want int
		says string
	}{
		{session.Exit{}, nil, 0, ""},
		{session.Exit{Status: 7}, nil, 7, ""},
		{session.Exit{Status: 255}, nil, 255, ""},
		{session.Exit{Signal: "TERM"}, nil, 143, ""},
		{session.Exit{Signal: "KILL", CoreDumped: true}, nil, 137, ""},
		{session.Exit{Signal: "RTMIN"}, nil, cli.ExitFailed, `signal "RTMIN"`},
		{session.Exit{Refusal: refusal.New(refusal.PolicyDenied, "no")}, nil, cli.ExitDenied, "policy_denied"},
		{session.Exit{Refusal: refusal.New(refusal.CommandNotFound, "no")}, nil, 127, "command_not_found"},
		{session.Exit{}, lost, cli.ExitTransport, "lost"},
		{session.Exit{}, refusal.New(refusal.KeyRevoked, "cut"), cli.ExitTransport, "key_revoked"},
	} {
		run := &cli.Command{Use: "x", Run: func(context.Context, *cli.IO, []string) error { return status(c.exit, c.err) }}
		var talk bytes.Buffer
		got := cli.Run(t.Context(), &cli.IO{Out: &talk, Err: &talk}, run, []string{})
		if got != c.want || !strings.Contains(talk.String(), c.says) || c.says == "" && talk.Len() > 0 {
			t.Errorf("%+v, %v: status %d, said %q; want %d, %q", c.exit, c.err, got, talk.String(), c.want, c.says)
		}
	}
}

func TestParametersAreThoseThatWereTyped(t *testing.T) {
	o := sessionOptions{user: "dev", cwd: "/srv", env: listFlag{"A=1", "B=x=y", "C="}}
	if host := o.splitUser("root@web"); host != "web" || o.user != "root" {
		t.Errorf("root@web is %q as %q", host, o.user)
	}
	for _, host := range []string{"web", "@web"} {
		if got := o.splitUser(host); got != host || o.user != "root" {
			t.Errorf("%q is %q as %q", host, got, o.user)
		}
	}
	p, err := o.params([]string{"a b", "", "c\x00"})
	if err != nil || p.User != "root" || string(p.Cwd) != "/srv" || len(p.Argv) != 3 || string(p.Argv[0]) != "a b" || string(p.Argv[2]) != "c\x00" {
		t.Errorf("%+v, %v", p, err)
	}
	for i, want := range []string{"A 1", "B x=y", "C "} {
		if got := p.Env[i].Name + " " + string(p.Env[i].Value); got != want {
			t.Errorf("variable %d is %q, want %q", i, got, want)
		}
	}
	for _, bad := range []string{"A", "=1", ""} {
		var usage *cli.Error
		if _, err := (&sessionOptions{env: listFlag{bad}}).params(nil); !errors.As(err, &usage) || usage.Exit != cli.ExitUsage {
			t.Errorf("--env %q: %v", bad, err)
		}
	}
}

func TestPassphraseComesFromAPrivateFile(t *testing.T) {
	for text, want := range map[string]string{"correct horse\n": "correct horse", "correct horse\r\nnot this": "correct horse", "no end": "no end", " kept ": " kept ", "": ""} {
		o := ownerOptions{passphrase: write(t, "pass", text, 0o600)}
		if got, err := o.readPassphrase(t.Context(), ""); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	o := ownerOptions{passphrase: write(t, "pass", "correct horse\n", 0o644)}
	if _, err := o.newPassphrase(t.Context()); refusal.Of(err) != refusal.BadFileMode {
		t.Errorf("a passphrase that others may read: %v, want bad_file_mode", err)
	}
}

// lockedOwner is the key in testdata/owner.age, which "correct horse" unlocks at a
// cost that tests can bear; programs make such files 256 times dearer to try.
func lockedOwner(t *testing.T, home Home) key.Private[key.Owner] {
	t.Helper()
	file := must(os.ReadFile(filepath.Join("testdata", "owner.age")))
	if err := os.WriteFile(home.path(ownerKeyFile), file, 0o600); err != nil {
		t.Fatal(err)
	}
	seed := sha256.Sum256([]byte("owner of the tests"))
	return must(key.FromSeed[key.Owner](seed[:]))
}

func TestOwnerKeyOrRecoveryKey(t *testing.T) {
	home := Home{dir: t.TempDir()}
	io := &cli.IO{Err: os.Stderr}
	var missing *cli.Error
	if _, err := (&ownerOptions{}).owner(t.Context(), io, home); !errors.As(err, &missing) || len(missing.Hints) == 0 {
		t.Errorf("without an owner key: %v", err)
	}
	owner := lockedOwner(t, home)
	recovery := string(must(vault.Recovery(owner)))
	for name, c := range map[string]struct {
		o  ownerOptions
		ok bool
	}{
		"the passphrase":       {ownerOptions{passphrase: write(t, "pass", "correct horse\n", 0o600)}, true},
		"another passphrase":   {ownerOptions{passphrase: write(t, "pass", "correct horsf\n", 0o600)}, false},
		"the recovery key":     {ownerOptions{recovery: write(t, "rec", recovery+"\n", 0o600)}, true},
		"half a recovery key":  {ownerOptions{recovery: write(t, "rec", recovery[:40], 0o600)}, false},
		"a public file":        {ownerOptions{recovery: write(t, "rec", recovery, 0o644)}, false},
		"a file that is none":  {ownerOptions{recovery: home.path("nothing")}, false},
		"the recovery key won": {ownerOptions{passphrase: home.path("nothing"), recovery: write(t, "rec", recovery, 0o600)}, true},
	} {
		got, err := c.o.owner(t.Context(), io, home)
		if (err == nil) != c.ok || err == nil && got.ID() != owner.ID() {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), recovery[20:30]) {
			t.Errorf("%s: the error shows the key", name)
		}
	}
}

func TestWithoutATerminalTheAnswerIsNo(t *testing.T) {
	var talk bytes.Buffer
	if confirm(t.Context(), &cli.IO{In: pipe(t, "y\n"), Err: &talk}, "Sure?") || talk.Len() > 0 {
		t.Errorf("agreed, or asked where nobody is: %q", talk.String())
	}
}

func TestShortCodeIsComparedBeforeAKeyGoesIn(t *testing.T) {
	id := generate[key.Operator]().ID()
	io := &cli.IO{In: pipe(t, "y\n"), Err: &bytes.Buffer{}}
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
	m := newTeam(t)
	a := m.account(t)
	var none *cli.Error
	io := &cli.IO{In: pipe(t, "y\n"), Err: &bytes.Buffer{}}
	for _, who := range []string{"ann@example.org", m.ann.ID().String(), m.ann.ID().ShortCode()} {
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

func TestSplitList(t *testing.T) {
	for in, want := range map[string]string{"": "", " , ": "", "a": "a", " a ,b,, c": "a|b|c"} {
		if got := splitList(in); strings.Join(got, "|") != want || got == nil {
			t.Errorf("%q: %q", in, got)
		}
	}
}
