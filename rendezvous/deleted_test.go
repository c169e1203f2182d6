package rendezvous

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/rendezvous/agents"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/channel"
	"github.com/tucdesk/tucdesk/rendezvous/client"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

// A deletion that falls between the storing of a registration and the channel's
// place on the bus must not leave a channel behind.
func TestK16DeletionDuringARegistrationLeavesNoChannel(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, n *node) {
		c := found(t, n)
		team := c.node.teams.Known(c.state.Team()).ID
		for i := range 6 { // on each database
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
			c.node.agents.End(team, h.key.ID(), refusal.New(refusal.KeyRevoked, "deleted"))
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
	})
}

// The same, step by step: the deletion is committed and has looked for channels
// before this one is on the bus.
func TestK16ChannelOfADeletedAgentIsNotAttached(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	h.dial()
	if err := c.api.DeleteAgent(t.Context(), c.cred(policy.Admin), h.key.ID()); err != nil {
		t.Fatal(err)
	}
	team := c.node.teams.Known(c.state.Team())
	err := c.node.agents.AttachForTest(t.Context(), channel.NewForTest(t.Context()), team, h.key.ID(), *team.Have())
	wantCode(t, err, refusal.KeyRevoked)
	if c.node.bus.Online(team.ID, h.key.ID()) {
		t.Fatal("it is on the bus")
	}
}

// channelOf is the server's side of h's channel.
func (c *crew) channelOf(h *host) (held *agents.Conn) {
	c.t.Helper()
	c.node.bus.Each(c.node.teams.Known(c.state.Team()).ID, func(id key.ID, b bus.Conn) {
		if id == h.key.ID() {
			held = b.(*agents.Conn)
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
	err := c.node.store.InTx(t.Context(), c.node.teams.Known(c.state.Team()).ID, func(tx *store.Tx) error { return tx.DeleteAgent(h.key.ID(), time.Now()) })
	if err != nil {
		t.Fatal(err)
	}
	held.NoteNextForTest()
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
		team := c.node.teams.Known(c.state.Team())
		tk := must(c.node.leases.OpenTicket(g.offer.Lease.Ticket))
		must(g.renew())
		tc.end(g)
		_, err := g.renew()
		if refusal.Of(err) != tc.code {
			t.Errorf("%s: the operator got %v, want %s", name, err, tc.code)
		}
		state := must(c.node.teams.Refresh(t.Context(), team)) // the agent's channel has ended, so ask behind it
		if _, err := c.node.leases.Renewal(t.Context(), tk, g.offer.Lease.Ticket, credential.Agent, state, time.Now()); refusal.Of(err) != tc.code {
			t.Errorf("%s: the agent got %v, want %s", name, err, tc.code)
		}
	}
}

// An agent that comes and goes all day is one entry a day in the log.
func TestReconnectsDoNotGrowTheLog(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	team := c.node.teams.Known(c.state.Team()).ID
	again := func() {
		t.Helper()
		h.dial()
		h.ctl.Close()
		eventually(t, "it has left", func() bool { return !c.node.bus.Online(team, h.key.ID()) })
	}
	again()
	size := len(c.entries())
	for range 5 {
		again()
	}
	if n := len(c.entries()); n != size {
		t.Fatalf("%d entries for nothing", n-size)
	}
	h.version = "next"
	again()
	if all := c.entries(); len(all) != size+1 || all[size].Type != entry.AgentConnect {
		t.Fatalf("%d entries for another version", len(all)-size)
	}
	frame, reg := wire.Register{Platform: "linux/amd64", Hostname: h.name}, wire.Registration{ClientVersion: "next"}
	err := c.node.store.InTx(t.Context(), team, func(tx *store.Tx) error {
		for days := range 3 { // it would be said tomorrow, once, and the day after
			for _, first := range []bool{days > 0, false} {
				if is, err := agents.NotableForTest(tx, h.key.ID(), frame, reg, time.Now().AddDate(0, 0, days)); err != nil || is != first {
					t.Errorf("after %d days: %v, %v", days, is, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for range int(rateArrivals.Burst) {
		if err = h.tryDial(nil); err != nil {
			break
		}
	}
	wantCode(t, err, refusal.RateLimited)
}

// A fork of an agent's chain is an alarm once, however often the agent comes back.
func TestForkedChainIsOneAlarm(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	h.dial()
	team := c.node.teams.Known(c.state.Team()).ID
	err := c.node.store.InTx(t.Context(), team, func(tx *store.Tx) error { return tx.SetAuditHead(h.key.ID(), 7, key.Hash{7}) })
	if err != nil {
		t.Fatal(err)
	}
	alarms := func() (n int) {
		for _, e := range c.entries() {
			if e.Type == entry.Alarm && e.Refusal == refusal.AuditFork {
				n++
			}
		}
		return n
	}
	for range 3 {
		if err := h.tryDial(func(r *wire.Registration) { r.AuditSeq = 3 }); err != nil {
			t.Fatal(err)
		}
	}
	if n := alarms(); n != 1 {
		t.Errorf("%d alarms for one fork", n)
	}
	if err := h.tryDial(func(r *wire.Registration) { r.AuditSeq, r.AuditHead = 7, key.Hash{8} }); err != nil {
		t.Fatal(err)
	}
	if n := alarms(); n != 2 {
		t.Errorf("%d alarms for two forks", n)
	}
}

// Two hosts with one identity take the channel from each other without end.
func TestTwinsFillNoLog(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	for range int(rateAlarms.Burst) + 5 {
		h.dial()
	}
	n := 0
	for _, e := range c.entries() {
		if e.Refusal == refusal.KeyInUse {
			n++
		}
	}
	if n != int(rateAlarms.Burst) {
		t.Errorf("%d alarms", n)
	}
}
