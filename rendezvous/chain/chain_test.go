package chain

import (
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

const text = "version = 1\nmode = \"enforce\"\nroster_grace = \"2h\"\n"

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// team is a founded team whose roster lists one server and two operators.
type team struct {
	owner    key.Private[key.Owner]
	server   key.ID
	operator map[policy.Role]key.ID
	state    *roster.State
}

func found() *team {
	t := &team{owner: must(key.Generate[key.Owner]()), operator: map[policy.Role]key.ID{}}
	access := must(key.Generate[key.Access]())
	t.server = access.ID()
	keys := wire.ServerKeys{Access: access.Public(), Grant: must(key.Generate[key.Grant]()).Public(), Audit: must(key.Generate[key.Audit]()).Public(), TLS: sha256.Sum256([]byte("tls"))}
	root := roster.Root{Team: wire.NewTeamID(), Name: "acme", Owners: []key.Public[key.Owner]{t.owner.Public()}, Threshold: 1}
	signed := must(roster.SignRoot(t.owner, root))
	first := must(roster.Sign(t.owner, roster.First(root, signed.Hash(), func(r *roster.Roster) {
		r.Servers = append(r.Servers, roster.Server{Name: "rv1", URL: "https://rv1.example", Keys: keys})
		for _, role := range []policy.Role{policy.Viewer, policy.Operator} {
			p := must(key.Generate[key.Operator]())
			t.operator[role] = p.ID()
			r.Operators = append(r.Operators, roster.Operator{Key: p.Public(), Email: role.String() + "@acme.example", Person: role.String(), Role: role})
		}
		r.PolicyHash = sha256.Sum256([]byte(text))
		r.Renew(time.Now(), roster.DefaultLifetime)
	})))
	t.state = must(roster.Found(signed, signed.Hash(), first))
	return t
}

func (t *team) next(edit func(*roster.Roster)) {
	u := must(roster.Sign(t.owner, roster.Next(t.state, func(r *roster.Roster) {
		edit(r)
		r.Renew(time.Now(), roster.DefaultLifetime)
	})))
	t.state = must(t.state.Apply(u, time.Now()))
}

func TestOnlyThePolicyThatTheRosterMeansIsTaken(t *testing.T) {
	team := found()
	s, err := With(team.server, team.state, "", []byte(text))
	if err != nil || s.Rules == nil || s.Name != "rv1" || string(s.Text) != text {
		t.Fatalf("%+v, %v", s, err)
	}
	for name, tc := range map[string]struct {
		text string
		code refusal.Code
	}{
		"another": {text + "\n", refusal.PolicyMismatch}, "none": {"", refusal.BadRequest}, "broken": {"version = 2", refusal.BadRequest},
	} {
		if _, err := With(team.server, team.state, "", []byte(tc.text)); refusal.Of(err) != tc.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	team.next(func(r *roster.Roster) { r.PolicyHash = key.Hash{} })
	if _, err := With(team.server, team.state, "", []byte(text)); refusal.Of(err) != refusal.PolicyMismatch {
		t.Errorf("a policy that no roster names: %v", err)
	}
	if s, err := With(team.server, team.state, "", nil); err != nil || s.Rules != nil {
		t.Errorf("%+v, %v", s, err)
	}
}

// The log of a server that is taken out of the roster keeps its origin.
func TestNameOutlivesTheEntryInTheRoster(t *testing.T) {
	team := found()
	team.next(func(r *roster.Roster) { r.Servers = r.Servers[:0] })
	if s := Of(team.server, team.state, "rv1"); s.Name != "rv1" {
		t.Errorf("%q", s.Name)
	}
}

func TestNewsBringEverythingInPiecesThatFit(t *testing.T) {
	team := found()
	for range 4 {
		team.next(func(r *roster.Roster) { r.PolicyHash[0]++ })
	}
	s := State{Roster: team.state, Text: []byte("policy")}
	n, done := s.News(0)
	if !done || len(n.Updates) != 5 || len(n.Root) == 0 || string(n.Policy) != "policy" {
		t.Fatalf("%d updates, done %v", len(n.Updates), done)
	}
	if n, done = s.News(4); !done || len(n.Updates) != 1 || len(n.Root) != 0 || len(n.Policy) == 0 {
		t.Errorf("%d updates, done %v", len(n.Updates), done)
	}
	s.Text = []byte(strings.Repeat("x", maxNews))
	n, done = s.News(0)
	if done || len(n.Updates) != 4 || n.Policy != nil {
		t.Errorf("%d updates beside a policy that leaves no room, done %v", len(n.Updates), done)
	}
	if n, done = s.News(4); !done || len(n.Updates) != 1 || len(n.Policy) != maxNews {
		t.Errorf("the rest: %d updates, done %v", len(n.Updates), done)
	}
}

func TestWhoMayOpenSessionsAndUntilWhen(t *testing.T) {
	team := found()
	s := must(With(team.server, team.state, "", []byte(text)))
	now := time.Now()
	if err := s.MaySession(team.operator[policy.Operator], now); err != nil {
		t.Error(err)
	}
	if err := s.MaySession(team.operator[policy.Viewer], now); refusal.Of(err) != refusal.WrongRole {
		t.Errorf("a viewer: %v", err)
	}
	if err := s.MaySession(key.ID{1}, now); err == nil {
		t.Error("a stranger")
	}
	end := s.Roster.ExpiresAt()
	for at, want := range map[time.Time]refusal.Code{now: "", end.Add(time.Hour): "", end.Add(3 * time.Hour): refusal.RosterExpired} {
		if err := s.MayOpen(at); refusal.Of(err) != want {
			t.Errorf("%v after the end: %v", at.Sub(end), err)
		}
	}
	s.Rules = nil // no policy, no grace
	if err := s.MayOpen(end.Add(time.Hour)); refusal.Of(err) != refusal.RosterExpired {
		t.Error(err)
	}
}
