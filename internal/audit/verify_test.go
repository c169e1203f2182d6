package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/export"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/ledger"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// busy is a world with some history and checkpoints in between.
func busy(t testing.TB) *world {
	w := newWorld(t)
	w.say(w.agents[0], entry.Entry{Type: entry.AgentStart})
	w.checkpoint()
	w.exec(w.agents[0], []string{"systemctl", "restart", "nginx"}, w.bob)
	w.exec(w.agents[1], []string{"rm", "-rf", "/srv/old"}, w.bob, w.cid)
	w.checkpoint()
	w.record(entry.Entry{Type: entry.Login, Actor: entry.Actor{Kid: w.ann.ID()}})
	w.say(w.agents[1], entry.Entry{Type: entry.SessionRefuse, Refusal: refusal.PolicyDenied})
	w.exec(w.agents[0], []string{"uptime"}, w.bob)
	for _, m := range w.agents {
		w.register(m)
	}
	w.pass(time.Hour)
	w.record(entry.Entry{Type: entry.AuditExport})
	return w
}

// brief is the shortest world that has every kind of entry in it.
func brief(t testing.TB) *world {
	w := newWorld(t)
	w.say(w.agents[0], entry.Entry{Type: entry.AgentStart})
	w.checkpoint()
	w.exec(w.agents[0], []string{"systemctl", "restart", "nginx"}, w.bob)
	w.register(w.agents[0])
	w.pass(time.Hour)
	w.record(entry.Entry{Type: entry.AuditExport})
	return w
}

func TestHonestLogVerifies(t *testing.T) {
	w := busy(t)
	r := w.verify(w.export())
	wantClean(t, r)
	if r.Verdict() != verify.Holds || r.Size != int64(len(w.rows.entries)) || r.Checkpoints != 3 || r.Hosts != 2 || r.OpenSessions != 0 || r.Team != w.state.Team() {
		t.Errorf("report %+v", r)
	}
}

// entryLines returns the positions of the entries among the lines.
func entryLines(lines []string) (at []int) {
	for i, l := range lines {
		if strings.HasPrefix(l, `{"index":`) {
			at = append(at, i)
		}
	}
	return at
}

// renumber does what an attacker does after moving lines.
func renumber(lines []string) []string {
	lines = slices.Clone(lines)
	for n, i := range entryLines(lines) {
		_, rest, _ := strings.Cut(lines[i], ",")
		lines[i] = fmt.Sprintf(`{"index":%d,%s`, n, rest)
	}
	end := len(lines) - 1
	if strings.HasPrefix(lines[end], `{"end":`) {
		lines[end] = fmt.Sprintf("{\"end\":%d}\n", len(entryLines(lines)))
	}
	return lines
}

// edited flips one character of the entry's payload.
func edited(line string) string {
	i := strings.Index(line, `"payload":"`) + len(`"payload":"`) + 40
	c := byte('A')
	if line[i] == c {
		c = 'B'
	}
	return line[:i] + string(c) + line[i+1:]
}

// N1: each manipulation of each entry in turn is found, and a finding names the
// entry or the shortest range that it can lie in.
func TestN1EachEntryInTurn(t *testing.T) {
	w := brief(t)
	lines := w.export()
	at := entryLines(lines)
	foreign := statement.Signed(w.forged(t))
	manipulations := map[string]func(n int) []string{
		"edit":   func(n int) []string { l := slices.Clone(lines); l[at[n]] = edited(l[at[n]]); return l },
		"delete": func(n int) []string { return renumber(slices.Delete(slices.Clone(lines), at[n], at[n]+1)) },
		"duplicate": func(n int) []string {
			return renumber(slices.Insert(slices.Clone(lines), at[n]+1, lines[at[n]]))
		},
		"insert": func(n int) []string {
			return renumber(slices.Insert(slices.Clone(lines), at[n], fmt.Sprintf("{\"index\":0,\"entry\":%s}\n", foreign)))
		},
		"swap": func(n int) []string {
			if n+1 == len(at) {
				return nil
			}
			l := slices.Clone(lines)
			l[at[n]], l[at[n+1]] = l[at[n+1]], l[at[n]]
			return renumber(l)
		},
		"truncate": func(n int) []string {
			l := slices.Clone(lines[:at[n]])
			return append(l, fmt.Sprintf("{\"end\":%d}\n", n))
		},
	}
	for what, do := range manipulations {
		for n := range at {
			changed := do(n)
			if changed == nil {
				continue
			}
			r := w.verify(changed, w.checkpointOf(lines))
			if r.Verdict() == verify.Holds {
				t.Errorf("%s of entry %d is not found", what, n)
				continue
			}
			if !slices.ContainsFunc(r.Findings, func(f finding.Finding) bool { return f.Entry <= int64(n)+1 && int64(n) <= f.Last }) {
				t.Errorf("%s of entry %d is found elsewhere: %v", what, n, r.Findings)
			}
		}
	}
}

