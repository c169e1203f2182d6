package rendezvous

import (
	"slices"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/rendezvous/client"
	"github.com/tucdesk/tucdesk/rendezvous/requests"
	"github.com/tucdesk/tucdesk/rendezvous/sessions"
)

// needing serves h as an agent that finds out by itself what it needs.
func (h *host) needing(n wire.ApprovalNeed) *host {
	h.dial()
	h.serve(func(o wire.OpenSession) (wire.FrameType, any) {
		if len(o.Approvals) >= n.Count && n.Count > 0 {
			return wire.FrameAccept, wire.AcceptSession{Accept: wire.Bytes{1}}
		}
		code := refusal.ApprovalRequired
		if len(o.Approvals) > 0 {
			code = refusal.NotEnoughApprovers
		}
		return wire.FrameRefuse, wire.Refuse{Code: code, Detail: "approvals are missing", Need: &n}
	})
	return h
}

// The policy asks for nothing here, the agent does: people get a request to decide.
func TestApprovalThatOnlyTheAgentNeeds(t *testing.T) {
	noLeaks(t)
	c := found(t, startNode(t))
	h := c.newHost("web-1").needing(wire.ApprovalNeed{Rule: "listed", Count: 1, Roles: []string{"approver", "admin"}})
	op, ap := c.people[policy.Operator], c.people[policy.Approver]
	open := c.request(op, h, nil)
	hash := open.Request.Hash()
	for range 2 { // asking again changes nothing
		reply := must(c.api.OpenSession(t.Context(), op.cred, open))
		p := reply.Pending
		if p == nil || p.State != wire.RequestPending || p.Need != 1 || p.Rule != "listed" || !slices.Equal(p.Roles, []string{"approver", "admin"}) || len(reply.Accept) != 0 {
			t.Fatalf("reply %+v", reply)
		}
	}
	waited := make(chan wire.RequestState, 1)
	go func() {
		info, _ := c.api.Request(t.Context(), op.cred, hash, client.MaxWait)
		waited <- info.State
	}()
	must(c.api.Approve(t.Context(), ap.cred, hash, decision(t, ap, open, op, approval.Approve)))
	if state := <-waited; state != wire.RequestApproved {
		t.Fatalf("the waiting call saw %q", state)
	}
	if reply := must(c.api.OpenSession(t.Context(), op.cred, open)); len(reply.Accept) == 0 {
		t.Fatalf("%+v", reply)
	}
	_, err := c.api.OpenSession(t.Context(), op.cred, open)
	wantCode(t, err, refusal.ApprovalUsed)
	c.logged(entry.SessionDeny, refusal.ApprovalRequired)
	if e := c.logged(entry.RequestWait, ""); e.Policy.Rule != "listed" || e.Policy.Need != 1 || e.Policy.Decision != "approval" {
		t.Errorf("entry %+v", e.Policy)
	}
}

// The policy asks for one approval, the agent for two.
func TestAgentNeedsMoreThanThePolicyAsksHere(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("db-1", "prod").needing(wire.ApprovalNeed{Rule: "both", Count: 2, Roles: []string{"approver", "admin"}})
	op, ap, ad := c.people[policy.Operator], c.people[policy.Approver], c.people[policy.Admin]
	open := gated(c, h)
	hash := open.Request.Hash()
	must(c.api.OpenSession(t.Context(), op.cred, open))
	must(c.api.Approve(t.Context(), ap.cred, hash, decision(t, ap, open, op, approval.Approve)))
	reply := must(c.api.OpenSession(t.Context(), op.cred, open))
	if p := reply.Pending; p == nil || p.State != wire.RequestPending || p.Need != 2 || len(p.Approvals) != 1 {
		t.Fatalf("reply %+v", reply)
	}
	if info := must(c.api.Request(t.Context(), op.cred, hash, 0)); info.State != wire.RequestPending || info.Need != 2 {
		t.Fatalf("%+v", info)
	}
	must(c.api.Approve(t.Context(), ad.cred, hash, decision(t, ad, open, op, approval.Approve)))
	if reply = must(c.api.OpenSession(t.Context(), op.cred, open)); len(reply.Accept) == 0 {
		t.Fatalf("%+v", reply)
	}
}

