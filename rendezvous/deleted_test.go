package rendezvous

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/client"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

// A deletion that falls between the storing of a registration and the channel's
// place on the bus must not leave a channel behind.
func TestK16DeletionDuringARegistrationLeavesNoChannel(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	team := c.node.known(c.state.Team()).id
	for i := range 12 {
		h := c.newHost(fmt.Sprintf("web-%d", i))
		h.dial()
		h.ctl.Close()
		eventually(t, "it has left", func() bool { return !c.node.bus.Online(team, h.key.ID()) })
		type dialled struct {
			ctl *client.Control
			err error
		}
		done := make(chan dialled, 1)
		go func() {
			ctl, _, err := client.DialControl(context.Background(), c.node.config(), h.hello(nil))
			done <- dialled{ctl, err}
		}()
		err := c.node.store.InTx(t.Context(), team, func(tx *store.Tx) error { return tx.DeleteAgent(h.key.ID(), time.Now()) })
		if err != nil {
			t.Fatal(err)
		}
		c.node.endChannel(team, h.key.ID(), refusal.New(refusal.KeyRevoked, "deleted"))
		d := <-done
		if d.ctl != nil { // it was faster: then it is told
			if _, err := d.ctl.Receive(t.Context()); refusal.Of(err) != refusal.KeyRevoked {
				t.Fatalf("round %d: the channel goes on, %v", i, err)
			}
			d.ctl.Close()
		} else if refusal.Of(d.err) != refusal.KeyRevoked {
			t.Fatalf("round %d: %v", i, d.err)
		}
		eventually(t, "nothing holds a deleted agent", func() bool { return !c.node.bus.Online(team, h.key.ID()) })
	}
}

// The same, step by step: the deletion is committed and has looked for channels
// before this one is on the bus.
func TestK16ChannelOfADeletedAgentIsNotAttached(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	h.dial()
	held := c.channelOf(h)
	if err := c.api.DeleteAgent(t.Context(), c.cred(policy.Admin), h.key.ID()); err != nil {
		t.Fatal(err)
	}
	n := &newcomer{kid: h.key.ID(), team: held.team, state: *held.team.have.Load()}
	_, err := c.node.attach(t.Context(), nil, n, time.Now())
	wantCode(t, err, refusal.KeyRevoked)
	if c.node.bus.Online(held.team.id, h.key.ID()) {
		t.Fatal("it is on the bus")
	}
}

// channelOf is the server's side of h's channel.
func (c *crew) channelOf(h *host) (held *conn) {
	c.t.Helper()
	c.node.bus.Each(c.node.known(c.state.Team()).id, func(id key.ID, b bus.Conn) {
		if id == h.key.ID() {
			held = b.(*conn)
		}
	})
	if held == nil {
		c.t.Fatal("it is not connected")
	}
	return held
}

// Another node deleted the agent and cannot see our bus: our channel ends when it
// is noted the next time.
func TestDeletionByAnotherNodeEndsTheChannel(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	h.dial()
	held := c.channelOf(h)
	err := c.node.store.InTx(t.Context(), held.team.id, func(tx *store.Tx) error { return tx.DeleteAgent(h.key.ID(), time.Now()) })
	if err != nil {
		t.Fatal(err)
	}
	held.mu.Lock()
	held.noted = time.Time{}
	held.mu.Unlock()
	body := must(json.Marshal(wire.HeartbeatReply{RosterVersion: 1}))
	if err := h.ctl.Send(t.Context(), wire.Frame{Type: wire.FrameHeartbeat, Body: body}); err != nil {
		t.Fatal(err)
	}
	_, err = h.ctl.Receive(t.Context())
	wantCode(t, err, refusal.KeyRevoked)
}

// Neither end gets more of the relay for an agent that was deleted or whose
// certificate no longer holds.
func TestG6AgentThatIsNoMoreIsRelayedNoMore(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		end  func(*granting)
		code refusal.Code
	}{
		"deleted": {func(g *granting) {
			must(0, g.crew.api.DeleteAgent(g.crew.t.Context(), g.crew.cred(policy.Admin), g.host.key.ID()))
		}, refusal.KeyRevoked},
		"revoked":       {func(g *granting) { g.crew.publish(func(r *roster.Roster) { r.Revoke(g.host.key.ID()) }) }, refusal.KeyRevoked},
		"token revoked": {func(g *granting) { g.crew.publish(func(r *roster.Roster) { r.Revoke(g.crew.seed.ID()) }) }, refusal.KeyRevoked},
	} {
		c := found(t, startNode(t))
		g := c.granted("web-1")
		team := c.channelOf(g.host).team
		tk := must(c.node.openTicket(g.offer.Lease.Ticket))
		must(g.renew())
		tc.end(g)
		_, err := g.renew()
		if refusal.Of(err) != tc.code {
			t.Errorf("%s: the operator got %v, want %s", name, err, tc.code)
		}
		state := must(c.node.refresh(t.Context(), team)) // the agent's channel has ended, so ask behind it
		if _, err := c.node.renewal(t.Context(), tk, g.offer.Lease.Ticket, credential.Agent, state, time.Now()); refusal.Of(err) != tc.code {
			t.Errorf("%s: the agent got %v, want %s", name, err, tc.code)
		}
	}
}