// forged is an entry by a key that the team does not know.
func (w *world) forged(t *testing.T) statement.Signed {
	_, s, err := entry.Sign(private[key.Audit](t, 99), entry.Entry{Type: entry.Login, Time: wire.At(w.now)}, w.state.Team(), 5, key.Hash{})
	check(t, err)
	return s
}

// checkpointOf is what a witness of the whole log remembers.
func (w *world) checkpointOf(lines []string) string {
	var l export.Line
	check(w.t, json.Unmarshal([]byte(lines[len(lines)-2]), &l))
	return l.Checkpoint
}

// An edited entry is named exactly, and so is a line whose number is wrong.
func TestN1EditIsNamedExactly(t *testing.T) {
	w := brief(t)
	lines := w.export()
	for n, i := range entryLines(lines) {
		l := slices.Clone(lines)
		l[i] = edited(l[i])
		wantFinding(t, w.verify(l), finding.BadEntry, int64(n))
	}
	at := entryLines(lines)
	l := slices.Delete(slices.Clone(lines), at[5], at[5]+1)
	wantFinding(t, w.verify(l), finding.BadOrder, 5)
}

// Without a remembered checkpoint an older export looks whole; with one it is called
// what it is. It may be an honest one, so it is not called broken.
func TestN1OlderExportIsOutdated(t *testing.T) {
	w := newWorld(t)
	w.record(entry.Entry{Type: entry.Login})
	old := w.export()
	then := w.checkpointOf(old)
	w.record(entry.Entry{Type: entry.Login})
	note := w.checkpoint()
	wantClean(t, w.verify(old))
	wantClean(t, w.verify(old, then))
	for _, known := range [][]string{{note}, {then, note}} {
		r := w.verify(old, known...)
		wantFinding(t, r, finding.Outdated, 4)
		if len(r.Findings) != 1 || r.Verdict() != verify.Older || r.Size != 4 || r.Seen != 5 {
			t.Errorf("%s: %+v", r.Verdict(), r)
		}
	}
}

// Whoever cuts a newer export short does not get off as the keeper of an old one,
// wherever the cut is and whatever the last line says.
func TestN1CutOffIsNotOutdated(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		w.record(entry.Entry{Type: entry.Login})
		w.checkpoint()
	}
	whole := w.export()
	note := w.checkpointOf(whole)
	old := w.verify(whole).Size - 1
	last := len(whole) - 1 // lines: … entry, checkpoint, entry, checkpoint, end
	end := func(n int64) string { return fmt.Sprintf("{\"end\":%d}\n", n) }
	for name, lines := range map[string][]string{
		"no last line":                  whole[:last-2],
		"the newer end":                 append(slices.Clone(whole[:last-2]), whole[last]),
		"the newer checkpoint":          append(slices.Clone(whole[:last-2]), whole[last-1], end(old)),
		"no checkpoint of its own":      append(slices.Clone(whole[:last-3]), end(old)),
		"the newer entry, not its note": append(slices.Clone(whole[:last-1]), end(old+1)),
		"an end that says less":         append(slices.Clone(whole[:last-2]), end(old-1)),
	} {
		if r := w.verify(lines, note); r.Verdict() != verify.Broken {
			t.Errorf("%s: %s, %v", name, r.Verdict(), r.Findings)
		} else if slices.ContainsFunc(r.Findings, func(f finding.Finding) bool { return f.Code == finding.Outdated }) {
			t.Errorf("%s: outdated: %v", name, r.Findings)
		}
	}
	if r := w.verify(append(slices.Clone(whole[:last-2]), end(old)), note); r.Verdict() != verify.Older {
		t.Errorf("cut at a checkpoint, which is an old export: %v", r.Findings)
	}
	damaged := append(slices.Clone(whole[:last-2]), end(old))
	damaged[entryLines(damaged)[1]] = edited(damaged[entryLines(damaged)[1]])
	if r := w.verify(damaged, note); r.Verdict() != verify.Broken {
		t.Errorf("old and edited: %v", r.Findings)
	}
}

