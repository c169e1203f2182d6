package roster_test

import (
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// request is some statement of an operator.
func request(t tb, n int) statement.Signed {
	return forgeSigned(t, private[key.Operator](t, n), wire.Request{Reason: "look"})
}

func TestOperatorsStatementOpens(t *testing.T) {
	m := found(t, 0, 1, 1)
	_, id, err := statement.Open[wire.Request](request(t, alice), m.state.FindOperator(now))
	if err != nil || id != public[key.Operator](t, alice).ID() {
		t.Fatalf("signed by %v, %v", id, err)
	}
	o, err := m.state.Operator(id, now)
	if err != nil || o.Person != "alice" || o.Role != policy.Operator {
		t.Errorf("got %+v, %v", o, err)
	}
}

func TestWhoMayNotActIsNamed(t *testing.T) {
	m := found(t, 0, 1, 1)
	m.grow(func(r *roster.Roster) {
		renew(r)
		r.Revoke(public[key.Operator](t, bob).ID(), public[key.Operator](t, bob).ID(), public[key.Operator](t, 40).ID())
		r.Operators[2].NotAfter = wire.At(now.Add(time.Hour))
	})
	if n := len(m.state.Roster().Revoked); n != 2 {
		t.Errorf("%d revoked keys, want 2", n)
	}
	open := func(n int, at time.Time) error {
		_, _, err := statement.Open[wire.Request](request(t, n), m.state.FindOperator(at))
		return err
	}
	wantCode(t, "stranger", open(39, now), refusal.UnknownKey)
	wantCode(t, "revoked", open(bob, now), refusal.KeyRevoked)
	wantCode(t, "revoked and never listed", open(40, now), refusal.KeyRevoked)
	if err := open(carol, now.Add(time.Hour-time.Millisecond)); err != nil {
		t.Errorf("before its end: %v", err)
	}
	wantCode(t, "at its end", open(carol, now.Add(time.Hour)), refusal.Expired)
	wantCode(t, "listed without a key", open(0, now), refusal.UnknownKey)
}

func TestE17SameEmailInAnotherTeamIsAStranger(t *testing.T) {
	m, other := found(t, 0, 1, 1), found(t, 10, 1, 1)
	other.grow(func(r *roster.Roster) {
		renew(r)
		r.Operators = append(r.Operators, operator(t, 41, "bob2", policy.Admin))
	})
	theirs := other.state.Roster().Operators[4]
	theirs.Email = "bob@example.org"
	_, err := m.state.Operator(theirs.Key.ID(), now)
	wantCode(t, "their key", err, refusal.UnknownKey)
}

func TestServerKeysAreFoundByUse(t *testing.T) {
	m := found(t, 0, 1, 1)
	m.grow(func(r *roster.Roster) { renew(r); r.Servers = append(r.Servers, server(t, 2)) })
	for n := 1; n <= 2; n++ {
		s, err := m.state.Server(public[key.Access](t, n).ID())
		if err != nil || s.Name != server(t, n).Name {
			t.Errorf("server %d: %v, %v", n, s.Name, err)
		}
		if k, err := m.state.FindGrant(s.Keys.Grant.ID()); err != nil || k != s.Keys.Grant {
			t.Errorf("server %d: %v, %v", n, k, err)
		}
		_, err = m.state.FindGrant(s.Keys.Access.ID())
		wantCode(t, "access key as grant key", err, refusal.WrongRole)
	}
	_, err := m.state.FindGrant(public[key.Grant](t, 3).ID())
	wantCode(t, "unknown grant key", err, refusal.UnknownKey)
	_, err = m.state.Server(public[key.Access](t, 3).ID())
	wantCode(t, "unknown server", err, refusal.UnknownKey)
	m.grow(func(r *roster.Roster) {
		renew(r)
		r.Revoke(r.Servers[0].Keys.Grant.ID(), r.Servers[0].Keys.Access.ID())
	})
	_, err = m.state.FindGrant(public[key.Grant](t, 1).ID())
	wantCode(t, "revoked grant key", err, refusal.KeyRevoked)
	_, err = m.state.Server(public[key.Access](t, 1).ID())
	wantCode(t, "revoked server", err, refusal.KeyRevoked)
}
