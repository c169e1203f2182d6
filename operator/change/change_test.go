package change_test

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/change"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func generate[R key.Role]() key.Private[R] { return must(key.Generate[R]()) }

// team is two of three owners and their first roster.
type team struct {
	owners []key.Private[key.Owner]
	bob    key.Private[key.Operator]
	first  *change.Change
	state  *roster.State
}

func newTeam(n, threshold int) *team {
	m := &team{bob: generate[key.Operator]()}
	root := roster.Root{Team: wire.NewTeamID(), Name: "acme", Threshold: threshold}
	for range n {
		m.owners = append(m.owners, generate[key.Owner]())
		root.Owners = append(root.Owners, m.owners[len(m.owners)-1].Public())
	}
	signed := must(roster.SignRoot(m.owners[0], root))
	before := must(roster.Begin(signed, signed.Hash()))
	next := roster.First(root, signed.Hash(), func(r *roster.Roster) {
		r.Renew(now, roster.DefaultLifetime)
		r.Operators = []roster.Operator{{Key: m.bob.Public(), Email: "bob@example.org", Person: "bob", Role: policy.Approver}}
	})
	m.first = must(change.Propose(before, next, nil, m.owners[0], now))
	for _, o := range m.owners[1:threshold] {
		if err := m.first.Sign(o); err != nil {
			panic(err)
		}
	}
	m.state = must(m.first.Apply(now))
	return m
}

// propose has the first owner change the roster by edit.
func (m *team) propose(text []byte, edit func(*roster.Roster)) *change.Change {
	next := roster.Next(m.state, func(r *roster.Roster) {
		r.Renew(now, roster.DefaultLifetime)
		edit(r)
	})
	return must(change.Propose(m.state, next, text, m.owners[0], now))
}

func (m *team) open(f change.File) (*change.Change, error) {
	return change.Open(f, m.state.Fingerprint(), m.state, now)
}

func wantCode(t *testing.T, what string, err error, want refusal.Code) {
	t.Helper()
	if err == nil || refusal.Of(err) != want {
		t.Errorf("%s: %v, want %s", what, err, want)
	}
}

func keep(*roster.Roster) {}

func TestChangeCollectsSignatures(t *testing.T) {
	m := newTeam(3, 3)
	c := m.propose(nil, func(r *roster.Roster) { r.MinVersion = "1.2.3" })
	for i, by := range m.owners[1:] {
		if _, err := c.Apply(now); refusal.Of(err) != refusal.NotEnoughSignatures || c.Short != 2-i {
			t.Fatalf("with %d signatures: %v, %d short", i+1, err, c.Short)
		}
		c = must(m.open(must(change.Parse(must(c.Encode()))))) // as the next owner gets it
		if err := c.Sign(by); err != nil {
			t.Fatal(err)
		}
	}
	state, err := c.Apply(now)
	if err != nil || state.Roster().MinVersion != "1.2.3" || c.Short != 0 || len(c.Owners) != 0 {
		t.Fatalf("complete: %v, %d short", err, c.Short)
	}
	wantCode(t, "a signature too many", c.Sign(m.owners[0]), refusal.NotEnoughSignatures)
}

func TestG2WhoMayNotSign(t *testing.T) {
	m := newTeam(3, 2)
	fresh := generate[key.Owner]()
	c := m.propose(nil, func(r *roster.Roster) { r.Owners = append(r.Owners, fresh.Public()) })
	wantCode(t, "the proposer again", c.Sign(m.owners[0]), refusal.NotEnoughSignatures)
	wantCode(t, "a stranger", c.Sign(generate[key.Owner]()), refusal.WrongRole)
	if err := c.Sign(fresh); err != nil { // needed for the new set, but the old one is short still
		t.Fatal(err)
	}
	if _, err := c.Apply(now); refusal.Of(err) != refusal.NotEnoughSignatures || c.Short != 1 || slices.Contains(c.Owners, fresh.ID()) {
		t.Errorf("an owner of the old set and one of the new only: %v, %d short", err, c.Short)
	}
	if err := c.Sign(m.owners[1]); err != nil || c.Short != 0 {
		t.Errorf("the second owner: %v, %d short", err, c.Short)
	}
	wantCode(t, "a complete one", c.Sign(m.owners[2]), refusal.BadRequest)
}