// An old export of a log that forked is one of two logs: the reader who knows a
// checkpoint inside of it says so, whatever else it remembers.
func TestN1OldExportOfAForkIsNoOldExport(t *testing.T) {
	w, evil := newWorld(t), newWorld(t)
	w.record(entry.Entry{Type: entry.Login})
	first := w.checkpoint()
	w.record(entry.Entry{Type: entry.Login})
	w.record(entry.Entry{Type: entry.Login})
	note := w.checkpoint()
	evil.record(entry.Entry{Type: entry.Login, Actor: entry.Actor{Email: "mallory@example.org"}})
	evil.record(entry.Entry{Type: entry.Login})
	r := evil.verify(evil.export(), first, note)
	wantFinding(t, r, finding.RootMismatch, 3)
	if r.Verdict() != verify.Broken {
		t.Error(r.Verdict())
	}
}

// A log that was written anew, with the server's stolen key, is consistent in
// itself; whoever remembers a checkpoint sees it.
func TestWholeLogReplaced(t *testing.T) {
	w := newWorld(t)
	w.record(entry.Entry{Type: entry.Login, Actor: entry.Actor{Email: "mallory@example.org"}})
	note := w.checkpoint()
	v := newWorld(t)
	v.record(entry.Entry{Type: entry.Login, Actor: entry.Actor{Email: "nobody@example.org"}})
	wantClean(t, v.verify(v.export()))
	wantFinding(t, v.verify(v.export(), note), finding.RootMismatch, 3)
}

func TestN3ServerDropsAgentsEntry(t *testing.T) {
	w := newWorld(t)
	m := w.agents[0]
	w.say(m, entry.Entry{Type: entry.AgentStart})
	w.sayOnly(m, entry.Entry{Type: entry.SessionRefuse, Refusal: refusal.PolicyDenied})
	w.sayOnly(m, entry.Entry{Type: entry.AgentStop})
	list, err := m.spool.Pending(0, 16)
	check(t, err)

	// The honest log refuses what does not follow.
	if _, err := w.log.Accept(w.rows, m.key.Public(), list[1:]); refusal.Of(err) != refusal.Gap {
		t.Errorf("gap accepted: %v", err)
	}
	// A lying server stores it all the same and signs.
	check(t, put(w.rows, int64(len(w.rows.entries)), list[1]))
	r := w.verify(w.export())
	wantFinding(t, r, finding.ChainGap, 4)
}

func TestN3ServerDropsTheEndOfAChain(t *testing.T) {
	w := newWorld(t)
	m := w.agents[0]
	w.say(m, entry.Entry{Type: entry.AgentStart})
	w.sayOnly(m, entry.Entry{Type: entry.ExecStart})
	w.register(m) // the agent signs that there are two
	w.record(entry.Entry{Type: entry.AuditExport})
	if r := w.verify(w.export()); r.Verdict() != verify.Holds || r.Behind != 1 {
		t.Errorf("an entry on its way: %+v", r)
	}
	w.pass(time.Hour)
	w.record(entry.Entry{Type: entry.AuditExport})
	wantFinding(t, w.verify(w.export()), finding.HeadMissing, -1)
}

// The agent signed another entry of that number than the log holds.
func TestAgentsHeadContradictsTheLog(t *testing.T) {
	w := newWorld(t)
	m := w.agents[0]
	w.say(m, entry.Entry{Type: entry.AgentStart})
	w.rows.hosts = nil
	reg, err := statement.Sign(m.key, wire.Registration{
		ID: wire.NewNonce(), IssuedAt: wire.At(w.now), Team: w.state.Team(), Agent: m.key.Public(), AuditSeq: 1, AuditHead: key.Hash{1},
	})
	check(t, err)
	m.host.Registration = reg
	w.rows.hosts = []export.Host{m.host, w.agents[1].host}
	wantFinding(t, w.verify(w.export()), finding.ChainFork, 3)
}

