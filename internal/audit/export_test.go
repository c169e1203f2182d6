package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/export"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// kinds names each line of an export by its first member.
func kinds(t *testing.T, lines []string) (list []string) {
	t.Helper()
	for _, l := range lines {
		name, _, found := strings.Cut(strings.TrimPrefix(l, `{"`), `"`)
		if !found {
			t.Fatalf("line %.40q", l)
		}
		list = append(list, name)
	}
	return list
}

// The order that the package comment promises, with each approval right before
// the entry that names it and each checkpoint right behind its last entry.
func TestExportHasTheDocumentedOrder(t *testing.T) {
	w := newWorld(t)
	w.checkpoint()
	w.exec(w.agents[0], []string{"reboot"}, w.bob, w.cid)
	got := strings.Join(kinds(t, w.export()), " ")
	want := "format root roster agent agent index index index checkpoint index approval approval index approval approval index index index checkpoint end"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestExportOfAnEmptyLog(t *testing.T) {
	w := newWorld(t)
	rows := newMemory()
	rows.root, rows.rosters = w.rows.root, w.rows.rosters
	var b bytes.Buffer
	check(t, w.write(&b, rows))
	r, err := verify.Export(&b, w.state.Fingerprint(), w.now)
	check(t, err)
	wantClean(t, r)
	if r.Size != 0 || r.Checkpoints != 0 {
		t.Errorf("report %+v", r)
	}
}

// More checkpoints and entries than one page of either.
func TestExportOfManyPages(t *testing.T) {
	w := newWorld(t)
	for range page + 3 {
		w.record(entry.Entry{Type: entry.Login})
		w.checkpoint()
	}
	r := w.verify(w.export())
	wantClean(t, r)
	if r.Checkpoints != page+3 || r.Size != int64(len(w.rows.entries)) {
		t.Errorf("report %+v", r)
	}
}

// Export stops at the newest checkpoint: what is not signed for does not leave.
func TestExportLeavesOutWhatNoCheckpointCovers(t *testing.T) {
	w := newWorld(t)
	w.checkpoint()
	w.record(entry.Entry{Type: entry.Login})
	var b bytes.Buffer
	check(t, w.write(&b, w.rows))
	r, err := verify.Export(&b, w.state.Fingerprint(), w.now)
	check(t, err)
	wantClean(t, r)
	if r.Size != 3 {
		t.Errorf("%d entries", r.Size)
	}
}

// lame fails the n-th call, or gives too little.
type lame struct {
	*memory
	left  int
	short bool
}

func (l *lame) step() error {
	if l.left--; l.left == -1 {
		return errDisk
	}
	return nil
}
func (l *lame) Root() (statement.Signed, error) { return l.root, l.step() }
func (l *lame) Rosters(from uint64) ([]wire.RosterUpdate, error) {
	return l.rosters, l.step()
}
func (l *lame) Hosts(after key.ID, limit int) ([]export.Host, key.ID, error) {
	hosts, last, err := l.memory.Hosts(after, limit)
	return hosts, last, errors.Join(l.step(), err)
}
func (l *lame) Entries(a, b int64) ([]statement.Signed, error) {
	if l.short {
		b--
	}
	return l.entries[a:b], l.step()
}
func (l *lame) Checkpoints(after int64, limit int) ([]string, error) {
	list, err := l.memory.Checkpoints(after, limit)
	return list, errors.Join(l.step(), err)
}
func (l *lame) LastCheckpoint() (string, error) {
	s, err := l.memory.LastCheckpoint()
	return s, errors.Join(l.step(), err)
}
func (l *lame) Approval(h key.Hash) (statement.Signed, error) { return l.approvals[h], l.step() }

func TestExportPassesEveryErrorOn(t *testing.T) {
	w := newWorld(t)
	w.exec(w.agents[0], []string{"reboot"}, w.bob)
	w.checkpoint()
	for n := 0; ; n++ {
		src := &lame{memory: w.rows, left: n}
		err := w.write(io.Discard, src)
		if src.left >= 0 {
			if n < 8 || err != nil {
				t.Errorf("only %d calls, %v", n, err)
			}
			break
		}
		if !errors.Is(err, errDisk) {
			t.Errorf("call %d: %v", n, err)
		}
	}
	if err := w.write(io.Discard, &lame{memory: w.rows, left: 99, short: true}); err == nil {
		t.Error("an export with a missing entry was written")
	}
	full := writerFunc(func([]byte) (int, error) { return 0, errDisk })
	if err := w.write(full, w.rows); !errors.Is(err, errDisk) {
		t.Errorf("a full disk: %v", err)
	}
}

// An approval that the database lost is not the exporter's to judge: the export
// is written, and Verify names the entry.
func TestLostApprovalIsFoundByVerify(t *testing.T) {
	w := newWorld(t)
	w.exec(w.agents[0], []string{"reboot"}, w.bob)
	clear(w.rows.approvals)
	r := w.verify(w.export())
	wantFinding(t, r, finding.ApprovalMissing, 4)
	wantFinding(t, r, finding.ApprovalMissing, 5)
}

// page is how many rows the exporter asks for at once.
const page = 256

const (
	golden     = "testdata/export-v1.ndjson"
	goldenRoot = "08d39068eec9032738d85d7b43e737d2d8699d76f475299bcbff23dbed16b26d"
)

// The committed export is what earlier versions wrote; it must verify for ever.
// It is the export of busy, and is not made anew.
func TestGoldenExportVerifies(t *testing.T) {
	raw, err := os.ReadFile(golden)
	check(t, err)
	w := newWorld(t)
	r, err := verify.Export(bytes.NewReader(raw), w.state.Fingerprint(), start.Add(24*time.Hour))
	check(t, err)
	wantClean(t, r)
	if r.Size != 22 || r.Hosts != 2 || r.Checkpoints != 3 || r.Root.String() != goldenRoot {
		t.Errorf("report %+v", r)
	}
	for i, l := range strings.SplitAfter(strings.TrimSuffix(string(raw), "\n"), "\n") {
		var read export.Line
		check(t, json.Unmarshal([]byte(l), &read))
		var again bytes.Buffer
		enc := json.NewEncoder(&again)
		enc.SetEscapeHTML(false)
		check(t, enc.Encode(read))
		if strings.TrimSuffix(again.String(), "\n") != strings.TrimSuffix(l, "\n") {
			t.Errorf("line %d is encoded differently now", i+1)
		}
	}
}

func hostOf(token, certificate, registration statement.Signed) export.Host {
	return export.Host{Token: token, Certificate: certificate, Registration: registration}
}

func TestHostsThatDoNotHold(t *testing.T) {
	w := newWorld(t)
	good := slices.Clone(w.rows.hosts)
	for name, hosts := range map[string][]export.Host{
		"twice":                   {good[0], good[0], good[1]},
		"registration of another": {hostOf(good[0].Token, good[0].Certificate, good[1].Registration), good[1]},
		"no registration":         {hostOf(good[0].Token, good[0].Certificate, nil), good[1]},
		"registration is junk":    {hostOf(good[0].Token, good[0].Certificate, statement.Signed(`{}`)), good[1]},
		"certificate of another":  {hostOf(good[1].Token, good[0].Certificate, good[0].Registration), good[1]},
		"token instead":           {hostOf(good[0].Token, good[0].Token, good[0].Registration), good[1]},
		"no certificate":          {hostOf(good[0].Token, nil, good[0].Registration), good[1]},
	} {
		w.rows.hosts = hosts
		r := w.verify(w.export())
		if len(r.Findings) != 1 || r.Findings[0].Code != finding.BadHost {
			t.Errorf("%s: %v", name, r.Findings)
		}
	}
}

// Agents are verified by the newest roster; one that stands behind an agent would be
// newer than the newest.
func TestRosterBehindAnAgentIsRefused(t *testing.T) {
	w := newWorld(t)
	w.grow(func(*roster.Roster) {})
	lines := w.export()
	at := slices.Index(kinds(t, lines), "agent")
	lines[at-1], lines[at] = lines[at], lines[at-1]
	if _, err := verify.Export(strings.NewReader(joined(lines)), w.state.Fingerprint(), w.now); err == nil {
		t.Error("taken")
	}
}

// A key that was revoked later was good for what it signed before; so was the
// enroller that let the host in.
func TestHistoryOutlivesRevocation(t *testing.T) {
	w := newWorld(t)
	m := w.agents[0]
	w.say(m, entry.Entry{Type: entry.AgentStart})
	w.pass(time.Hour)
	w.grow(func(r *roster.Roster) {
		r.Revoke(m.key.ID(), private[key.Enroller](t, 5).ID())
		r.Enrollers = []roster.Enroller{}
	})
	r := w.verify(w.export())
	wantClean(t, r)
	if r.Hosts != 2 || r.RosterVersion != 2 {
		t.Errorf("report %+v", r)
	}
}

// The certificate had an end, and the host spoke after it.
func TestEntryAfterTheCertificateEnded(t *testing.T) {
	w := newWorld(t)
	k := private[key.Agent](t, 80)
	token := private[key.Token](t, 81)
	tok := roster.Token{
		ID: wire.Nonce{80}, Team: w.state.Team(), Fingerprint: w.state.Fingerprint(), Server: w.state.Roster().Servers[0].Address(),
		Tags: []string{}, IssuedAt: wire.At(w.now), ExpiresAt: wire.At(w.now.Add(time.Hour)), MaxUses: 1, Key: token.Public(),
	}
	var h export.Host
	var err error
	h.Token, err = roster.SignToken(private[key.Enroller](t, 5), tok)
	check(t, err)
	h.Certificate, err = roster.SignAgent(token, tok, roster.AgentCert{
		Team: w.state.Team(), Agent: k.Public(), Name: "short", Tags: []string{}, TokenID: tok.ID,
		IssuedAt: wire.At(w.now), NotAfter: wire.At(w.now.Add(time.Hour)),
	})
	check(t, err)
	h.Registration, err = statement.Sign(k, wire.Registration{ID: wire.NewNonce(), IssuedAt: wire.At(w.now), Team: w.state.Team(), Agent: k.Public()})
	check(t, err)
	w.rows.hosts = append(w.rows.hosts, h)
	previous := key.Hash{}
	for i, at := range []time.Duration{0, 2 * time.Hour} {
		_, s, err := entry.Sign(k, entry.Entry{Type: entry.AgentStart, Time: wire.At(w.now.Add(at))}, w.state.Team(), uint64(i+1), previous)
		check(t, err)
		_, err = w.log.Accept(w.rows, k.Public(), []statement.Signed{s})
		check(t, err)
		previous = s.Hash()
	}
	w.pass(3 * time.Hour)
	r := w.verify(w.export())
	wantFinding(t, r, finding.BadSigner, 4)
	if len(r.Findings) != 1 {
		t.Errorf("findings %v", r.Findings)
	}
}
