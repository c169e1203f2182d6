package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/client"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/requests"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

func TestSessionIsIntroducedAndRecorded(t *testing.T) {
	noLeaks(t)
	c := found(t, startNode(t))
	h := c.newHost("web-1", "web").accepting()
	reply, err := c.api.OpenSession(t.Context(), c.cred(policy.Operator), c.request(c.people[policy.Operator], h, nil))
	if err != nil {
		t.Fatal(err)
	}
	if key.Hash(reply.Accept) != reply.Grant || len(reply.Relay.Endpoints) != 1 || len(reply.Relay.Password) != 32 {
		t.Fatalf("reply %+v", reply)
	}
	e := c.logged(entry.SessionOpen, "")
	if e.Target.Name != "web-1" || e.Actor.Person != "operator" || e.Policy.Rule != "team" {
		t.Fatalf("entry %+v", e)
	}
}

func TestGrantIsSignedAndNamesTheRequest(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	h.dial()
	opened := make(chan wire.OpenSession, 1)
	h.serve(func(o wire.OpenSession) (wire.FrameType, any) {
		opened <- o
		return wire.FrameAccept, wire.AcceptSession{Accept: wire.Bytes{1}}
	})
	open := c.request(c.people[policy.Operator], h, nil)
	reply, err := c.api.OpenSession(t.Context(), c.cred(policy.Operator), open)
	if err != nil {
		t.Fatal(err)
	}
	o := <-opened
	g, _, err := statement.Open[wire.Grant](o.Grant, c.state.FindGrant)
	if err != nil {
		t.Fatal(err)
	}
	if g.RequestHash != open.Request.Hash() || g.Agent != h.key.ID() || g.Team != c.state.Team() || o.Grant.Hash() != reply.Grant {
		t.Fatalf("grant %+v", g)
	}
	if g.Relay.Username == reply.Relay.Username || string(g.Relay.Password) == string(reply.Relay.Password) {
		t.Fatal("both sides have one credential")
	}
}

func TestPolicyDeniesBeforeASessionExists(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("vault-1", "vault")
	h.dial()
	asked := make(chan struct{}, 1)
	h.serve(func(wire.OpenSession) (wire.FrameType, any) {
		asked <- struct{}{}
		return wire.FrameRefuse, wire.Refuse{Code: refusal.PolicyDenied}
	})
	_, err := c.api.OpenSession(t.Context(), c.cred(policy.Operator), c.request(c.people[policy.Operator], h, nil))
	wantCode(t, err, refusal.PolicyDenied)
	if e := c.logged(entry.SessionDeny, refusal.PolicyDenied); e.Policy.Rule != "vault" || e.Policy.Decision != "deny" {
		t.Fatalf("entry %+v", e)
	}
	select {
	case <-asked:
		t.Fatal("the agent was asked")
	default:
	}
}

func TestAgentsRefusalReachesTheOperator(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	h.dial()
	h.serve(func(wire.OpenSession) (wire.FrameType, any) {
		return wire.FrameRefuse, wire.Refuse{Code: refusal.EphMismatch, Detail: "no\x1b[2J"}
	})
	_, err := c.api.OpenSession(t.Context(), c.cred(policy.Operator), c.request(c.people[policy.Operator], h, nil))
	wantCode(t, err, refusal.EphMismatch)
	c.logged(entry.SessionDeny, refusal.EphMismatch)
}

