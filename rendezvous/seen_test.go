package rendezvous

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

// seen is what the server says of the only machine.
func (c *crew) seen() wire.AgentInfo {
	c.t.Helper()
	return must(c.api.Agents(c.t.Context(), c.cred(policy.Viewer), "")).Agents[0]
}

// stored is what the database says of it.
func (c *crew) stored(h *host) (at wire.Millis) {
	c.t.Helper()
	err := c.node.store.View(c.t.Context(), c.node.teams.Known(c.state.Team()).ID, func(tx *store.Tx) error {
		a, err := tx.Agent(h.key.ID())
		at = a.LastSeen
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return at
}

// speaks sends what answers a heartbeat, later than since, and returns when.
func (h *host) speaks(since wire.Millis) wire.Millis {
	t := h.crew.t
	t.Helper()
	eventually(t, "the clock goes on", func() bool { return wire.At(time.Now()) > since })
	now := wire.At(time.Now())
	body := must(json.Marshal(wire.HeartbeatReply{RosterVersion: 1}))
	if err := h.ctl.Send(t.Context(), wire.Frame{Type: wire.FrameHeartbeat, Body: body}); err != nil {
		t.Fatal(err)
	}
	return now
}

// LAST SEEN is what the channel knows while there is one, without a write for each
// heartbeat, and what it knew last when it has ended.
func TestLastSeenIsWhenTheAgentSpokeLast(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, n *node) {
		c := found(t, n)
		h := c.newHost("web-1")
		h.dial()
		came := c.stored(h)
		spoke := h.speaks(came)
		eventually(t, "the list says so", func() bool { i := c.seen(); return i.Online && i.LastSeen >= spoke })
		if got := c.stored(h); got != came {
			t.Errorf("the database was told of a heartbeat: %v after %v", got.Time(), came.Time())
		}
		h.ctl.Close()
		eventually(t, "it is gone", func() bool { i := c.seen(); return !i.Online && i.LastSeen >= spoke })
		if got := c.stored(h); got > wire.At(time.Now()) {
			t.Errorf("it is said to have been seen at %v", got.Time())
		}
	})
}

// A server that stops forgets nothing of what it knew, whoever is connected.
func TestLastSeenOutlivesTheServer(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	spoke := map[*host]wire.Millis{}
	for i := range 12 {
		h := c.newHost(fmt.Sprintf("web-%d", i))
		h.dial()
		spoke[h] = h.speaks(c.stored(h))
	}
	for h, at := range spoke {
		eventually(t, "it was heard", func() bool { return !c.channelOf(h).HeardForTest().Before(at.Time()) })
	}
	c.node = c.node.restart(t)
	c.login()
	for h, at := range spoke {
		if got := c.stored(h); got < at {
			t.Errorf("seen at %v, it spoke at %v", got.Time(), at.Time())
		}
	}
}

// A note that the database did not take is none: when the agent leaves then, that is
// still to be stored.
func TestLastSeenOutlivesADatabaseThatWasAway(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	h.dial()
	spoke := h.speaks(c.stored(h))
	held := c.channelOf(h)
	eventually(t, "it was heard", func() bool { return !held.HeardForTest().Before(spoke.Time()) })
	held.NoteNextForTest()
	away, end := context.WithCancel(t.Context())
	end()
	if err := held.NoteForTest(away, time.Now()); err == nil {
		t.Fatal("it was noted")
	}
	h.ctl.Close()
	eventually(t, "its departure is stored", func() bool { return c.stored(h) >= spoke })
}
