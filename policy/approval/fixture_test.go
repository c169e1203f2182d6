package approval_test

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// now is when the tests' request is made.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// The people. alice asks and has two keys; the number is that of the key.
const (
	alice    = 1
	aliceTwo = 2
	bob      = 3 // approver
	bobTwo   = 4
	carol    = 5 // admin
	dave     = 6 // operator
	erin     = 7 // approver
	stranger = 8
)

func private[R key.Role](t testing.TB, n int) key.Private[R] {
	t.Helper()
	seed := sha256.Sum256(fmt.Appendf(nil, "%T %d", *new(R), n))
	k, err := key.FromSeed[R](seed[:])
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func member(t testing.TB, n int, person string, role policy.Role) roster.Operator {
	return roster.Operator{Key: private[key.Operator](t, n).Public(), Email: person + "@example.org", Person: person, Role: role}
}

type fixture struct {
	t     testing.TB
	owner key.Private[key.Owner]
	state *roster.State
	req   wire.Request
	hash  key.Hash
	need  policy.Approval
}

// gated is a team, and alice's request that one approver has to agree to.
func gated(t testing.TB, count int) *fixture {
	t.Helper()
	f := &fixture{t: t, owner: private[key.Owner](t, 1)}
	root := roster.Root{Team: wire.TeamID{1}, Name: "example", Owners: []key.Public[key.Owner]{f.owner.Public()}, Threshold: 1}
	signed, err := roster.SignRoot(f.owner, root)
	if err != nil {
		t.Fatal(err)
	}
	first, err := roster.Sign(f.owner, roster.First(root, signed.Hash(), func(r *roster.Roster) {
		r.Renew(now, roster.DefaultLifetime)
		r.Operators = []roster.Operator{
			member(t, alice, "alice", policy.Approver), member(t, aliceTwo, "alice", policy.Admin),
			member(t, bob, "bob", policy.Approver), member(t, bobTwo, "bob", policy.Approver),
			member(t, carol, "carol", policy.Admin), member(t, dave, "dave", policy.Operator), member(t, erin, "erin", policy.Approver),
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if f.state, err = roster.Found(signed, signed.Hash(), first); err != nil {
		t.Fatal(err)
	}
	f.ask(func(*wire.Request) {})
	f.need = policy.Approval{Count: count, Roles: policy.Roles(policy.Approver, policy.Admin)}
	return f
}

// ask makes the request, changed by edit.
func (f *fixture) ask(edit func(*wire.Request)) {
	f.t.Helper()
	f.req = wire.Request{
		ID: wire.Nonce{1}, IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(wire.GatedRequestLifetime)),
		Team: wire.TeamID{1}, Session: wire.SessionID{2}, Operator: private[key.Operator](f.t, alice).ID(),
		Agent: key.ID{3}, Action: wire.Exec, Reason: "disk is full",
		Params: wire.Params{Argv: args("rm", "-r", "a b"), Cwd: wire.Bytes("/srv"), Env: []wire.EnvVar{{Name: "LANG", Value: wire.Bytes("C")}}},
	}
	edit(&f.req)
	signed, err := statement.Sign(private[key.Operator](f.t, alice), f.req)
	if err != nil {
		f.t.Fatal(err)
	}
	f.hash = signed.Hash()
}

func args(list ...string) (argv []wire.Bytes) {
	for _, a := range list {
		argv = append(argv, wire.Bytes(a))
	}
	return argv
}

// decide is what an honest client signs a minute after the request.
func (f *fixture) decide(n int, d approval.Decision) statement.Signed {
	f.t.Helper()
	s, err := approval.Make(private[key.Operator](f.t, n), f.req, f.hash, d, now.Add(time.Minute))
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// forge signs an approval that no honest client would.
func (f *fixture) forge(n int, edit func(*approval.Approval)) statement.Signed {
	f.t.Helper()
	a := approval.Approval{
		ID: wire.NewNonce(), Team: f.req.Team, RequestHash: f.hash, Session: f.req.Session, Agent: f.req.Agent,
		Requester: f.req.Operator, Action: f.req.Action, Params: f.req.Params, Decision: approval.Approve,
		IssuedAt: wire.At(now.Add(time.Minute)), ExpiresAt: wire.At(now.Add(5 * time.Minute)),
	}
	edit(&a)
	s, err := statement.Sign(private[key.Operator](f.t, n), a)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// check is the agent, two minutes after the request.
func (f *fixture) check(approvals ...statement.Signed) ([]approval.Use, error) {
	return approval.Check(f.state, f.req, f.hash, f.need, approvals, now.Add(2*time.Minute))
}

func (f *fixture) wantRefused(t *testing.T, what string, want refusal.Code, approvals ...statement.Signed) {
	t.Helper()
	uses, err := f.check(approvals...)
	if refusal.Of(err) != want || uses != nil {
		t.Errorf("%s: %d uses, %v; want %q", what, len(uses), err, want)
	}
}

// change applies the next roster.
func (f *fixture) change(edit func(*roster.Roster)) {
	f.t.Helper()
	u, err := roster.Sign(f.owner, roster.Next(f.state, edit))
	if err == nil {
		f.state, err = f.state.Apply(u, now)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}
