package cosign

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/change"
	"github.com/tucdesk/tucdesk/operator/pending"
	"github.com/tucdesk/tucdesk/operator/teamtest"
	"github.com/tucdesk/tucdesk/operator/vault"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// desk is a team of two owners who must both sign, a change that the first one has
// proposed, and the second one's machine with the key behind "correct horse".
type desk struct {
	*teamtest.Team
	a      *account.Account
	change *change.Change
	path   string // of the file that waits
	pass   string
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	second := teamtest.LockedOwner(t, account.Home{Dir: t.TempDir()})
	m := teamtest.NewTeamOf(t, second)
	teamtest.LockedOwner(t, m.Home)
	d := &desk{Team: m, a: m.Account(t), path: filepath.Join(t.TempDir(), "change.pending"), pass: teamtest.Write(t, "pass", "correct horse\n", 0o600)}
	d.a.Alone = true // nobody listens at this team's server
	d.change = d.propose(func(r *roster.Roster) { r.Operators = r.Operators[:1] })
	if err := pending.Write(d.path, d.change); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) propose(edit func(*roster.Roster)) *change.Change {
	next := roster.Next(d.a.State, func(r *roster.Roster) {
		r.Renew(time.Now(), roster.DefaultLifetime)
		edit(r)
	})
	return teamtest.Must(change.Propose(d.a.State, next, nil, d.Owner, time.Now()))
}

// sign runs team cosign on the file, behind what needs a server.
func (d *desk) sign(t *testing.T, flags ...string) (out, talk string, err error) {
	t.Helper()
	o := &cosign{}
	var set flag.FlagSet
	o.OwnerFlags(&set)
	set.BoolVar(&o.yes, "yes", false, "")
	if err := set.Parse(flags); err != nil {
		t.Fatal(err)
	}
	var answer, said bytes.Buffer
	io := &cli.IO{In: teamtest.Pipe(t, "y\n"), Out: &answer, Err: &said}
	f, err := pending.Read(io, []string{d.path})
	if err == nil {
		err = o.run(t.Context(), io, d.a, f, d.path)
	}
	return answer.String(), said.String(), err
}

func hints(err error) string {
	var e *cli.Error
	if !errors.As(err, &e) {
		return ""
	}
	return strings.Join(e.Hints, "\n")
}

func TestSecondOwnerSeesTheChangeAndCompletesIt(t *testing.T) {
	d := newDesk(t)
	out, talk, err := d.sign(t, "--yes", "--passphrase-file", d.pass)
	if err != nil || !strings.HasPrefix(out, "signed ") || !strings.Contains(out, "it is complete") {
		t.Fatalf("%v, printed %q, said %q", err, out, talk)
	}
	if !strings.Contains(talk, "bob@example.org") || !strings.Contains(talk, "tucdesk team publish ") {
		t.Errorf("said %q: neither who is taken out nor what comes next", talk)
	}
	c := teamtest.Must(pending.Open(d.a, teamtest.Must(pending.Read(&cli.IO{}, []string{d.path}))))
	state, err := c.Apply(time.Now())
	if err != nil || len(state.Roster().Operators) != 1 {
		t.Fatalf("the file does not hold the complete change: %v", err)
	}
	if _, _, err := d.sign(t, "--yes", "--passphrase-file", d.pass); refusal.Of(err) != refusal.BadRequest || !strings.Contains(hints(err), "tucdesk team publish") {
		t.Errorf("signing it again: %v, %q", err, hints(err))
	}
}

func TestAnswerIsJSON(t *testing.T) {
	d := newDesk(t)
	if out, _, err := d.sign(t, "--yes", "--json", "--passphrase-file", d.pass); err != nil || !strings.Contains(out, `"signaturesMissing": 0`) || !strings.Contains(out, `"published": false`) {
		t.Errorf("%v, printed %s", err, out)
	}
}

// Nothing is signed that nobody agreed to, with no key and the wrong one neither, and
// the file stays as it came.
func TestG2NothingIsSignedWithoutAPersonAndTheKey(t *testing.T) {
	d := newDesk(t)
	before := teamtest.Must(os.ReadFile(d.path))
	wrong := teamtest.Write(t, "wrong", "incorrect horse\n", 0o600)
	stranger := teamtest.Must(vault.Recovery(teamtest.Generate[key.Owner]()))
	first := teamtest.Must(vault.Recovery(d.Owner))
	for name, c := range map[string]struct {
		flags []string
		want  string
	}{
		"nobody at a terminal":      {[]string{"--passphrase-file", d.pass}, "not confirmed"},
		"another passphrase":        {[]string{"--yes", "--passphrase-file", wrong}, "does not open"},
		"a key of no owner":         {[]string{"--yes", "--recovery-key-file", teamtest.Write(t, "r", string(stranger), 0o600)}, "not the key of an owner"},
		"the one who signed it":     {[]string{"--yes", "--recovery-key-file", teamtest.Write(t, "r", string(first), 0o600)}, "signed already"},
		"a passphrase others read":  {[]string{"--yes", "--passphrase-file", teamtest.Write(t, "p", "correct horse\n", 0o644)}, "bad_file_mode"},
		"no file of the passphrase": {[]string{"--yes", "--passphrase-file", filepath.Join(t.TempDir(), "none")}, "does not exist"},
	} {
		out, _, err := d.sign(t, c.flags...)
		if err == nil || !strings.Contains(err.Error(), c.want) || out != "" {
			t.Errorf("%s: %v, printed %q", name, err, out)
		}
		if after := teamtest.Must(os.ReadFile(d.path)); !bytes.Equal(after, before) {
			t.Fatalf("%s: the file was changed", name)
		}
	}
}

