package audit_test

import (
	"bytes"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/export"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/ledger"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// second is the log of another server of the same team, with a database of its own.
func (w *world) second() (*ledger.Log, *memory) {
	w.t.Helper()
	audit := private[key.Audit](w.t, 90)
	w.grow(func(r *roster.Roster) {
		r.Servers = append(r.Servers, roster.Server{Name: "spare.example", URL: "https://spare.example:8443", Keys: wire.ServerKeys{
			Access: private[key.Access](w.t, 91).Public(), Grant: private[key.Grant](w.t, 92).Public(), Audit: audit.Public(), TLS: key.Hash{9},
		}})
	})
	log, err := ledger.New("spare.example", w.state.Team(), audit)
	check(w.t, err)
	rows := newMemory()
	rows.root, rows.rosters, rows.hosts = w.rows.root, w.rows.rosters, w.rows.hosts
	_, err = log.Record(rows, entry.Entry{Type: entry.TeamFound, Time: wire.At(w.now)})
	check(w.t, err)
	return log, rows
}

// A second log takes an agent's chain from its beginning or not at all (decision 15):
// what the agent has forgotten, because another log proved to hold it, is missing, and
// nothing that the server could say would replace it. The agent keeps what came after.
func TestSecondLogTakesNoChainFromTheMiddle(t *testing.T) {
	w := newWorld(t)
	m := w.agents[0]
	w.say(m, entry.Entry{Type: entry.AgentStart}) // proven, and forgotten
	other, rows := w.second()
	w.sayOnly(m, entry.Entry{Type: entry.RosterApplied})
	list, err := m.spool.Pending(0, wire.MaxAuditBatch)
	check(t, err)
	if _, err := other.Accept(rows, m.key.Public(), list); refusal.Of(err) != refusal.Gap {
		t.Errorf("got %v, want a gap", err)
	}
	w.deliver(m) // the first server has it as soon as it is back
	wantClean(t, w.verify(w.export()))
}

// A chain that a second log got as a whole names decisions that only the first server
// keeps. Who verifies the second export is told so, and not that all is well.
func TestSecondLogLacksTheFirstOnesDecisions(t *testing.T) {
	w := newWorld(t)
	m := w.agents[0]
	w.exec(m, []string{"reboot"}, w.bob)
	chain := w.rows.entries[:0:0]
	for _, s := range w.rows.entries {
		if entry.Peek(s).Type.ByAgent() {
			chain = append(chain, s)
		}
	}
	other, rows := w.second()
	_, err := other.Accept(rows, m.key.Public(), chain)
	check(t, err)
	_, err = other.Checkpoint(rows)
	check(t, err)
	var b bytes.Buffer
	check(t, export.Write(&b, rows, other.Origin(), other.Keys()...))
	r, err := verify.Export(&b, w.state.Fingerprint(), w.now)
	check(t, err)
	wantFinding(t, r, finding.ApprovalMissing, 1)
	for _, f := range r.Findings {
		if f.Code != finding.ApprovalMissing {
			t.Errorf("found: %v", f)
		}
	}
}
