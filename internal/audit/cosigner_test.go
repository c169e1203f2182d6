package audit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// cosign signs a checkpoint and adds an agent's cosignature to it.
func (w *world) cosign(k key.Private[key.Agent]) string {
	w.t.Helper()
	c, err := checkpoint.Peek(w.checkpoint())
	check(w.t, err)
	line, err := checkpoint.Cosign(c, k, w.now)
	check(w.t, err)
	w.add(c.Size, line)
	return line
}

func (w *world) cosignAs(k key.Private[key.Operator], at time.Time) {
	w.t.Helper()
	c, err := checkpoint.Peek(w.checkpoint())
	check(w.t, err)
	line, err := checkpoint.Cosign(c, k, at)
	check(w.t, err)
	w.add(c.Size, line)
}

func (w *world) add(size int64, line string) {
	if w.rows.cosigned == nil {
		w.rows.cosigned = map[int64][]string{}
	}
	w.rows.cosigned[size] = append(w.rows.cosigned[size], line)
}

func TestCosignersAreCountedPerCheckpoint(t *testing.T) {
	w := newWorld(t)
	w.cosign(w.agents[0].key)
	w.record(entry.Entry{Type: entry.Login})
	w.cosign(w.agents[0].key)
	w.cosign(w.agents[1].key)
	w.cosign(w.agents[1].key) // again: one party
	w.cosignAs(w.ann, w.now)
	r := w.verify(w.export())
	wantClean(t, r)
	if r.Cosigners != 3 || len(r.Cosigned) != 2 || r.Cosigned[0] != (verify.CosignedCheckpoint{Size: 3, Cosigners: 1}) {
		t.Errorf("%d cosigners, %+v", r.Cosigners, r.Cosigned)
	}
	w.record(entry.Entry{Type: entry.Login})
	if r := w.verify(w.export()); r.Cosigners != 0 || len(r.Cosigned) != 2 {
		t.Errorf("nobody saw the newest, but: %d, %+v", r.Cosigners, r.Cosigned)
	}
}

// A server cannot count those who are none of the team, were thrown out, or spoke at
// another time; and two keys of one person are one party.
func TestWhoDoesNotCountAsCosigner(t *testing.T) {
	w := newWorld(t)
	second := private[key.Operator](t, 90)
	w.grow(func(r *roster.Roster) {
		r.Operators = append(r.Operators, roster.Operator{Key: second.Public(), Email: "ann@example.org", Person: "ann", Role: r.Operators[0].Role})
		r.Revoke(w.agents[1].key.ID(), w.cid.ID())
		r.Operators = append(r.Operators[:2:2], r.Operators[3:]...)
	})
	w.pass(time.Hour)
	w.cosign(private[key.Agent](t, 99)) // nobody knows it
	w.cosign(w.agents[1].key)           // revoked
	w.cosignAs(w.cid, w.now)            // revoked
	w.cosignAs(w.bob, w.now.Add(time.Hour))
	w.cosignAs(w.bob, w.now.Add(-2*time.Hour))
	w.add(4, "\u2014 witness.example/w1 AAAAAAAA")
	r := w.verify(w.export())
	wantClean(t, r)
	if r.Cosigners != 0 {
		t.Errorf("%d cosigners", r.Cosigners)
	}
	w.cosignAs(w.ann, w.now)
	w.cosignAs(second, w.now)
	if r := w.verify(w.export()); r.Cosigners != 1 {
		t.Errorf("%d cosigners of one person", r.Cosigners)
	}
}

// A server that makes cosignatures up is found out, and they do not count.
func TestForgedCosignatureIsAFinding(t *testing.T) {
	w := newWorld(t)
	line := w.cosign(w.agents[0].key)
	w.rows.cosigned = nil
	for name, forged := range map[string]string{
		"agent's":           line[:len(line)-4] + "AAA=",
		"of another's name": strings.Replace(line, w.agents[0].key.ID().String(), w.agents[1].key.ID().String(), 1),
		"operator's":        "\u2014 tucdesk/operator/" + w.ann.ID().String() + line[strings.LastIndex(line, " "):],
		"of another size":   func() string { w.record(entry.Entry{Type: entry.Login}); return line }(),
	} {
		size := int64(len(w.rows.entries))
		w.checkpoint()
		w.rows.cosigned = map[int64][]string{size: {forged}}
		r := w.verify(w.export())
		wantFinding(t, r, finding.BadCosignature, size-1)
		if r.Cosigners != 0 {
			t.Errorf("%s: counted", name)
		}
	}
}
