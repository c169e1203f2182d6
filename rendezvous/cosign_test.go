package rendezvous

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// cosigning answers heartbeats with a cosignature, as edit leaves it.
func (h *host) cosigning(edit func(*wire.Cosignature)) *host {
	h.dial()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			f, err := h.ctl.Receive(context.Background())
			if err != nil {
				return
			}
			var beat wire.Heartbeat
			if f.Type != wire.FrameHeartbeat || json.Unmarshal(f.Body, &beat) != nil {
				continue
			}
			c := must(checkpoint.Peek(beat.Checkpoint.Checkpoint))
			k := wire.Cosignature{Size: c.Size, Line: must(checkpoint.Cosign(c, h.key, time.Now()))}
			edit(&k)
			body := must(json.Marshal(wire.HeartbeatReply{Cosigned: k}))
			if h.ctl.Send(context.Background(), wire.Frame{Type: wire.FrameHeartbeat, Body: body}) != nil {
				return
			}
		}
	}()
	h.crew.t.Cleanup(func() { h.ctl.Close(); <-done })
	return h
}

func (c *crew) exported() verify.Report {
	c.t.Helper()
	r, err := c.api.AuditExport(c.t.Context(), c.cred(policy.Admin))
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.Close()
	data := must(io.ReadAll(r))
	report := must(verify.Export(bytes.NewReader(data), c.state.Fingerprint(), time.Now()))
	for _, f := range report.Findings {
		c.t.Errorf("finding: %v", f)
	}
	return report
}

// An export ends with a checkpoint that those who are connected have seen. What a
// hostile one among them says instead is not in it.
func exportIsCosignedByWhoIsThere(t *testing.T) {
	c := found(t, startNodeWith(t, nil, func(s *Server) { s.logs.Within = 5 * time.Second })) // which pass, with a silent one among them
	for _, name := range []string{"web-1", "web-2", "web-3"} {
		c.newHost(name).cosigning(func(*wire.Cosignature) {})
	}
	for name, edit := range map[string]func(*wire.Cosignature){
		"forged":      func(k *wire.Cosignature) { k.Line = k.Line[:len(k.Line)-6] + "AAAAA=" },
		"other-size":  func(k *wire.Cosignature) { k.Size++ },
		"never-shown": func(k *wire.Cosignature) { k.Size = 1 << 40 },
		"long":        func(k *wire.Cosignature) { k.Line += strings.Repeat("A", 9000) },
		"two-lines":   func(k *wire.Cosignature) { k.Line += "\n" + k.Line },
		"silent":      func(k *wire.Cosignature) { *k = wire.Cosignature{} },
	} {
		c.newHost(name).cosigning(edit)
	}
	if r := c.exported(); r.Cosigners != 3 {
		t.Errorf("%d cosigners", r.Cosigners)
	}
}

// An agent that is connected and says nothing holds up the end of an export and not
// its beginning: who has a long log to fetch loses nothing.
func TestSilentAgentHoldsUpOnlyTheEndOfAnExport(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, n *node) {
		n.logs.Within = patience
		c := found(t, n)
		c.newHost("web-1").cosigning(func(*wire.Cosignature) {})
		begun := make(chan struct{})
		c.newHost("slow").cosigning(func(*wire.Cosignature) { <-begun })
		r := must(c.api.AuditExport(t.Context(), c.cred(policy.Admin)))
		defer r.Close()
		start := make([]byte, 1)
		must(io.ReadFull(r, start))
		close(begun) // had the wait come first, it would have ended without this one
		report := must(verify.Export(io.MultiReader(bytes.NewReader(start), r), c.state.Fingerprint(), time.Now()))
		if report.Verdict() != verify.HoldsTo || report.Cosigners != 2 {
			t.Errorf("%d cosigners, %v", report.Cosigners, report.Findings)
		}
	})
}