func TestN4EntryByARevokedKey(t *testing.T) {
	w := newWorld(t)
	m := w.agents[0]
	w.say(m, entry.Entry{Type: entry.AgentStart})
	w.grow(func(r *roster.Roster) { r.Revoke(m.key.ID()) })
	honest := w.export()
	wantClean(t, w.verify(honest))
	w.say(m, entry.Entry{Type: entry.AgentStop})
	r := w.verify(w.export())
	wantFinding(t, r, finding.BadSigner, int64(len(w.rows.entries)-1))

	// Back-dating does not help: its place in the log is after the revocation.
	now := w.now
	w.now = start
	w.say(m, entry.Entry{Type: entry.AgentStart})
	w.now = now
	wantFinding(t, w.verify(w.export()), finding.BadSigner, int64(len(w.rows.entries)-1))
}

func TestN4RevokedAuditKey(t *testing.T) {
	w := newWorld(t)
	next := private[key.Audit](t, 44)
	w.grow(func(r *roster.Roster) {
		r.Revoke(w.server.ID())
		r.Servers[0].Keys.Audit = next.Public()
	})
	former, err := ledger.New("rendezvous.example", w.state.Team(), w.server, next.Public())
	check(t, err)
	w.log, err = ledger.New("rendezvous.example", w.state.Team(), next, w.server.Public())
	check(t, err)
	w.record(entry.Entry{Type: entry.Login})
	clean := w.verify(w.export())
	// The old key still signed that the roster with its own end was published.
	for _, f := range clean.Findings {
		if f.Entry != 3 {
			t.Errorf("found: %v", f)
		}
	}
	w.log = former
	w.record(entry.Entry{Type: entry.Login})
	wantFinding(t, w.verify(w.export()), finding.BadSigner, 5)
}

func TestServerCannotSpeakForAnAgent(t *testing.T) {
	w := newWorld(t)
	if _, err := w.log.Record(w.rows, entry.Entry{Type: entry.ExecStart, Time: wire.At(w.now)}); err == nil {
		t.Error("the log recorded an agent's event")
	}
	seq, head, _ := w.rows.AuditHead(w.server.ID())
	_, s, err := entry.Sign(w.server, entry.Entry{Type: entry.ExecStart, Time: wire.At(w.now)}, w.state.Team(), seq+1, head)
	check(t, err)
	check(t, put(w.rows, 3, s))
	wantFinding(t, w.verify(w.export()), finding.BadSigner, 3)
}

func TestAgentCannotSpeakForTheServer(t *testing.T) {
	w := newWorld(t)
	m := w.agents[0]
	_, s, err := entry.Sign(m.key, entry.Entry{Type: entry.RequestApprove, Time: wire.At(w.now)}, w.state.Team(), 1, key.Hash{})
	check(t, err)
	if _, err := w.log.Accept(w.rows, m.key.Public(), []statement.Signed{s}); refusal.Of(err) != refusal.WrongType {
		t.Errorf("accepted: %v", err)
	}
	check(t, put(w.rows, 3, s))
	wantFinding(t, w.verify(w.export()), finding.BadSigner, 3)
}

func TestHostWithoutCertificate(t *testing.T) {
	w := newWorld(t)
	stranger := private[key.Agent](t, 77)
	forged := w.agents[0].cert
	forged.Agent = stranger.Public()
	cert, err := statement.Sign(private[key.Token](t, 78), forged)
	check(t, err)
	w.rows.hosts = append(w.rows.hosts, export.Host{Token: w.agents[0].host.Token, Certificate: cert, Registration: w.agents[0].host.Registration})
	_, s, err := entry.Sign(stranger, entry.Entry{Type: entry.AgentStart, Time: wire.At(w.now)}, w.state.Team(), 1, key.Hash{})
	check(t, err)
	check(t, put(w.rows, 3, s))
	r := w.verify(w.export())
	wantFinding(t, r, finding.BadHost, -1)
	wantFinding(t, r, finding.BadSigner, 3)
}

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

