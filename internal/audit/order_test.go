package audit_test

import (
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/wire"
)

func TestSessionOrder(t *testing.T) {
	w := newWorld(t)
	m, n := w.agents[0], w.agents[1]
	id := wire.NewSessionID()
	w.say(m, entry.Entry{Type: entry.SessionEnd, Session: id})                     // 3: never began
	w.say(m, entry.Entry{Type: entry.SessionAccept, Session: id})                  // 4
	w.say(m, entry.Entry{Type: entry.SessionAccept, Session: id})                  // 5: again
	w.say(n, entry.Entry{Type: entry.ExecStart, Session: id})                      // 6: another agent's
	w.say(m, entry.Entry{Type: entry.ExecStart, Session: wire.NewSessionID()})     // 7: in none
	w.say(m, entry.Entry{Type: entry.SessionEnd, Session: id})                     // 8
	w.say(m, entry.Entry{Type: entry.SessionAccept, Session: wire.NewSessionID()}) // 9: stays open
	w.say(m, entry.Entry{Type: entry.ChannelOpen, Session: id})                    // 10: after its end
	r := w.verify(w.export())
	for _, n := range []int64{3, 5, 6, 7, 10} {
		wantFinding(t, r, finding.BadSession, n)
	}
	if len(r.Findings) != 5 || r.OpenSessions != 1 {
		t.Errorf("report %+v", r)
	}
}

// An operator draws the ids of its sessions and may draw one twice. If that were
// a finding, any operator could make the whole log look tampered with for ever.
func TestOperatorCannotSpoilTheLogWithASessionID(t *testing.T) {
	w := newWorld(t)
	m, n := w.agents[0], w.agents[1]
	id := wire.NewSessionID()
	w.say(m, entry.Entry{Type: entry.SessionAccept, Session: id, RequestHash: key.Hash{1}})
	w.say(n, entry.Entry{Type: entry.SessionAccept, Session: id, RequestHash: key.Hash{2}}) // at the same time
	for _, a := range []*machine{m, n} {
		w.say(a, entry.Entry{Type: entry.ExecStart, Session: id})
		w.say(a, entry.Entry{Type: entry.ChannelOpen, Session: id})
		w.say(a, entry.Entry{Type: entry.ExecEnd, Session: id})
		w.say(a, entry.Entry{Type: entry.SessionEnd, Session: id})
	}
	w.say(m, entry.Entry{Type: entry.SessionAccept, Session: id, RequestHash: key.Hash{3}}) // the agent is killed in it
	w.say(m, entry.Entry{Type: entry.SessionAccept, Session: id, RequestHash: key.Hash{4}})
	w.say(m, entry.Entry{Type: entry.SessionEnd, Session: id})
	if r := w.verify(w.export()); len(r.Findings) != 0 || r.OpenSessions != 0 {
		t.Errorf("report %+v", r)
	}
}

func TestTimesAgainstNeighbours(t *testing.T) {
	w := newWorld(t)
	at := func(shift time.Duration, record func()) {
		now := w.now
		w.now = now.Add(shift)
		record()
		w.now = now.Add(time.Second)
	}
	w.pass(24 * time.Hour)
	w.record(entry.Entry{Type: entry.Login})                                             // 3
	at(-time.Hour, func() { w.record(entry.Entry{Type: entry.Login}) })                  // 4: before its neighbour
	at(time.Hour, func() { w.say(w.agents[0], entry.Entry{Type: entry.AgentStart}) })    // 5: ahead of the log
	w.record(entry.Entry{Type: entry.Login})                                             // 6 shows it
	at(-2*time.Hour, func() { w.say(w.agents[1], entry.Entry{Type: entry.AgentStart}) }) // 7: delivered late, fine
	at(0, func() { w.say(w.agents[1], entry.Entry{Type: entry.AgentStop}) })             // 8
	at(-time.Hour, func() { w.say(w.agents[1], entry.Entry{Type: entry.AgentStart}) })   // 9: its clock went back
	at(48*time.Hour, func() { w.record(entry.Entry{Type: entry.Login}) })                // 10: in the future
	w.pass(2 * time.Hour)
	r := w.verify(w.export())
	for _, n := range []int64{4, 5, 9, 10} {
		wantFinding(t, r, finding.BadTime, n)
	}
	if len(r.Findings) != 4 {
		t.Errorf("findings %v", r.Findings)
	}
}

func TestDuplicateIDs(t *testing.T) {
	w := newWorld(t)
	for _, m := range w.agents {
		e := entry.Entry{Type: entry.AgentStart, Time: wire.At(w.now), ID: wire.Nonce{9}, Team: w.state.Team(), Seq: 1}
		s, err := statement.Sign(m.key, e)
		check(t, err)
		check(t, put(w.rows, int64(len(w.rows.entries)), s))
	}
	r := w.verify(w.export())
	wantFinding(t, r, finding.DuplicateID, 4)
	if len(r.Findings) != 1 {
		t.Errorf("findings %v", r.Findings)
	}
}

func TestRosterVersionThatDoesNotExist(t *testing.T) {
	w := newWorld(t)
	w.record(entry.Entry{Type: entry.RosterPublish, RosterVersion: 7})
	wantFinding(t, w.verify(w.export()), finding.BadRoster, 3)
}
