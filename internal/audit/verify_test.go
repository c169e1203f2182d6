package audit_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/diagnosis"
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
	if r.Verdict() != verify.HoldsTo || r.Size != int64(len(w.rows.entries)) || r.Checkpoints != 3 || r.Hosts != 2 || r.OpenSessions != 0 || r.Team != w.state.Team() {
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
	if r := w.verify(w.export()); r.Verdict() != verify.HoldsTo || r.Behind != 1 {
		t.Errorf("an entry on its way: %+v", r)
	}
	w.pass(time.Hour)
	w.record(entry.Entry{Type: entry.AuditExport})
	wantFinding(t, w.verify(w.export()), finding.HeadMissing, -1)
}

// contradict has an agent sign that its own chain is another one than the log's.
func (w *world) contradict(m *machine, seq uint64) {
	w.t.Helper()
	reg, err := statement.Sign(m.key, wire.Registration{
		ID: wire.NewNonce(), IssuedAt: wire.At(w.now), Team: w.state.Team(), Agent: m.key.Public(), AuditSeq: seq, AuditHead: key.Hash{1},
	})
	check(w.t, err)
	m.host.Registration = reg
	w.rows.hosts = []export.Host{m.host, w.agents[1].host}
}

// The agent signed another entry of that number than the log holds.
func TestAgentsHeadContradictsTheLog(t *testing.T) {
	w := newWorld(t)
	m := w.agents[0]
	w.say(m, entry.Entry{Type: entry.AgentStart})
	w.contradict(m, 1)
	wantFinding(t, w.verify(w.export()), finding.ChainFork, 3)
}

// A machine whose disk was set back signs two chains. Whoever reads the log years later
// is told which machine, what the log says of it, and that nobody touched the rest; and a
// log that somebody did touch is not excused by it.
func TestMachineThatForkedIsToldFromTampering(t *testing.T) {
	w := newWorld(t)
	m := w.agents[0]
	of := entry.Target{Agent: m.key.ID(), Name: m.cert.Name}
	w.say(m, entry.Entry{Type: entry.AgentStart})
	w.contradict(m, 1)
	says := func(want ...string) {
		t.Helper()
		r := w.verify(w.export())
		causes := r.Causes()
		if r.Verdict() != verify.Forked || len(causes) != 1 || causes[0].Kind != diagnosis.MachineForked || causes[0].Entry != 3 {
			t.Fatalf("%s: %v", r.Verdict(), causes)
		}
		for _, part := range append(want, "machine "+m.cert.Name+" ("+m.key.ID().ShortCode()+")") {
			if !strings.Contains(causes[0].Detail, part) {
				t.Errorf("%q does not say %q", causes[0].Detail, part)
			}
		}
	}
	says("set no alarm", "was not removed")
	w.record(entry.Entry{Type: entry.Alarm, Refusal: refusal.AuditFork, Target: of})
	says("alarm is entry 4", "was not removed")
	w.record(entry.Entry{Type: entry.AgentDelete, Target: of})
	says("alarm is entry 4", "entry 5 says that the machine was removed")
	lines := w.export()
	at := entryLines(lines)
	lines[at[4]] = edited(lines[at[4]]) // the alarm
	if r := w.verify(lines); r.Verdict() != verify.Broken || r.Causes()[0].Kind != diagnosis.WasEdited {
		t.Errorf("edited beside it: %s, %v", r.Verdict(), r.Causes())
	}
	w.grow(func(r *roster.Roster) { r.Revoke(m.key.ID()) })
	says("alarm is entry 4", "has revoked its key")
}

// Of entries that a machine signed and that are nowhere, a server's alarm proves nothing:
// it stays what it is, and the alarm is named.
func TestAlarmOfAForkExcusesNoMissingEntry(t *testing.T) {
	w := newWorld(t)
	m := w.agents[0]
	w.say(m, entry.Entry{Type: entry.AgentStart})
	w.contradict(m, 7)
	w.record(entry.Entry{Type: entry.Alarm, Refusal: refusal.AuditFork, Target: entry.Target{Agent: m.key.ID(), Name: m.cert.Name}})
	w.pass(time.Hour)
	w.record(entry.Entry{Type: entry.AuditExport})
	r := w.verify(w.export())
	wantFinding(t, r, finding.HeadMissing, -1)
	causes := r.Causes()
	if r.Verdict() != verify.Broken || causes[0].Kind != diagnosis.WasDeleted || !strings.Contains(causes[0].Detail, "machine "+m.cert.Name+" ") || !strings.Contains(causes[0].Detail, "alarm in entry 4") {
		t.Errorf("%s: %v", r.Verdict(), causes)
	}
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
	onlyCause(t, "stranger", r, diagnosis.Kind(finding.BadHost), "the certificate of an agent", "1 entry cannot be checked without it")
	wantFinding(t, r, finding.BadHost, 3)
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
