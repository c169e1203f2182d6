package rendezvous

import (
	"encoding/json"
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
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/rendezvous/channel"
)

// watched is a host that accepts every OPEN and keeps the other frames it gets.
type watched struct {
	*host
	frames chan wire.Frame
	done   chan error // what ended the channel
}

// watch serves h; before is called with every offer before it is accepted.
func (h *host) watch(before func(wire.OpenSession)) *watched {
	h.dial()
	w := &watched{host: h, frames: make(chan wire.Frame, 64), done: make(chan error, 1)}
	ctl := h.ctl
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			f, err := ctl.Receive(h.crew.t.Context())
			if err != nil {
				w.done <- err
				return
			}
			if f.Type != wire.FrameOpen {
				w.frames <- f
				continue
			}
			var open wire.OpenSession
			if json.Unmarshal(f.Body, &open) != nil {
				return
			}
			if before != nil {
				before(open)
			}
			body := must(json.Marshal(wire.AcceptSession{Accept: wire.Bytes{1}}))
			_ = ctl.Send(h.crew.t.Context(), wire.Frame{Type: wire.FrameAccept, ID: f.ID, Body: body})
		}
	}()
	h.crew.t.Cleanup(func() { ctl.Close(); <-gone })
	return w
}

// next returns the next frame that is not a heartbeat.
func (w *watched) next() wire.Frame {
	w.crew.t.Helper()
	within := time.NewTimer(patience)
	defer within.Stop()
	for {
		select {
		case f := <-w.frames:
			if f.Type != wire.FrameHeartbeat {
				return f
			}
		case err := <-w.done:
			w.crew.t.Fatalf("the channel ended with %v", err)
		case <-within.C:
			w.crew.t.Fatal("no frame")
		}
	}
}

// wantCut fails unless the next frame cuts open's session with code.
func (w *watched) wantCut(id wire.SessionID, code refusal.Code) {
	w.crew.t.Helper()
	f := w.next()
	var cut wire.Cut
	if f.Type != wire.FrameCut || json.Unmarshal(f.Body, &cut) != nil || cut.Session != id || cut.Code != code {
		w.crew.t.Fatalf("frame %s %s, want a cut of %s with %s", f.Type, f.Body, id, code)
	}
}

// opens opens a session of p on w and returns its request.
func (c *crew) opens(p *person, w *watched) (wire.SessionOpen, wire.SessionReply) {
	c.t.Helper()
	open := c.request(p, w.host, nil)
	return open, must(c.api.OpenSession(c.t.Context(), p.cred, open))
}

func idOf(p *person, open wire.SessionOpen) wire.SessionID {
	req, _, err := statement.Open[wire.Request](open.Request, func(key.ID) (statement.Verifier, error) { return p.key.Public(), nil })
	if err != nil {
		panic(err)
	}
	return req.Session
}

func demote(p *person, to policy.Role) func(*roster.Roster) {
	return func(r *roster.Roster) {
		for i := range r.Operators {
			if r.Operators[i].Key.ID() == p.key.ID() {
				r.Operators[i].Role = to
			}
		}
	}
}

// The agent is told before the roster that takes the right away has arrived there,
// and long before a heartbeat; other people's sessions go on.
func TestG6LostRightCutsAtOnce(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		edit func(*person) func(*roster.Roster)
		code refusal.Code
	}{
		"revoked": {func(p *person) func(*roster.Roster) { return func(r *roster.Roster) { r.Revoke(p.key.ID()) } }, refusal.KeyRevoked},
		"removed": {func(p *person) func(*roster.Roster) {
			return func(r *roster.Roster) {
				for i := range r.Operators {
					if r.Operators[i].Key.ID() == p.key.ID() {
						r.Operators = append(r.Operators[:i], r.Operators[i+1:]...)
						return
					}
				}
			}
		}, refusal.UnknownKey},
		"demoted": {func(p *person) func(*roster.Roster) { return demote(p, policy.Viewer) }, refusal.WrongRole},
	} {
		c := found(t, startNode(t))
		w := c.newHost("web-1").watch(nil)
		op := c.people[policy.Operator]
		open, _ := c.opens(op, w)
		c.opens(c.people[policy.Approver], w)
		start := time.Now()
		c.publish(tc.edit(op))
		w.wantCut(idOf(op, open), tc.code)
		if d := time.Since(start); d > wire.HeartbeatEvery/2 { // the next one is that far at least
			t.Errorf("%s: cut after %v", name, d)
		}
		if f := w.next(); f.Type != wire.FrameRoster {
			t.Errorf("%s: then %s, want the roster and no other cut", name, f.Type)
		}
		if n := c.node.Snapshot()["cut"]; n != 1 {
			t.Errorf("%s: %d cuts", name, n)
		}
	}
}

// The right is taken away while the agent considers the OPEN.
func TestG6LostRightBetweenOpenAndAcceptCuts(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	op := c.people[policy.Operator]
	w := c.newHost("web-1").watch(func(wire.OpenSession) { c.publish(func(r *roster.Roster) { r.Revoke(op.key.ID()) }) })
	open := c.request(op, w.host, nil)
	_, err := c.api.OpenSession(t.Context(), op.cred, open)
	wantCode(t, err, refusal.KeyRevoked)
	id := idOf(op, open)
	w.wantCut(id, refusal.KeyRevoked) // overtook the acceptance
	if f := w.next(); f.Type != wire.FrameRoster {
		t.Fatal(f.Type)
	}
	w.wantCut(id, refusal.KeyRevoked) // once more, behind it
	c.logged(entry.SessionDeny, refusal.KeyRevoked)
}