func TestG2ForgedSignaturesInAFile(t *testing.T) {
	m := newTeam(3, 2)
	c, other := m.propose(nil, keep), m.propose(nil, func(r *roster.Roster) { r.MinVersion = "1.0.0" })
	elsewhere := must(statement.Cosign(m.owners[1], other.Update.Statement))
	good := must(statement.Cosign(m.owners[1], c.Update.Statement))
	stranger := must(statement.Cosign(generate[key.Owner](), c.Update.Statement))
	operator := must(statement.Cosign(m.bob, c.Update.Statement))
	own := must(statement.Cosign(m.owners[0], c.Update.Statement))
	for what, try := range map[string]struct {
		sigs []statement.Cosignature
		want refusal.Code
	}{
		"of another change":             {[]statement.Cosignature{elsewhere}, refusal.BadSignature},
		"one owner twice":               {[]statement.Cosignature{good, good}, refusal.NotEnoughSignatures},
		"the proposer as cosigner":      {[]statement.Cosignature{own}, refusal.NotEnoughSignatures},
		"a stranger's":                  {[]statement.Cosignature{stranger}, refusal.NotEnoughSignatures},
		"a stranger's beside enough":    {[]statement.Cosignature{good, stranger}, refusal.NotEnoughSignatures},
		"G13 an operator's":             {[]statement.Cosignature{operator}, refusal.WrongRole},
		"more than a change can have":   {make([]statement.Cosignature, roster.MaxCosignatures+1), refusal.TooMany},
		"a name without its signature":  {[]statement.Cosignature{{Kid: m.owners[1].ID(), Sig: ""}}, refusal.BadSignature},
		"somebody else's under a name ": {[]statement.Cosignature{{Kid: m.owners[2].ID(), Sig: good.Sig}}, refusal.BadSignature},
	} {
		f := c.File
		f.Update.Cosignatures = try.sigs
		_, err := m.open(f)
		if refusal.Of(err) != try.want && !(try.want == refusal.BadSignature && refusal.Of(err) == refusal.BadStatement) {
			t.Errorf("%s: %v, want %s", what, err, try.want)
		}
	}
}

func TestG3FileOfAnotherTeam(t *testing.T) {
	m, other := newTeam(3, 2), newTeam(3, 2)
	_, err := m.open(other.propose(nil, keep).File)
	wantCode(t, "another team's file", err, refusal.WrongTeam)
	f := other.propose(nil, keep).File
	f.Root = m.state.Root()
	_, err = m.open(f)
	wantCode(t, "under our root", err, refusal.Fork) // its chain is another
	f.Chain = nil
	_, err = m.open(f)
	wantCode(t, "without its chain", err, refusal.WrongTeam)
	_, err = change.Open(f, m.state.Fingerprint(), nil, now)
	wantCode(t, "by an owner who knows the root alone", err, refusal.WrongTeam)
}

func TestG1OvertakenChanges(t *testing.T) {
	m := newTeam(1, 1)
	late, first := m.propose(nil, func(r *roster.Roster) { r.MinVersion = "1.0.0" }), m.propose(nil, keep)
	m.state = must(first.Apply(now))
	_, err := m.open(late.File)
	wantCode(t, "another change came first", err, refusal.Superseded)
	_, err = m.open(first.File)
	wantCode(t, "in force already", err, refusal.Superseded)
	ahead := m.propose(nil, keep)
	m.state = late.Before
	ahead.Chain = []wire.RosterUpdate{}
	_, err = m.open(ahead.File)
	wantCode(t, "a change after one that is not known here", err, refusal.Gap)
}

// An owner who has no login takes the chain from the file, from the fingerprint on.
func TestChainInTheFileIsVerified(t *testing.T) {
	m := newTeam(2, 1)
	root := must(roster.Begin(m.state.Root(), m.state.Fingerprint()))
	m.state = must(m.propose(nil, keep).Apply(now))
	f := m.propose(nil, keep).File
	c, err := change.Open(f, m.state.Fingerprint(), nil, now)
	if err != nil || c.Before.Version() != 2 {
		t.Fatalf("from the root on: %v", err)
	}
	if _, err := change.Open(f, m.state.Fingerprint(), root, now); err != nil {
		t.Errorf("from version 0: %v", err)
	}
	f.Chain = f.Chain[:1]
	_, err = change.Open(f, m.state.Fingerprint(), nil, now)
	wantCode(t, "a version left out", err, refusal.Gap)
	f.Chain = []wire.RosterUpdate{m.state.Chain()[0], m.state.Chain()[0]}
	_, err = change.Open(f, m.state.Fingerprint(), nil, now)
	wantCode(t, "a version twice", err, refusal.Gap)
}

