package roster_test

import (
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

const day = 24 * time.Hour

// onDay makes the next version n days after the team was founded.
func (m *team) onDay(n int, edit func(*roster.Roster)) {
	m.t.Helper()
	m.grow(func(r *roster.Roster) { r.Renew(now.Add(time.Duration(n)*day), roster.DefaultLifetime); edit(r) })
}

func history(t *testing.T, m *team) *roster.History {
	t.Helper()
	h, err := m.state.History()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestRetiredAuditKeyStaysGoodForItsTime(t *testing.T) {
	m := found(t, 0, 1, 1)
	m.onDay(10, func(r *roster.Roster) { r.Servers = append(r.Servers, server(t, 2)) })
	m.onDay(20, func(r *roster.Roster) { r.Servers = r.Servers[1:] })
	m.onDay(40, func(r *roster.Roster) { r.Servers = append(r.Servers, server(t, 1)) })
	h := history(t, m)
	one, two := public[key.Audit](t, 1), public[key.Audit](t, 2)
	for _, c := range []struct {
		what string
		key  key.Public[key.Audit]
		at   time.Duration
		want refusal.Code
	}{
		{"first server before the team", one, -time.Millisecond, refusal.UnknownKey},
		{"first server at once", one, 0, ""},
		{"both", one, 15 * day, ""},
		{"first server just retired", one, 20 * day, ""},
		{"first server after the grace", one, 20*day + roster.PublishGrace, refusal.UnknownKey},
		{"first server back again", one, 41 * day, ""},
		{"second server before it came", two, 10*day - time.Millisecond, refusal.UnknownKey},
		{"second server", two, 10 * day, ""},
		{"second server now", two, 400 * day, ""},
		{"nobody's", public[key.Audit](t, 3), 15 * day, refusal.UnknownKey},
	} {
		k, err := h.Audit(c.key.ID(), now.Add(c.at))
		if refusal.Of(err) != c.want {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
		if err == nil && k != c.key {
			t.Errorf("%s: got another key", c.what)
		}
	}
}

func TestN4RevokedKeyIsNoGoodFromThatMoment(t *testing.T) {
	m := found(t, 0, 1, 1)
	id, op := public[key.Audit](t, 1).ID(), public[key.Operator](t, alice).ID()
	m.onDay(10, func(r *roster.Roster) { r.Revoke(id, op); r.Servers = nil })
	h := history(t, m)
	before, at := now.Add(10*day-time.Millisecond), now.Add(10*day)
	if _, err := h.Audit(id, before); err != nil {
		t.Errorf("audit key before: %v", err)
	}
	if _, err := h.Operator(op, before); err != nil {
		t.Errorf("operator before: %v", err)
	}
	_, err := h.Audit(id, at)
	wantCode(t, "audit key", err, refusal.KeyRevoked)
	_, err = h.Operator(op, at)
	wantCode(t, "operator", err, refusal.KeyRevoked)
	wantCode(t, "the bare question", h.Revoked(op, at), refusal.KeyRevoked)
	if err := h.Revoked(public[key.Agent](t, 5).ID(), at); err != nil {
		t.Errorf("a key that was not revoked: %v", err)
	}
}

func TestOperatorAsOfATime(t *testing.T) {
	m := found(t, 0, 1, 1)
	id := public[key.Operator](t, alice).ID()
	m.onDay(10, func(r *roster.Roster) {
		r.Operators[0].Role = policy.Admin
		r.Operators[0].NotAfter = wire.At(now.Add(30 * day))
	})
	m.onDay(20, func(r *roster.Roster) { r.Operators = r.Operators[1:] })
	h := history(t, m)
	for _, c := range []struct {
		at   time.Duration
		role policy.Role
		want refusal.Code
	}{
		{-time.Hour, 0, refusal.UnknownKey},
		{day, policy.Operator, ""},
		{10*day - time.Millisecond, policy.Operator, ""},
		{10 * day, policy.Admin, ""},
		{20*day + time.Hour, policy.Admin, ""},
		{22 * day, 0, refusal.UnknownKey},
	} {
		o, err := h.Operator(id, now.Add(c.at))
		if refusal.Of(err) != c.want || o.Role != c.role {
			t.Errorf("after %v: %v, %v; want %v, %q", c.at, o.Role, err, c.role, c.want)
		}
	}
	ended := found(t, 0, 1, 1)
	ended.onDay(1, func(r *roster.Roster) { r.Operators[0].NotAfter = wire.At(now.Add(2 * day)) })
	_, err := history(t, ended).Operator(id, now.Add(3*day))
	wantCode(t, "after its own end", err, refusal.Expired)
}

func TestVersionsOfHistory(t *testing.T) {
	m := found(t, 0, 1, 1)
	m.onDay(10, func(*roster.Roster) {})
	h := history(t, m)
	for at, want := range map[time.Duration]uint64{-time.Hour: 0, 0: 1, 9 * day: 1, 10 * day: 2, 900 * day: 2} {
		if got := h.Version(now.Add(at)); got != want {
			t.Errorf("after %v: version %d, want %d", at, got, want)
		}
	}
	if h.Hash(2) != m.state.Hash() || h.Hash(1) != m.first.Statement.Hash() {
		t.Error("hashes differ from the chain's")
	}
	if !h.Hash(0).IsZero() || !h.Hash(3).IsZero() {
		t.Error("a version that does not exist has a hash")
	}
}