// What an agent asks for is a peer's word: it may ask for more, not for nonsense,
// never for less, and only where approvals are all that is missing.
func TestHostileNeeds(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	op := c.people[policy.Operator]
	good := wire.ApprovalNeed{Rule: "r", Count: 1, Roles: []string{"admin"}}
	for name, edit := range map[string]func(*wire.ApprovalNeed){
		"none":         func(n *wire.ApprovalNeed) { n.Count = 0 },
		"negative":     func(n *wire.ApprovalNeed) { n.Count = -1 },
		"too many":     func(n *wire.ApprovalNeed) { n.Count = approval.MaxApprovals + 1 },
		"nobody":       func(n *wire.ApprovalNeed) { n.Roles = nil },
		"unknown role": func(n *wire.ApprovalNeed) { n.Roles = []string{"root"} },
		"long rule":    func(n *wire.ApprovalNeed) { n.Rule = strings.Repeat("x", sessions.MaxRule+1) },
		"escapes":      func(n *wire.ApprovalNeed) { n.Rule = "\x1b[2J" },
	} {
		n := good
		edit(&n)
		h := c.newHost("web-" + strings.ReplaceAll(name, " ", "-"))
		h.dial()
		h.serve(func(wire.OpenSession) (wire.FrameType, any) {
			return wire.FrameRefuse, wire.Refuse{Code: refusal.ApprovalRequired, Need: &n}
		})
		_, err := c.api.OpenSession(t.Context(), op.cred, c.request(op, h, nil))
		if refusal.Of(err) != refusal.ProtocolError {
			t.Errorf("%s: %v", name, err)
		}
	}
	h := c.newHost("other")
	h.dial()
	h.serve(func(wire.OpenSession) (wire.FrameType, any) {
		return wire.FrameRefuse, wire.Refuse{Code: refusal.PolicyDenied, Need: &good}
	})
	_, err := c.api.OpenSession(t.Context(), op.cred, c.request(op, h, nil))
	wantCode(t, err, refusal.PolicyDenied)

	gate := c.newHost("db-1", "prod").needing(wire.ApprovalNeed{Rule: "r", Count: 2, Roles: []string{"owner"}})
	open := gated(c, gate)
	ap := c.people[policy.Approver]
	must(c.api.OpenSession(t.Context(), op.cred, open))
	must(c.api.Approve(t.Context(), ap.cred, open.Request.Hash(), decision(t, ap, open, op, approval.Approve)))
	_, err = c.api.OpenSession(t.Context(), op.cred, open)
	wantCode(t, err, refusal.PolicyDenied) // roles that server and agent ask for have nothing in common
	if list := must(c.api.Requests(t.Context(), ap.cred)); len(list) != 1 || list[0].State != wire.RequestUsed {
		t.Errorf("%+v", list)
	}
}

// Requests that agents ask for count like any other of their operator.
func TestAgentsNeedsAreBounded(t *testing.T) {
	t.Parallel()
	c := found(t, startNodeWith(t, nil, func(s *Server) { s.leases.Sessions = rate.New[key.ID](rate.Rate{PerSecond: 1000, Burst: 1000}) }))
	h := c.newHost("web-1").needing(wire.ApprovalNeed{Rule: "r", Count: 1, Roles: []string{"admin"}})
	op := c.people[policy.Operator]
	for range requests.MaxOpen {
		must(c.api.OpenSession(t.Context(), op.cred, c.request(op, h, nil)))
	}
	_, err := c.api.OpenSession(t.Context(), op.cred, c.request(op, h, nil))
	wantCode(t, err, refusal.TooMany)
}