// A server that has forgotten its sessions learns of them when one is renewed.
func TestG6LostRightCutsAfterARestart(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	op := c.people[policy.Operator]
	w := c.newHost("web-1").watch(nil)
	open, reply := c.opens(op, w)
	c.node = c.node.restart(t)
	c.api = newAPI(t, c.node)
	again := w.host.watch(nil)
	ticket := reply.Lease.Ticket
	must(c.api.RenewRelay(t.Context(), op.cred, open.Request, ticket))
	c.publish(func(r *roster.Roster) { r.Revoke(op.key.ID()) })
	again.wantCut(idOf(op, open), refusal.KeyRevoked)

	late, reply := c.opens(c.people[policy.Approver], again)
	must(again.next(), nil) // the roster
	c.node = c.node.restart(t)
	c.api = newAPI(t, c.node)
	third := w.host.watch(nil)
	c.publish(demote(c.people[policy.Approver], policy.Viewer))
	if f := third.next(); f.Type != wire.FrameRoster {
		t.Fatalf("%s: the server remembers what it cannot", f.Type)
	}
	tk := must(c.node.leases.OpenTicket(reply.Lease.Ticket))
	asks := func() error {
		_, err := c.node.leases.Renewal(t.Context(), tk, reply.Lease.Ticket, credential.Agent, *c.node.teams.Known(c.state.Team()).Have(), time.Now())
		return err
	}
	err := asks()
	wantCode(t, err, refusal.WrongRole)
	third.wantCut(idOf(c.people[policy.Approver], late), refusal.WrongRole)
	err = asks()
	wantCode(t, err, refusal.WrongRole)
	if tk.Session != idOf(c.people[policy.Approver], late) {
		t.Fatal("another ticket")
	}
}

// A request that was used stays used, and whoever takes it back ends what it opened.
func TestCancelOrDenialAfterUseCutsTheSession(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	w := c.newHost("db-1", "prod").watch(nil)
	op, ap, ad := c.people[policy.Operator], c.people[policy.Approver], c.people[policy.Admin]
	used := func() wire.SessionOpen {
		open := gated(c, w.host)
		must(c.api.OpenSession(t.Context(), op.cred, open))
		must(c.api.Approve(t.Context(), ap.cred, open.Request.Hash(), decision(t, ap, open, op, approval.Approve)))
		if reply := must(c.api.OpenSession(t.Context(), op.cred, open)); len(reply.Accept) == 0 {
			t.Fatal("not opened")
		}
		return open
	}
	open := used()
	_, err := c.api.Cancel(t.Context(), ap.cred, open.Request.Hash())
	wantCode(t, err, refusal.NotYours)
	_, err = c.api.Approve(t.Context(), ad.cred, open.Request.Hash(), decision(t, ad, open, op, approval.Approve))
	wantCode(t, err, refusal.ApprovalUsed)
	_, err = c.api.Cancel(t.Context(), op.cred, open.Request.Hash())
	wantCode(t, err, refusal.ApprovalUsed)
	w.wantCut(idOf(op, open), refusal.ApprovalCancelled)

	open = used()
	_, err = c.api.Approve(t.Context(), c.cred(policy.Viewer), open.Request.Hash(), decision(t, ad, open, op, approval.Deny))
	wantCode(t, err, refusal.Forbidden)
	_, err = c.api.Approve(t.Context(), ad.cred, open.Request.Hash(), decision(t, ad, open, op, approval.Deny))
	wantCode(t, err, refusal.ApprovalUsed)
	w.wantCut(idOf(op, open), refusal.ApprovalDenied)
	if n := c.node.Snapshot()["cut"]; n != 2 {
		t.Errorf("%d cuts", n)
	}
}

// Deleting an agent ends its sessions before its channel.
func TestDeletedAgentIsCutFirst(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	w := c.newHost("web-1").watch(nil)
	op := c.people[policy.Operator]
	open, _ := c.opens(op, w)
	if err := c.api.DeleteAgent(t.Context(), c.cred(policy.Admin), w.key.ID()); err != nil {
		t.Fatal(err)
	}
	if err := <-w.done; refusal.Of(err) != refusal.KeyRevoked {
		t.Fatal(err)
	}
	w.wantCut(idOf(op, open), refusal.KeyRevoked)
}

// An agent with more cuts waiting than its queue holds keeps its channel.
func TestCutsNeverEndTheChannel(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	w := c.newHost("web-1").watch(nil)
	held := c.channelOf(w.host)
	for range 3 * channel.QueueLength {
		c.node.teams.Recut(c.node.teams.Known(c.state.Team()), w.host.key.ID(), wire.NewSessionID(), refusal.KeyRevoked)
	}
	if held.Context().Err() != nil {
		t.Fatal("the channel ended")
	}
}
