package rendezvous

import (
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/rendezvous/client"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
)

// TestC12LogoutEndsTheTokenOnEveryNode: whoever has copied the token, or the one before
// it, reads nothing more with it, whichever process is asked, also after a restart. The
// same key logs in again at once, and nobody else notices.
func TestC12LogoutEndsTheTokenOnEveryNode(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, first *node) {
		c := found(t, first)
		other := first.second(t)
		op := c.people[policy.Operator]
		before := c.earlier(op, time.Minute)
		reads := func(n *node, token string, status int, code refusal.Code) {
			t.Helper()
			a := attack(t, n)
			for _, path := range []string{wire.PathAgents, wire.PathRequests, wire.PathRoster, wire.PathTokens} {
				a.want(path, a.send(forged{method: "GET", target: path, token: token}), status, code)
			}
		}
		for _, n := range []*node{first, other} {
			reads(n, op.cred.Token, 200, "")
			reads(n, before, 200, "")
		}
		if err := newAPI(t, other).Logout(t.Context(), op.cred); err != nil {
			t.Fatal(err)
		}
		if got := c.logged(entry.Logout, "").Actor.Kid; got != op.key.ID() {
			t.Errorf("the log says that %v did it", got)
		}
		gone := func(n *node) {
			t.Helper()
			reads(n, op.cred.Token, 401, refusal.NotLoggedIn)
			reads(n, before, 401, refusal.NotLoggedIn)
			reads(n, c.cred(policy.Viewer).Token, 200, "")
		}
		gone(other)
		gone(first)
		gone(first.restart(t))
		again, _, err := newAPI(t, other).Login(t.Context(), op.key, c.state.Team())
		if err != nil {
			t.Fatal(err)
		}
		reads(other, again.Token, 200, "")
		wantCode(t, newAPI(t, other).Logout(t.Context(), op.cred), refusal.NotLoggedIn)
	})
}

// earlier is a token that p got so long ago.
func (c *crew) earlier(p *person, ago time.Duration) string {
	c.t.Helper()
	team := must(c.node.teams.Find(c.t.Context(), c.state.Team()))
	op := must(c.state.Operator(p.key.ID(), time.Now()))
	token, _, err := c.node.issuer.Mint(principal.Principal{Team: team.ID, Operator: p.key.ID(), Email: op.Email, Person: op.Person, Role: op.Role}, time.Now().Add(-ago))
	if err != nil {
		c.t.Fatal(err)
	}
	return token
}

// A copied token does not even log its owner out.
func TestC12LogoutTakesTheOwnersProof(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	a, op := attack(t, c.node), c.people[policy.Operator]
	a.want("without a proof", a.send(forged{method: "POST", target: wire.PathLogout, token: op.cred.Token}), 401, refusal.ProofRequired)
	thief := client.Credentials{Key: c.people[policy.Viewer].key, Team: op.cred.Team, Token: op.cred.Token}
	wantCode(t, c.api.Logout(t.Context(), thief), refusal.ProofInvalid)
	if _, err := c.api.Tokens(t.Context(), op.cred); err != nil {
		t.Error(err)
	}
}