func TestCheckpointManipulation(t *testing.T) {
	w := busy(t)
	lines := w.export()
	var notes []int
	for i, l := range lines {
		if strings.HasPrefix(l, `{"checkpoint":`) {
			notes = append(notes, i)
		}
	}
	last := notes[len(notes)-1]
	moved := slices.Delete(slices.Clone(lines), notes[0], notes[0]+1)
	moved = slices.Insert(moved, notes[0]+2, lines[notes[0]])
	wantFinding(t, w.verify(moved), finding.BadCheckpoint, 4)
	wantFinding(t, w.verify(slices.Delete(slices.Clone(lines), last, last+1)), finding.NotCovered, int64(len(w.rows.entries)-1))

	other, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: w.log.Origin(), Head: tree.Head{Size: int64(len(w.rows.entries)), Root: key.Hash{1}}}, private[key.Audit](t, 99))
	check(t, err)
	raw, err := json.Marshal(export.Line{Checkpoint: other})
	check(t, err)
	wantFinding(t, w.verify(slices.Insert(slices.Clone(lines), last, string(raw)+"\n")), finding.BadCheckpoint, int64(len(w.rows.entries)-1))

	lying, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: w.log.Origin(), Head: tree.Head{Size: int64(len(w.rows.entries)), Root: key.Hash{1}}}, w.server)
	check(t, err)
	raw, err = json.Marshal(export.Line{Checkpoint: lying})
	check(t, err)
	wantFinding(t, w.verify(slices.Insert(slices.Clone(lines), last, string(raw)+"\n")), finding.RootMismatch, int64(len(w.rows.entries)-1))
}

// Every checkpoint covers all entries before it, so taking out an earlier one changes
// nothing that is proven of the entries. The newest one cannot be taken out unseen.
func TestEarlierCheckpointsMayBeMissing(t *testing.T) {
	w := busy(t)
	whole := w.verify(w.export())
	var lines []string
	notes := 0
	for _, l := range w.export() {
		if strings.HasPrefix(l, `{"checkpoint":`) {
			if notes++; notes < whole.Checkpoints {
				continue
			}
		}
		lines = append(lines, l)
	}
	r := w.verify(lines)
	wantClean(t, r)
	if r.Checkpoints != 1 || r.Size != whole.Size || r.Root != whole.Root {
		t.Errorf("%d checkpoints, %d entries; with all of them %+v", r.Checkpoints, r.Size, whole)
	}
	// An entry that is gone is found all the same.
	for i, l := range lines {
		if strings.HasPrefix(l, `{"index":1,`) {
			lines = slices.Delete(lines, i, i+1)
			break
		}
	}
	if r := w.verify(lines); r.Verdict() != verify.Broken {
		t.Errorf("without an entry: %s", r.Verdict())
	}
}

func TestWhatIsNoExport(t *testing.T) {
	w := busy(t)
	lines := w.export()
	other := newWorld(t)
	for name, l := range map[string][]string{
		"empty": {}, "text": {"hello\n"}, "json": {"{}\n"}, "only a head": lines[:1], "no roster": lines[:2],
		"no root": append([]string{lines[0]}, lines[2:]...), "entries first": lines[5:],
		"other format": append([]string{strings.Replace(lines[0], "v1", "v2", 1)}, lines[1:]...),
		"other origin": append([]string{strings.Replace(lines[0], "/audit/07", "/audit/08", 1)}, lines[1:]...),
		"roster twice": slices.Insert(slices.Clone(lines), 3, edited(lines[2])),
	} {
		if r, err := verify.Export(strings.NewReader(joined(l)), w.state.Fingerprint(), w.now); err == nil {
			t.Errorf("%s: no error, report %+v", name, r)
		}
	}
	if _, err := verify.Export(strings.NewReader(joined(lines)), key.Hash{1}, w.now); refusal.Of(err) != refusal.BadChain {
		t.Errorf("other fingerprint: %v", err)
	}
	if _, err := verify.Export(strings.NewReader(joined(lines)), w.state.Fingerprint(), w.now, "nonsense"); err == nil {
		t.Error("a remembered checkpoint that is none: no error")
	}
	if _, err := verify.Export(io.MultiReader(strings.NewReader(joined(lines)), broken{}), w.state.Fingerprint(), w.now); err == nil {
		t.Error("a read error is swallowed")
	}
	wantClean(t, other.verify(other.export()))
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("disk") }

func TestLinesThatDoNotBelong(t *testing.T) {
	w := busy(t)
	lines := w.export()
	at := entryLines(lines)[3]
	for name, extra := range map[string]string{
		"garbage": "garbage\n", "root": lines[1], "host": lines[3], "unknown": "{\"x\":1}\n", "two values": "{\"end\":1}{\"end\":1}\n", "blank": "\n",
		"null": "{\"entry\":null}\n", "number": "7\n",
	} {
		r := w.verify(slices.Insert(slices.Clone(lines), at, extra))
		if len(r.Findings) != 1 || r.Findings[0].Code != finding.BadLine || r.Findings[0].Entry != 3 {
			t.Errorf("%s: %v", name, r.Findings)
		}
	}
	r := w.verify(append(slices.Clone(lines), lines[at]))
	wantFinding(t, r, finding.BadLine, r.Size)
	wantFinding(t, w.verify(lines[:len(lines)-1]), finding.Truncated, r.Size)
	end := slices.Clone(lines)
	end[len(end)-1] = "{\"end\":3}\n"
	wantFinding(t, w.verify(end), finding.Truncated, r.Size)
	many := slices.Repeat([]string{"garbage\n"}, verify.MaxFindings+5)
	if r := w.verify(append(slices.Clone(lines), many...)); len(r.Findings) != verify.MaxFindings || r.More != 5 || r.Verdict() != verify.Broken {
		t.Errorf("%d findings and %d more", len(r.Findings), r.More)
	}
}

