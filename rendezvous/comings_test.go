package rendezvous

import (
	"log/slog"
	"strings"
	"testing"
)

// Whoever runs the server sees in its log which machine came and which went, and why;
// what joins a machine is a channel for a moment, and no news.
func TestLogTellsWhoCameAndWent(t *testing.T) {
	t.Parallel()
	var log written
	c := found(t, startNodeWith(t, func(cfg *Config) { cfg.Log = slog.New(slog.NewTextHandler(&log, nil)) }))
	lines := func(text string) (n int) {
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, "level=INFO") && strings.Contains(line, text) && strings.Contains(line, "name=web-1") {
				n++
			}
		}
		return n
	}
	h := c.newHost("web-1")
	h.dial()
	h.ctl.Close()
	eventually(t, "the join is over", func() bool { return c.node.agents.ConnsForTest() == 0 })
	if strings.Contains(log.String(), "an agent has") {
		t.Errorf("a join is in the log:\n%s", log.String())
	}
	h.dial()
	eventually(t, "it has come", func() bool { return lines("an agent has connected") == 1 })
	first := h.ctl
	h.dial()
	defer first.Close()
	eventually(t, "the newer one has the machine", func() bool { return lines("an agent has left") == 1 && lines("an agent has connected") == 2 })
	h.ctl.Close()
	eventually(t, "it has left", func() bool { return lines("the agent closed the connection") == 1 })
	h.dial()
	eventually(t, "it is back", func() bool { return lines("an agent has connected") == 3 })
	c.node.stop()
	if text := log.String(); lines("the server stops") != 1 || strings.Contains(text, "context canceled") {
		t.Errorf("a server that stops has lost its agents for another reason:\n%s", text)
	}
}