// The operator is shown a request, the agent's log has a session: the server's has
// both, so that whoever was told "its log says more" finds it.
func TestFaultOfAnAgentIsFoundByTheRequest(t *testing.T) {
	t.Parallel()
	var log written
	c := found(t, startNodeWith(t, func(cfg *Config) { cfg.Log = slog.New(slog.NewTextHandler(&log, nil)) }))
	h := c.newHost("web-1")
	h.dial()
	h.serve(func(wire.OpenSession) (wire.FrameType, any) {
		return wire.FrameRefuse, wire.Refuse{Code: refusal.Unavailable, Detail: "its log says more"}
	})
	open := c.request(c.people[policy.Operator], h, nil)
	_, err := c.api.OpenSession(t.Context(), c.cred(policy.Operator), open)
	wantCode(t, err, refusal.Unavailable)
	var p *client.Problem
	if !errors.As(err, &p) || p.RequestID == "" {
		t.Fatalf("the operator is told %v", err)
	}
	req, _, err := statement.Open[wire.Request](open.Request, c.state.FindOperator(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	if line := "request=" + p.RequestID + " session=" + req.Session.String(); !strings.Contains(log.String(), line) {
		t.Errorf("no %q in the log:\n%s", line, log.String())
	}
}

// TestAgentsNameNoCounters: an agent that refuses each time with a code of its own
// invention would otherwise make the server's memory grow for ever.
func TestAgentsNameNoCounters(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	h.dial()
	var n atomic.Int32
	h.serve(func(wire.OpenSession) (wire.FrameType, any) {
		return wire.FrameRefuse, wire.Refuse{Code: refusal.Code(fmt.Sprintf("invented_%d", n.Add(1)))}
	})
	for i := range 3 {
		_, err := c.api.OpenSession(t.Context(), c.cred(policy.Operator), c.request(c.people[policy.Operator], h, nil))
		wantCode(t, err, refusal.Code(fmt.Sprintf("invented_%d", i+1)))
	}
	all := c.node.Snapshot()
	if all["refused_by_agent"] != 3 {
		t.Errorf("counted %d refusals of the agent", all["refused_by_agent"])
	}
	for name := range all {
		if strings.Contains(name, "invented") {
			t.Errorf("the agent named the counter %q", name)
		}
	}
}

func TestUnknownAndOfflineAgents(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	_, err := c.api.OpenSession(t.Context(), c.cred(policy.Operator), c.request(c.people[policy.Operator], h, nil))
	wantCode(t, err, refusal.NotFound)
	h.dial()
	h.ctl.Close()
	eventually(t, "offline", func() bool { return c.node.bus.Len() == 0 })
	_, err = c.api.OpenSession(t.Context(), c.cred(policy.Operator), c.request(c.people[policy.Operator], h, nil))
	wantCode(t, err, refusal.Offline)
}

func TestRequestIsUsedOnce(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1").accepting()
	open := c.request(c.people[policy.Operator], h, nil)
	if _, err := c.api.OpenSession(t.Context(), c.cred(policy.Operator), open); err != nil {
		t.Fatal(err)
	}
	_, err := c.api.OpenSession(t.Context(), c.cred(policy.Operator), open)
	wantCode(t, err, refusal.Replay)
}

func TestRequestsThatNameTheWrongThing(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1").accepting()
	op := c.people[policy.Operator]
	for name, tc := range map[string]struct {
		edit func(*wire.Request)
		code refusal.Code
	}{
		"future":        {func(r *wire.Request) { r.IssuedAt += 120_000; r.ExpiresAt += 120_000 }, refusal.NotYetValid},
		"expired":       {func(r *wire.Request) { r.IssuedAt -= 120_000; r.ExpiresAt -= 120_000 }, refusal.Expired},
		"long":          {func(r *wire.Request) { r.ExpiresAt = r.IssuedAt + 3_600_000 }, refusal.BadTime},
		"backwards":     {func(r *wire.Request) { r.IssuedAt = r.ExpiresAt }, refusal.BadTime},
		"newer roster":  {func(r *wire.Request) { r.RosterVersion++ }, refusal.RosterBehind},
		"other roster":  {func(r *wire.Request) { r.RosterHash[0] ^= 1 }, refusal.Fork},
		"other policy":  {func(r *wire.Request) { r.PolicyHash[0] ^= 1 }, refusal.PolicyMismatch},
		"other team":    {func(r *wire.Request) { r.Team = wire.NewTeamID() }, refusal.NotYours},
		"other key":     {func(r *wire.Request) { r.Operator = key.ID{1} }, refusal.NotYours},
		"no such agent": {func(r *wire.Request) { r.Agent = key.ID{1} }, refusal.NotFound},
		"bad action":    {func(r *wire.Request) { r.Action = "root" }, refusal.PolicyDenied},
	} {
		_, err := c.api.OpenSession(t.Context(), op.cred, c.request(op, h, tc.edit))
		if refusal.Of(err) != tc.code {
			t.Errorf("%s: got %v, want %s", name, err, tc.code)
		}
	}
	for _, e := range c.entries() {
		if e.Type == entry.SessionOpen {
			t.Error("a session was granted")
		}
	}
}

// gated is a request for a prod host by the operator.
func gated(c *crew, h *host) wire.SessionOpen {
	return c.request(c.people[policy.Operator], h, func(r *wire.Request) {
		r.ExpiresAt = r.IssuedAt + wire.Millis(wire.GatedRequestLifetime.Milliseconds())
		r.Action, r.Params.Argv = wire.Exec, []wire.Bytes{wire.Bytes("/bin/rm"), wire.Bytes("-rf"), wire.Bytes("/srv/x")}
	})
}

// One operator must not keep approvers from everybody's requests: not with many
// that wait, and not with settled ones that fill the list.
func oneOperatorCannotHideRequests(t *testing.T) {
	c := found(t, startNodeWith(t, nil, func(s *Server) { s.requests.Room = 1 << 20 })) // reading all of it is seconds of work under the race detector
	h := c.newHost("db-1", "prod").accepting()
	op, ap := c.people[policy.Operator], c.people[policy.Approver]
	victim := gated(c, h)
	if _, err := c.api.OpenSession(t.Context(), op.cred, victim); err != nil {
		t.Fatal(err)
	}
	err := c.node.store.InTx(t.Context(), c.node.teams.Known(c.state.Team()).ID, func(tx *store.Tx) error {
		big := c.request(op, h, func(r *wire.Request) { r.Reason = strings.Repeat("x", 40<<10) })
		for i := range requests.PageLength { // settled, newer, 54 KiB each
			r := store.Request{Hash: sha(fmt.Append(nil, i)), Session: wire.NewSessionID(), Operator: op.key.ID(), Agent: h.key.ID(), Statement: big.Request,
				Open: big.Open, State: wire.RequestDenied, Roles: []string{}, CreatedAt: wire.At(time.Now()) + wire.Millis(1000+i), ExpiresAt: wire.At(time.Now().Add(time.Hour))}
			if err := tx.PutRequest(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.api.Requests(t.Context(), ap.cred)
	if err != nil || len(list) < 15 || len(list) >= requests.PageLength || list[0].Hash != victim.Request.Hash() {
		t.Fatalf("%d requests, %v", len(list), err)
	}
	for range requests.MaxOpen {
		eventually(t, "the request is answered", func() bool {
			_, err = c.api.OpenSession(t.Context(), op.cred, gated(c, h))
			return refusal.Of(err) != refusal.RateLimited
		})
	}
	if refusal.Of(err) != refusal.TooMany {
		t.Errorf("request %d: %v", requests.MaxOpen+1, err)
	}
}

// Whoever looks at the requests holds up nobody who decides about one, and is not held
// up: not even while somebody writes all the time.
func TestLookingAtRequestsWritesNothing(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("db-1", "prod").accepting()
	if _, err := c.api.OpenSession(t.Context(), c.people[policy.Operator].cred, gated(c, h)); err != nil {
		t.Fatal(err)
	}
	ap := c.people[policy.Approver]
	err := c.node.store.InTx(t.Context(), c.node.teams.Known(c.state.Team()).ID, func(*store.Tx) error { // the one writer that SQLite has
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		list, err := c.api.Requests(ctx, ap.cred)
		if err == nil && len(list) != 1 {
			t.Errorf("%d requests", len(list))
		}
		return err
	})
	if err != nil {
		t.Errorf("looking while somebody writes: %v", err)
	}
}

func decision(t testing.TB, by *person, open wire.SessionOpen, asker *person, d approval.Decision) statement.Signed {
	t.Helper()
	req, _, err := statement.Open[wire.Request](open.Request, func(key.ID) (statement.Verifier, error) { return asker.key.Public(), nil })
	if err != nil {
		t.Fatal(err)
	}
	return must(approval.Make(by.key, req, open.Request.Hash(), d, time.Now()))
}

func TestApprovalGate(t *testing.T) {
	noLeaks(t)
	c := found(t, startNode(t))
	h := c.newHost("db-1", "prod").accepting()
	op, ap := c.people[policy.Operator], c.people[policy.Approver]
	open := gated(c, h)
	hash := open.Request.Hash()
	for range 2 { // asking again changes nothing
		reply, err := c.api.OpenSession(t.Context(), op.cred, open)
		if err != nil {
			t.Fatal(err)
		}
		if reply.Pending == nil || reply.Pending.State != wire.RequestPending || reply.Pending.Need != 1 || len(reply.Accept) != 0 {
			t.Fatalf("reply %+v", reply)
		}
	}
	list, err := c.api.Requests(t.Context(), ap.cred)
	if err != nil || len(list) != 1 || list[0].Hash != hash || list[0].Rule != policy.Gate {
		t.Fatalf("requests %+v, %v", list, err)
	}
	waited := make(chan wire.RequestState, 1)
	go func() {
		info, _ := c.api.Request(t.Context(), op.cred, hash, client.MaxWait)
		waited <- info.State
	}()
	info, err := c.api.Approve(t.Context(), ap.cred, hash, decision(t, ap, open, op, approval.Approve))
	if err != nil || info.State != wire.RequestApproved {
		t.Fatalf("approve: %+v, %v", info, err)
	}
	if state := <-waited; state != wire.RequestApproved {
		t.Fatalf("the waiting call saw %q", state)
	}
	reply, err := c.api.OpenSession(t.Context(), op.cred, open)
	if err != nil || len(reply.Accept) == 0 {
		t.Fatalf("open: %+v, %v", reply, err)
	}
	_, err = c.api.OpenSession(t.Context(), op.cred, open)
	wantCode(t, err, refusal.ApprovalUsed)
	for _, kind := range []entry.EventType{entry.RequestWait, entry.RequestApprove} {
		if e := c.logged(kind, ""); e.Policy.Rule != policy.Gate {
			t.Errorf("%s by %q", kind, e.Policy.Rule)
		}
	}
	if e := c.logged(entry.SessionOpen, ""); len(e.Approvals) != 1 || e.Policy.Rule == policy.Gate || string(e.Command.Argv[0]) != "/bin/rm" {
		t.Fatalf("entry %+v", e)
	}
}

func TestE2RequesterCannotApprove(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("db-1", "prod").accepting()
	ad := c.people[policy.Admin]
	open := c.request(ad, h, nil)
	if _, err := c.api.OpenSession(t.Context(), ad.cred, open); err != nil {
		t.Fatal(err)
	}
	hash := open.Request.Hash()
	// The library refuses to make such an approval; the wire would carry one.
	req, _, _ := statement.Open[wire.Request](open.Request, c.state.FindOperator(time.Now()))
	forged := must(statement.Sign(ad.key, approval.Approval{ID: wire.NewNonce(), Team: req.Team, RequestHash: hash, Session: req.Session,
		Agent: req.Agent, Requester: req.Operator, Action: req.Action, Params: req.Params, Decision: approval.Approve,
		IssuedAt: wire.At(time.Now()), ExpiresAt: wire.At(time.Now().Add(30 * time.Second))}))
	_, err := c.api.Approve(t.Context(), ad.cred, hash, forged)
	wantCode(t, err, refusal.SelfApproval)
	_, err = c.api.Approve(t.Context(), c.cred(policy.Approver), hash, forged)
	wantCode(t, err, refusal.NotYours)
	ap := c.people[policy.Approver]
	other := decision(t, ap, c.request(ad, h, nil), ad, approval.Approve)
	_, err = c.api.Approve(t.Context(), ap.cred, hash, other)
	wantCode(t, err, refusal.ApprovalMismatch)
	op := c.people[policy.Operator]
	_, err = c.api.Approve(t.Context(), op.cred, hash, decision(t, op, open, ad, approval.Approve))
	wantCode(t, err, refusal.ApproverNotAllowed)
	c.logged(entry.Alarm, refusal.SelfApproval)
	if info, err := c.api.Request(t.Context(), ad.cred, hash, 0); err != nil || info.State != wire.RequestPending || len(info.Approvals) != 0 {
		t.Fatalf("request %+v, %v", info, err)
	}
}

func TestE12DenyBeatsApproveAndCancelIsFinal(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("db-1", "prod").accepting()
	op, ap, ad := c.people[policy.Operator], c.people[policy.Approver], c.people[policy.Admin]

	open := gated(c, h)
	hash := open.Request.Hash()
	must(c.api.OpenSession(t.Context(), op.cred, open))
	must(c.api.Approve(t.Context(), ap.cred, hash, decision(t, ap, open, op, approval.Approve)))
	info := must(c.api.Approve(t.Context(), ad.cred, hash, decision(t, ad, open, op, approval.Deny)))
	if info.State != wire.RequestDenied {
		t.Fatalf("state %q after approve and deny", info.State)
	}
	_, err := c.api.OpenSession(t.Context(), op.cred, open)
	wantCode(t, err, refusal.ApprovalDenied)
	_, err = c.api.Approve(t.Context(), ap.cred, hash, decision(t, ap, open, op, approval.Approve))
	wantCode(t, err, refusal.ApprovalDenied)

	open = gated(c, h)
	hash = open.Request.Hash()
	must(c.api.OpenSession(t.Context(), op.cred, open))
	_, err = c.api.Cancel(t.Context(), ap.cred, hash)
	wantCode(t, err, refusal.NotYours)
	if info := must(c.api.Cancel(t.Context(), op.cred, hash)); info.State != wire.RequestCancelled {
		t.Fatalf("state %q after cancel", info.State)
	}
	_, err = c.api.OpenSession(t.Context(), op.cred, open)
	wantCode(t, err, refusal.ApprovalCancelled)
	for _, e := range c.entries() {
		if e.Type == entry.SessionOpen {
			t.Fatal("a session was granted")
		}
	}
}

func requestExpiresUnapproved(t *testing.T) {
	c := found(t, startNode(t))
	h := c.newHost("db-1", "prod").accepting()
	op := c.people[policy.Operator]
	open := c.request(op, h, func(r *wire.Request) { r.ExpiresAt = r.IssuedAt + 5000 }) // it must have arrived by then
	must(c.api.OpenSession(t.Context(), op.cred, open))
	info, err := c.api.Request(t.Context(), op.cred, open.Request.Hash(), client.MaxWait)
	if err != nil || info.State != wire.RequestExpired {
		t.Fatalf("request %+v, %v", info, err)
	}
	c.logged(entry.RequestExpire, refusal.ApprovalExpired)
	_, err = c.api.OpenSession(t.Context(), op.cred, open)
	wantCode(t, err, refusal.Expired)
}

func TestE13RoleTakenAwayBetweenApprovalAndStart(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("db-1", "prod").accepting()
	op, ap := c.people[policy.Operator], c.people[policy.Approver]
	open := gated(c, h)
	must(c.api.OpenSession(t.Context(), op.cred, open))
	must(c.api.Approve(t.Context(), ap.cred, open.Request.Hash(), decision(t, ap, open, op, approval.Approve)))
	c.publish(func(r *roster.Roster) { r.Revoke(ap.key.ID()) })
	_, err := c.api.OpenSession(t.Context(), op.cred, open)
	wantCode(t, err, refusal.ApproverNotAllowed)
}

// TestK16RoleTakenAwayWhileItsRequestIsDecided: the gate has let the call in by the roster
// of before, and the cut that goes with the next one has found no session yet.
func TestK16RoleTakenAwayWhileItsRequestIsDecided(t *testing.T) {
	var meanwhile func()
	n := startNodeWith(t, nil, func(s *Server) {
		for i := range s.gate.Routes {
			if r := &s.gate.Routes[i]; r.Path == wire.PathSessions {
				open := r.Handle
				r.Handle = func(c *gate.Call) (any, error) {
					meanwhile()
					return open(c)
				}
			}
		}
	})
	c := found(t, n)
	h := c.newHost("web-1", "web").accepting()
	op := c.people[policy.Operator]
	meanwhile = func() {
		c.publish(func(r *roster.Roster) {
			for i := range r.Operators {
				if r.Operators[i].Key.ID() == op.key.ID() {
					r.Operators[i].Role = policy.Viewer
				}
			}
		})
	}
	_, err := c.api.OpenSession(t.Context(), op.cred, c.request(op, h, nil))
	wantCode(t, err, refusal.WrongRole)
}
