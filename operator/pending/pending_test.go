package pending

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/change"
	"github.com/tucdesk/tucdesk/operator/teamtest"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// team has three owners, all of whom must sign; ann's account is the second result.
func team(t *testing.T) (m *teamtest.Team, a *account.Account, second, third key.Private[key.Owner]) {
	t.Helper()
	second, third = teamtest.Generate[key.Owner](), teamtest.Generate[key.Owner]()
	m = teamtest.NewTeamOf(t, second, third)
	return m, m.Account(t), second, third
}

// propose has the first owner change the roster that a knows.
func propose(m *teamtest.Team, a *account.Account, edit func(*roster.Roster)) *change.Change {
	next := roster.Next(a.State, func(r *roster.Roster) {
		r.Renew(time.Now(), roster.DefaultLifetime)
		edit(r)
	})
	return teamtest.Must(change.Propose(a.State, next, nil, m.Owner, time.Now()))
}

func least(r *roster.Roster) { r.MinVersion = "0.0.1" }

func hints(err error) string {
	var e *cli.Error
	if !errors.As(err, &e) {
		return ""
	}
	return strings.Join(e.Hints, "\n")
}

func TestChangeThatWaitsSaysWhoDoesWhatNext(t *testing.T) {
	m, a, second, third := team(t)
	t.Chdir(t.TempDir())
	c := propose(m, a, least)
	var out bytes.Buffer
	err := Leave(&cli.IO{Out: &out}, c, "", true)
	if status := cli.Report(&bytes.Buffer{}, err); status != cli.ExitPending || refusal.Of(err) != refusal.NotEnoughSignatures {
		t.Errorf("exits %d: %v", status, err)
	}
	for _, want := range []string{second.ID().ShortCode() + " or ", third.ID().ShortCode(), "tucdesk team cosign " + c.Name(), "publish nothing else"} {
		if !strings.Contains(hints(err), want) && !strings.Contains(hints(err), strings.Replace(want, " or ", "", 1)) {
			t.Errorf("no %q in %q", want, hints(err))
		}
	}
	if !strings.Contains(out.String(), `"signaturesMissing": 2`) || !strings.Contains(out.String(), c.Name()) {
		t.Errorf("printed %s", out.String())
	}
	if info, err := os.Stat(c.Name()); err != nil || info.Mode().Perm()&0o022 != 0 {
		t.Errorf("%v, %v", info, err)
	}
	// The file of a change that is there already is evidence, or work of others.
	before := teamtest.Must(os.ReadFile(c.Name()))
	if err := Leave(&cli.IO{Out: &out}, c, c.Name(), false); !errors.Is(err, os.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	if !bytes.Equal(teamtest.Must(os.ReadFile(c.Name())), before) {
		t.Error("the file was changed")
	}
}

// Signed by all, by somebody who may not publish: it goes to a member.
func TestCompleteChangeIsForAMember(t *testing.T) {
	m, a, second, third := team(t)
	c := propose(m, a, least)
	if err := errors.Join(c.Sign(second), c.Sign(third)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "with blank.pending")
	err := Leave(&cli.IO{}, c, path, false)
	if refusal.Of(err) != refusal.NotEnoughSignatures || !strings.Contains(hints(err), "tucdesk team publish ") || !strings.Contains(hints(err), "with blank") || strings.Contains(hints(err), "publish "+path) {
		t.Errorf("%v, %q: a path with a blank has to be quoted", err, hints(err))
	}
}

func TestCopiesAreJoined(t *testing.T) {
	m, a, second, third := team(t)
	dir := t.TempDir()
	paths := []string{filepath.Join(dir, "b"), filepath.Join(dir, "c")}
	first := propose(m, a, least)
	start := teamtest.Must(first.Encode())
	for i, by := range []key.Private[key.Owner]{second, third} {
		c := teamtest.Must(Open(a, teamtest.Must(change.Parse(start))))
		if err := c.Sign(by); err != nil {
			t.Fatal(err)
		}
		if err := Write(paths[i], c); err != nil {
			t.Fatal(err)
		}
	}
	io := &cli.IO{In: teamtest.Pipe(t, "")}
	for _, some := range [][]string{paths[:1], paths[1:]} {
		if c := teamtest.Must(Open(a, teamtest.Must(Read(io, some)))); c.Short != 1 {
			t.Errorf("%q: %d short", some, c.Short)
		}
	}
	c := teamtest.Must(Open(a, teamtest.Must(Read(io, paths))))
	if c.Short != 0 || len(c.Signed) != 3 {
		t.Errorf("joined: %d short, signed by %d", c.Short, len(c.Signed))
	}
	v := NewView(c, "x", nil)
	if v.Owners == nil || len(v.Owners) != 0 || !slices.Contains(v.Signed, third.ID()) {
		t.Errorf("%+v", v)
	}
	other := filepath.Join(dir, "other")
	if err := Write(other, propose(m, a, func(r *roster.Roster) { r.MinVersion = "0.0.2" })); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(io, []string{paths[0], other}); err == nil || !strings.Contains(err.Error(), "other") {
		t.Errorf("two changes were joined: %v", err)
	}
}

func TestG2FileThatWasChangedOnItsWayIsNotOpened(t *testing.T) {
	m, a, _, _ := team(t)
	honest := propose(m, a, least)
	whole := teamtest.Must(honest.Encode())
	io := &cli.IO{In: teamtest.Pipe(t, "")}
	for i := 0; i < len(whole); i += 97 {
		flipped := bytes.Clone(whole)
		flipped[i] ^= 1
		path := teamtest.Write(t, "f", string(flipped), 0o644)
		f, err := Read(io, []string{path})
		if err != nil {
			if hints(err) == "" || strings.Contains(err.Error(), "internal") {
				t.Errorf("byte %d: no hint with %v", i, err)
			}
			continue
		}
		// Of the root the fingerprint is pinned, so its signature is not needed again.
		if c, err := Open(a, f); err == nil && (c.Update.Statement.Hash() != honest.Update.Statement.Hash() || !slices.Equal(c.Signed, honest.Signed) || c.Short != honest.Short) {
			t.Fatalf("with byte %d changed it is another change: %+v", i, c.After)
		}
	}
	another := teamtest.NewTeam(t)
	theirs := propose(another, another.Account(t), least)
	if _, err := Open(a, theirs.File); refusal.Of(err) != refusal.WrongTeam {
		t.Errorf("another team's: %v", err)
	}
	if _, err := Read(io, []string{filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(hints(err), ".pending") {
		t.Errorf("no file: %v", err)
	}
}

// The last owner of two who publish at the same time has nothing left to do.
func TestChangeThatIsInForceSaysSo(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	mine, theirs := propose(m, a, least), propose(m, a, func(r *roster.Roster) { r.MinVersion = "0.0.2" })
	state := teamtest.Must(mine.Apply(time.Now()))
	a.State = state
	if _, err := Open(a, mine.File); refusal.Of(err) != refusal.Superseded || !strings.Contains(hints(err), "nothing is left") {
		t.Errorf("the very change: %v, %q", err, hints(err))
	}
	if _, err := Open(a, theirs.File); refusal.Of(err) != refusal.Superseded || strings.Contains(hints(err), "nothing is left") {
		t.Errorf("another one: %v, %q", err, hints(err))
	}
}

func TestRulesAreThoseInForceOrNone(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	if got := Rules(a, a.State); !bytes.Equal(got, m.Text) {
		t.Errorf("%d bytes, want %d", len(got), len(m.Text))
	}
	other := teamtest.Must(propose(m, a, func(r *roster.Roster) { r.PolicyHash = key.Hash{} }).Apply(time.Now()))
	if got := Rules(a, other); got != nil {
		t.Errorf("rules of another roster: %d bytes", len(got))
	}
}