// tucdesk runs one of the two verbs as the program does.
func tucdesk(t *testing.T, c *cli.Command, args ...string) (status int, out, talk string) {
	t.Helper()
	var o, e bytes.Buffer
	root := &cli.Command{Use: "tucdesk", Sub: []*cli.Command{c}}
	status = cli.Run(context.Background(), &cli.IO{In: teamtest.Pipe(t, ""), Out: &o, Err: &e}, root, args)
	return status, o.String(), e.String()
}

// An owner of a team that is being founded has nothing but the key and the file.
func TestOwnerSignsATeamThatDoesNotExistYet(t *testing.T) {
	dir := t.TempDir()
	home := account.Home{Dir: dir}
	second := teamtest.LockedOwner(t, home)
	pass := teamtest.Write(t, "pass", "correct horse\n", 0o600)
	first := teamtest.Generate[key.Owner]()
	m := teamtest.NewTeamOf(t, second)
	root := m.Root
	root.Owners = []key.Public[key.Owner]{first.Public(), second.Public()}
	signed := teamtest.Must(roster.SignRoot(first, root))
	before := teamtest.Must(roster.Begin(signed, signed.Hash()))
	known := m.Account(t).State.Roster()
	c := teamtest.Must(change.Propose(before, roster.First(root, signed.Hash(), func(r *roster.Roster) {
		r.Renew(time.Now(), roster.DefaultLifetime)
		r.Servers, r.Operators = known.Servers, known.Operators
	}), nil, first, time.Now()))
	path := filepath.Join(t.TempDir(), "new.pending")
	if err := pending.Write(path, c); err != nil {
		t.Fatal(err)
	}
	status, out, talk := tucdesk(t, Command(), "cosign", "--yes", "--passphrase-file", pass, "--state", dir, path)
	if status != 0 || !strings.Contains(out, "it is complete") || !strings.Contains(talk, first.ID().ShortCode()) {
		t.Fatalf("status %d, printed %q, said %q", status, out, talk)
	}
	f := teamtest.Must(pending.Read(&cli.IO{}, []string{path}))
	if done := teamtest.Must(change.Open(f, signed.Hash(), nil, time.Now())); done.Short != 0 {
		t.Errorf("%d signatures are missing", done.Short)
	}
	// A later change needs a pinned team: whoever made up a team could make up its history.
	d := newDesk(t)
	if status, _, talk := tucdesk(t, Command(), "cosign", "--yes", "--passphrase-file", pass, "--state", dir, d.path); status != cli.ExitNotLoggedIn || !strings.Contains(talk, "tucdesk login TEAM-STRING") {
		t.Errorf("a later change: status %d, said %q", status, talk)
	}
}

func TestPublishWantsAllSignaturesAndLeavesTheFileWhenNobodyAnswers(t *testing.T) {
	d := newDesk(t)
	before := teamtest.Must(os.ReadFile(d.path))
	publish := func() error {
		var out bytes.Buffer
		io := &cli.IO{In: teamtest.Pipe(t, ""), Out: &out, Err: &out}
		return (&publishChange{}).run(t.Context(), io, d.a, teamtest.Must(pending.Read(io, []string{d.path})), d.path)
	}
	err := publish()
	if status := cli.Report(&bytes.Buffer{}, err); status != cli.ExitPending || !strings.Contains(hints(err), "tucdesk team cosign ") || !bytes.Equal(teamtest.Must(os.ReadFile(d.path)), before) {
		t.Errorf("status %d: %v, %q", status, err, hints(err))
	}
	if _, _, err := d.sign(t, "--yes", "--passphrase-file", d.pass); err != nil {
		t.Fatal(err)
	}
	complete := teamtest.Must(os.ReadFile(d.path))
	if err := publish(); refusal.Of(err) != refusal.Unreachable || !bytes.Equal(teamtest.Must(os.ReadFile(d.path)), complete) {
		t.Errorf("without a server: %v", err)
	}
}