func TestFindingsAreReadable(t *testing.T) {
	for want, f := range map[string]finding.Finding{
		"bad_host: x":                  {Entry: -1, Last: -1, Code: finding.BadHost, Detail: "x"},
		"entry 3: bad_entry: x":        {Entry: 3, Last: 3, Code: finding.BadEntry, Detail: "x"},
		"entries 3 to 9: truncated: x": {Entry: 3, Last: 9, Code: finding.Truncated, Detail: "x"},
	} {
		if f.String() != want {
			t.Errorf("%q", f)
		}
	}
}

// s3cret stands for a secret; no entry may hold it.
const s3cret = "Hunter2xYz"

func text(argv []wire.Bytes) string { return string(bytes.Join(plain(argv), []byte("|"))) }

// No way into the log leads past the redactor, and entries stay below the size
// that fits into a frame whatever they hold.
func TestN8NothingIsSignedUnredacted(t *testing.T) {
	w := newWorld(t)
	for _, argv := range [][]string{
		{"tool", "--password", s3cret}, {"sudo", "mysql", "-p" + s3cret}, {"sh", "-c", "PGPASSWORD=" + s3cret + " psql"},
		{"curl", "https://bob:" + s3cret + "@host/"}, {"curl", "-d", `{"password":"` + s3cret + `"}`},
	} { // package redact's own tests have the whole corpus
		var command entry.Command
		for _, arg := range argv {
			command.Argv = append(command.Argv, wire.Bytes(arg))
		}
		w.say(w.agents[0], entry.Entry{Type: entry.SessionRefuse, Command: &command})
		command.Cwd = wire.Bytes("/x?token=" + s3cret)
		w.record(entry.Entry{Type: entry.SessionDeny, Command: &command})
	}
	for i, s := range w.rows.entries {
		e := entry.Peek(s)
		raw, err := json.Marshal(e)
		check(t, err)
		if e.Command == nil {
			continue
		}
		all := text(e.Command.Argv) + string(e.Command.Cwd) + string(raw)
		if strings.Contains(strings.ToLower(all), strings.ToLower(s3cret)) {
			t.Errorf("entry %d holds a secret: %s", i, text(e.Command.Argv))
		}
	}
}

// Each event belongs to exactly one side.
func TestEventsHaveOneSigner(t *testing.T) {
	agents := []entry.EventType{entry.AgentStart, entry.AgentStop, entry.RosterApplied, entry.SessionAccept, entry.SessionRefuse, entry.SessionEnd, entry.ExecStart, entry.ExecEnd, entry.ChannelOpen, entry.SpoolGap}
	servers := []entry.EventType{
		entry.TeamFound, entry.RosterPublish, entry.TokenPublish, entry.AgentJoin, entry.AgentConnect, entry.AgentDelete, entry.Login, entry.LoginRefuse, entry.SessionOpen, entry.SessionDeny,
		entry.RequestWait, entry.RequestApprove, entry.RequestDeny, entry.RequestCancel, entry.RequestExpire, entry.AuditExport, entry.Alarm,
	}
	for _, e := range agents {
		if !e.ByAgent() {
			t.Errorf("%s is the server's", e)
		}
	}
	for _, e := range servers {
		if e.ByAgent() {
			t.Errorf("%s is the agent's", e)
		}
	}
	w := newWorld(t)
	for _, e := range servers {
		w.record(entry.Entry{Type: e})
	}
	for _, e := range agents {
		if e != entry.SpoolGap {
			w.say(w.agents[0], entry.Entry{Type: e, Session: wire.SessionID{1}})
		}
	}
	for _, f := range w.verify(w.export()).Findings {
		if f.Code != finding.BadSession { // accepted, ended, and then a command
			t.Error(f)
		}
	}
}