func TestChangeInTime(t *testing.T) {
	m := newTeam(2, 2)
	c := m.propose(nil, keep)
	for what, try := range map[string]struct {
		at   time.Time
		want refusal.Code
	}{
		"made at noon, read an hour before": {now.Add(-time.Hour), refusal.NotYetValid},
		"waited until it expired":           {now.Add(roster.DefaultLifetime), refusal.Expired},
	} {
		_, err := change.Open(c.File, m.state.Fingerprint(), m.state, try.at)
		wantCode(t, what, err, try.want)
	}
}

func TestRulesInTheFileAreThoseThatAreBound(t *testing.T) {
	m := newTeam(2, 2)
	text := policy.Default()
	c := m.propose(text, func(r *roster.Roster) { r.PolicyHash = sha256.Sum256(text) })
	if _, err := m.open(c.File); err != nil {
		t.Fatal(err)
	}
	for what, other := range map[string][]byte{"others": append(bytes.Clone(text), '\n'), "none": nil} {
		f := c.File
		f.Policy = other
		_, err := m.open(f)
		wantCode(t, what, err, refusal.PolicyMismatch)
	}
	f := m.propose(nil, keep).File
	f.Policy = text
	_, err := m.open(f)
	wantCode(t, "rules beside a change that leaves them", err, refusal.PolicyMismatch)
	bad := []byte("= nonsense")
	next := roster.Next(m.state, func(r *roster.Roster) { r.Renew(now, time.Hour); r.PolicyHash = sha256.Sum256(bad) })
	if _, err := change.Propose(m.state, next, bad, m.owners[0], now); err == nil {
		t.Error("rules that nobody can read were proposed")
	}
}

// Whatever byte of a file is changed on its way, its change is refused or is the
// very same one; what is not covered by a signature never decides anything.
func TestTamperedFile(t *testing.T) {
	m := newTeam(2, 2)
	text := []byte("version = 1\nmode = \"lockdown\"\n")
	c := m.propose(text, func(r *roster.Roster) { r.PolicyHash = sha256.Sum256(text) })
	good := must(c.Encode())
	update := bytes.Index(good, []byte(`"update"`))
	for i := range good {
		if i > 20 && i < update && i%7 != 0 {
			continue // root and chain have tests of their own, byte by byte, in package roster
		}
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		f, err := change.Parse(bad)
		if err != nil {
			continue
		}
		if _, err := change.Open(f, m.state.Fingerprint(), nil, now); err == nil {
			t.Fatalf("byte %d of %d was accepted", i, len(good))
		}
	}
	for n := range good {
		if _, err := change.Parse(good[:n]); err == nil {
			t.Fatalf("cut to %d bytes it was read", n)
		}
	}
}

func TestCopiesAreJoined(t *testing.T) {
	m := newTeam(3, 3)
	c := m.propose(nil, keep)
	a, b := must(m.open(c.File)), must(m.open(c.File))
	if a.Sign(m.owners[1]) != nil || b.Sign(m.owners[2]) != nil {
		t.Fatal("a signature was refused")
	}
	both := must(a.Merge(b.File))
	if got := must(m.open(both)); got.Short != 0 {
		t.Errorf("%d short", got.Short)
	}
	if again := must(both.Merge(a.File)); len(again.Update.Cosignatures) != 2 {
		t.Errorf("%d cosignatures after joining a copy twice", len(again.Update.Cosignatures))
	}
	if len(a.Update.Cosignatures) != 1 {
		t.Error("joining changed the first copy")
	}
	_, err := a.Merge(m.propose(nil, func(r *roster.Roster) { r.MinVersion = "1.0.0" }).File)
	wantCode(t, "two changes", err, refusal.BadStatement)
	if c.Name() != a.Name() || c.Name() == m.propose(nil, func(r *roster.Roster) { r.MinVersion = "1.0.0" }).Name() {
		t.Error("the name does not tell changes apart")
	}
}

