package roster_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// now is when the tests' teams are founded.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// tb is what the fixtures need of testing.T and rapid.T.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// private makes the n-th key of a role, the same in every run.
func private[R key.Role](t tb, n int) key.Private[R] {
	t.Helper()
	name := fmt.Sprintf("%T %d", *new(R), n)
	if k, ok := keys.Load(name); ok {
		return k.(key.Private[R])
	}
	seed := sha256.Sum256([]byte(name))
	k, err := key.FromSeed[R](seed[:])
	if err != nil {
		t.Fatal(err)
	}
	keys.Store(name, k)
	return k
}

// keys are those that private has made; with the race detector a key costs more
// than most of what is tested with it.
var keys sync.Map

func public[R key.Role](t tb, n int) key.Public[R] { return private[R](t, n).Public() }

// team is a team with its owners' keys at hand.
type team struct {
	t           tb
	owners      []key.Private[key.Owner]
	root        roster.Root
	signed      statement.Signed
	fingerprint key.Hash
	first       wire.RosterUpdate
	state       *roster.State
}

const (
	alice = 1 + iota // operator
	bob              // approver
	carol            // admin
	dave             // viewer
)

func operator(t tb, n int, person string, role policy.Role) roster.Operator {
	return roster.Operator{Key: public[key.Operator](t, n), Email: person + "@example.org", Person: person, Role: role}
}

func server(t tb, n int) roster.Server {
	return roster.Server{
		Name: fmt.Sprintf("server-%d", n), URL: fmt.Sprintf("https://tuc%d.example.org:8443", n),
		Keys: wire.ServerKeys{Access: public[key.Access](t, n), Grant: public[key.Grant](t, n), Audit: public[key.Audit](t, n), TLS: sha256.Sum256([]byte{byte(n)})},
	}
}

// found makes a team with version 1 in force. seed keeps the keys of two teams
// apart.
func found(t tb, seed, owners, threshold int) *team {
	t.Helper()
	return foundWith(t, seed, owners, threshold, func(r *roster.Roster) {
		r.Servers = []roster.Server{server(t, 1)}
		r.Operators = []roster.Operator{
			operator(t, alice, "alice", policy.Operator), operator(t, bob, "bob", policy.Approver),
			operator(t, carol, "carol", policy.Admin), operator(t, dave, "dave", policy.Viewer),
		}
		r.Enrollers = []roster.Enroller{{Key: public[key.Enroller](t, 1), Tags: []string{"prod", "web"}, MaxLifetime: 3600}}
	})
}

// bare makes a team of owners only, whose statements are short.
func bare(t tb, owners, threshold int) *team {
	t.Helper()
	return foundWith(t, 0, owners, threshold, func(*roster.Roster) {})
}

func foundWith(t tb, seed, owners, threshold int, edit func(*roster.Roster)) *team {
	t.Helper()
	m := &team{t: t}
	for i := range owners {
		m.owners = append(m.owners, private[key.Owner](t, seed+i))
		m.root.Owners = append(m.root.Owners, m.owners[i].Public())
	}
	m.root.Team, m.root.Name, m.root.Threshold = wire.TeamID{byte(seed), 0xaa}, "example", threshold
	var err error
	if m.signed, err = roster.SignRoot(m.owners[0], m.root); err != nil {
		t.Fatal(err)
	}
	m.fingerprint = m.signed.Hash()
	m.first = m.sign(roster.First(m.root, m.fingerprint, func(r *roster.Roster) {
		r.Renew(now, roster.DefaultLifetime)
		edit(r)
	}), threshold)
	if m.state, err = roster.Found(m.signed, m.fingerprint, m.first); err != nil {
		t.Fatal(err)
	}
	return m
}

// sign signs r with the first n owners.
func (m *team) sign(r roster.Roster, n int) wire.RosterUpdate {
	m.t.Helper()
	return signWith(m.t, r, m.owners[:n]...)
}

func signWith(t tb, r roster.Roster, by ...key.Private[key.Owner]) wire.RosterUpdate {
	t.Helper()
	u, err := roster.Sign(by[0], r)
	for _, k := range by[1:] {
		if err == nil {
			u, err = roster.Cosign(k, u)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// forge signs what roster.Sign would refuse to sign.
func forge(t tb, r roster.Roster, by key.Private[key.Owner]) wire.RosterUpdate {
	t.Helper()
	s, err := statement.Sign(by, r)
	if err != nil {
		t.Fatal(err)
	}
	return wire.RosterUpdate{Statement: s}
}

// next is the version after st, signed by as many owners as the root wants.
func (m *team) next(st *roster.State, edit func(*roster.Roster)) wire.RosterUpdate {
	m.t.Helper()
	return m.sign(roster.Next(st, edit), m.root.Threshold)
}

// grow applies the next version and keeps it.
func (m *team) grow(edit func(*roster.Roster)) *roster.State {
	m.t.Helper()
	m.state = mustApply(m.t, m.state, m.next(m.state, edit))
	return m.state
}

func mustApply(t tb, st *roster.State, u wire.RosterUpdate) *roster.State {
	t.Helper()
	next, err := st.Apply(u, farAhead)
	if err != nil {
		t.Fatalf("a valid update does not apply: %v", err)
	}
	return next
}

// farAhead is a clock that no test's roster is ahead of.
var farAhead = now.AddDate(2, 0, 0)

func renew(r *roster.Roster) { r.Renew(r.IssuedAt.Time().Add(time.Minute), roster.DefaultLifetime) }

func wantCode(t *testing.T, what string, err error, want ...refusal.Code) {
	t.Helper()
	if !slices.Contains(want, refusal.Of(err)) || err == nil {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

// wantRefused checks the code, and that the refusal had no side effect.
func (m *team) wantRefused(t *testing.T, what string, u wire.RosterUpdate, want refusal.Code) {
	t.Helper()
	before := string(m.state.Encode())
	next, err := m.state.Apply(u, farAhead)
	wantCode(t, what, err, want)
	if next != nil {
		t.Errorf("%s: a state came with the refusal", what)
	}
	if string(m.state.Encode()) != before {
		t.Errorf("%s: the state changed", what)
	}
}
