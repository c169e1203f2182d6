package rendezvous

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// says sends one entry of h's chain and then asks for news, which are answered in turn. It
// reports whether the entry was taken.
func (h *host) says(seq uint64, previous key.Hash) (s statement.Signed, taken bool) {
	t := h.crew.t
	t.Helper()
	s = sign(t, h.key, entry.Entry{ID: wire.NewNonce(), Type: entry.AgentStart, Time: wire.At(time.Now()), Team: h.crew.state.Team(), Seq: seq, Previous: previous,
		Actor: entry.Actor{Kid: h.key.ID()}})
	if err := h.ctl.Send(t.Context(), wire.Frame{Type: wire.FrameAudit, Body: must(json.Marshal(wire.AuditEntries{Entries: []statement.Signed{s}}))}); err != nil {
		t.Fatal(err)
	}
	if err := h.ctl.Send(t.Context(), wire.Frame{Type: wire.FrameRoster, Body: must(json.Marshal(wire.RosterWant{Version: 1}))}); err != nil {
		t.Fatal(err)
	}
	for {
		f, err := h.ctl.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		switch f.Type {
		case wire.FrameAuditAck:
			taken = true
		case wire.FrameRoster:
			return s, taken
		}
	}
}

// A machine has so much of the team's log in a time. What is beyond is not taken yet,
// and that is all: its channel goes on, and other machines have theirs.
func TestAMachineFillsTheLogNoFasterThanItsShare(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	c.node.agents.Entries = rate.New[key.ID](rate.Rate{PerSecond: 1e-6, Burst: 1})
	busy, other := c.newHost("web-1"), c.newHost("web-2")
	busy.dial()
	other.dial()
	first, taken := busy.says(1, key.Hash{})
	if !taken {
		t.Error("the first entry is not taken")
	}
	for range 3 {
		if _, taken := busy.says(2, first.Hash()); taken {
			t.Error("an entry beyond the share is taken")
		}
	}
	if _, taken := other.says(1, key.Hash{}); !taken {
		t.Error("another machine's entry is not taken")
	}
	if n := c.node.Snapshot()["audit_delayed"]; n != 3 {
		t.Errorf("%d batches are counted as delayed", n)
	}
}