// What is signed is what is read: every field of a roster has its line.
func TestWordsNameEverythingThatChanges(t *testing.T) {
	m := newTeam(3, 1)
	fresh, eve, enroller := generate[key.Owner](), generate[key.Operator](), generate[key.Enroller]()
	text := []byte("version = 1\nmode = \"lockdown\" # \u202e\n")
	gone, lost := m.owners[2].Public(), key.ID{7}
	server := roster.Server{Name: "main", URL: "https://tuc.example.org", Keys: wire.ServerKeys{
		Access: generate[key.Access]().Public(), Grant: generate[key.Grant]().Public(), Audit: generate[key.Audit]().Public(), TLS: key.Hash{1}}}
	m.state = must(m.propose(nil, func(r *roster.Roster) { r.Revoked = []key.ID{lost} }).Apply(now))
	c := m.propose(text, func(r *roster.Roster) {
		r.Owners, r.Threshold = append(r.Owners[:2], fresh.Public()), 2
		r.Operators[0].Role = policy.Admin
		r.Operators = append(r.Operators, roster.Operator{Key: eve.Public(), Email: "eve@example.org", Person: "eve", Role: policy.Viewer, NotAfter: wire.At(now.Add(time.Hour))})
		r.Enrollers = []roster.Enroller{{Key: enroller.Public(), Tags: []string{"prod", "eu"}, MaxLifetime: 3600}}
		r.Servers = []roster.Server{server}
		r.Revoked, r.MinVersion, r.PolicyHash = []key.ID{m.bob.ID()}, "1.2.3", sha256.Sum256(text)
	})
	got := strings.Join(c.Words(nil), "\n")
	for _, want := range []string{
		"version 2 of team", "becomes version 3", "ADDS      owner " + fresh.ID().ShortCode() + ", key " + fresh.Public().String(), "REMOVES   owner " + gone.ID().ShortCode(),
		"from then on 2 of 3 must sign, was 1 of 3", "changes   bob@example.org as admin, person bob", "was bob@example.org as approver",
		"adds      eve@example.org as viewer, person eve, key " + eve.ID().ShortCode() + ", until 2026-03-01T13:00:00Z",
		"adds      enroller " + enroller.ID().ShortCode() + ", who may give the tags [prod eu] for 1h0m0s", "ADDS      server main at https://tuc.example.org, TLS key 0100",
		"revokes   key " + m.bob.ID().String() + " of bob@example.org", "WARNING   takes back that key " + lost.String() + " is revoked",
		"programs  at least version 1.2.3, was none", "rules     ", `+   2  mode = "lockdown" # \u202e`, "expires   2026-05-30", "signed by " + m.owners[0].ID().ShortCode(), "needs     1 more of ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.ContainsAny(got, "\u202e\r") {
		t.Error("the words carry control characters")
	}
	back := newTeam(1, 1)
	same := strings.Join(back.propose(nil, keep).Words(nil), "\n")
	for _, not := range []string{"ADDS", "adds", "changes", "owners", "rules", "programs", "needs"} {
		if strings.Contains(same, not) {
			t.Errorf("nothing changed, but %q is said:\n%s", not, same)
		}
	}
	if founds := strings.Join(back.first.Words(nil), "\n"); !strings.Contains(founds, "founds    team acme, fingerprint "+back.state.Fingerprint().String()) ||
		!strings.Contains(founds, "ADDS      owner "+back.owners[0].ID().ShortCode()) || !strings.Contains(founds, "1 of 1 must sign") {
		t.Errorf("the founding says\n%s", founds)
	}
}

func TestWordsShowWhatChangesInTheRules(t *testing.T) {
	m := newTeam(1, 1)
	const rule = "[[allow]]\nid = 'x'\nwho.roles = ['admin']\nactions = ['shell']\n"
	before := []byte("version = 1\nmode = 'enforce'\n" + rule)
	m.state = must(m.propose(before, func(r *roster.Roster) { r.PolicyHash = sha256.Sum256(before) }).Apply(now))
	after := []byte("# f\u00fcr \u05d0\nversion = 1\nmode = 'enforce'\n" + strings.Replace(rule, "admin", "viewer", 1))
	lines := m.propose(after, func(r *roster.Roster) { r.PolicyHash = sha256.Sum256(after) }).Words(before)
	var diff []string
	for _, l := range lines {
		if strings.HasPrefix(l, "  ") {
			diff = append(diff, l)
		}
	}
	want := []string{`  +   1  # f\u00fcr \u05d0`, "         reads: # f\u00fcr \u05d0", "  -   5  who.roles = ['admin']", "  +   6  who.roles = ['viewer']"}
	if !slices.Equal(diff, want) {
		t.Errorf("%q, want %q", diff, want)
	}
}

func FuzzParse(f *testing.F) {
	m := newTeam(2, 2)
	c := m.propose(nil, keep)
	f.Add(must(c.Encode()))
	f.Add(must(m.first.Encode()))
	f.Add([]byte("tucdesk-pending-v1\n{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := change.Parse(data)
		if err != nil {
			return
		}
		if again, err := file.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Error("read, but written otherwise")
		}
		if _, err := change.Open(file, m.state.Fingerprint(), nil, now); err != nil && refusal.Of(err) == "" {
			t.Errorf("no name: %v", err)
		}
	})
}