func TestOperatorsCosign(t *testing.T) {
	c := found(t, startNode(t))
	p := c.people[policy.Viewer]
	g := must(c.api.Checkpoint(t.Context(), p.cred, 0))
	shown := must(checkpoint.Peek(g.Checkpoint))
	sign := func(c checkpoint.Checkpoint, k key.Private[key.Operator], at time.Time) wire.Cosignature {
		return wire.Cosignature{Size: c.Size, Line: must(checkpoint.Cosign(c, k, at))}
	}
	other := shown
	other.Root[0] ^= 1
	long := shown
	long.Size += 100
	for _, tc := range []struct {
		k    wire.Cosignature
		want refusal.Code
	}{
		{sign(other, p.key, time.Now()), refusal.BadSignature},
		{sign(shown, c.people[policy.Admin].key, time.Now()), refusal.BadSignature}, // another's
		{sign(shown, p.key, time.Now().Add(-time.Hour)), refusal.BadTime},
		{sign(shown, p.key, time.Now().Add(time.Hour)), refusal.BadTime},
		{sign(long, p.key, time.Now()), refusal.NotFound},
		{wire.Cosignature{}, refusal.NotFound},
		{wire.Cosignature{Size: -1 << 63}, refusal.NotFound},
	} {
		wantCode(t, c.api.Cosign(t.Context(), p.cred, tc.k), tc.want)
	}
	if err := c.api.Cosign(t.Context(), p.cred, sign(shown, p.key, time.Now())); err != nil {
		t.Fatal(err)
	}
	r := c.exported()
	if len(r.Cosigned) != 1 || r.Cosigned[0] != (verify.CosignedCheckpoint{Size: shown.Size, Cosigners: 1}) {
		t.Errorf("%+v", r.Cosigned)
	}
}

// The server's answer to entries proves that the log holds them, to an agent that
// has followed its checkpoints.
func TestEntriesAreAnsweredWithProofs(t *testing.T) {
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	reg := h.dial()
	origin := checkpoint.Origin("rv1", c.state.Team())
	var known tree.Head
	learn := func(g wire.AuditGossip) {
		t.Helper()
		next, _, err := checkpoint.Open(g.Checkpoint, origin, c.node.keys.Audit.Public())
		if err != nil {
			t.Fatal(err)
		}
		if known.Size > 0 {
			if err := tree.CheckConsistency(known, next.Head, g.Consistency); err != nil {
				t.Fatal(err)
			}
		}
		known = next.Head
	}
	if reg.Checkpoint.Checkpoint != "" {
		learn(reg.Checkpoint)
	}
	var previous key.Hash
	for seq := uint64(1); seq <= 6; seq += 2 {
		var batch []statement.Signed
		for i := range uint64(2) {
			e := entry.Entry{ID: wire.NewNonce(), Type: entry.AgentStart, Time: wire.At(time.Now()), Team: c.state.Team(), Seq: seq + i, Previous: previous}
			batch = append(batch, sign(t, h.key, e))
			previous = batch[i].Hash()
		}
		body := must(json.Marshal(wire.AuditEntries{Entries: batch}))
		if err := h.ctl.Send(t.Context(), wire.Frame{Type: wire.FrameAudit, Body: body}); err != nil {
			t.Fatal(err)
		}
		var ack wire.AuditAck
		for f := must(h.ctl.Receive(t.Context())); ; f = must(h.ctl.Receive(t.Context())) {
			var beat wire.Heartbeat
			if f.Type == wire.FrameHeartbeat && json.Unmarshal(f.Body, &beat) == nil {
				learn(beat.Checkpoint)
			}
			if f.Type == wire.FrameAuditAck && json.Unmarshal(f.Body, &ack) == nil {
				break
			}
		}
		learn(ack.Checkpoint)
		if ack.Seq != seq+1 || ack.First != seq || len(ack.Proofs) != 2 {
			t.Fatalf("acknowledged up to %d, %d proofs from %d on", ack.Seq, len(ack.Proofs), ack.First)
		}
		for i, p := range ack.Proofs {
			if err := tree.CheckInclusion(known, p.Index, batch[i], p.Path); err != nil {
				t.Error(err)
			}
		}
		c.channelOf(h).Beat() // crosses with the next batch
	}
}
