package audit_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/ledger"
	"github.com/tucdesk/tucdesk/internal/audit/spool"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

func wantCode(t testing.TB, err error, code refusal.Code) {
	t.Helper()
	if code == "" && err != nil || refusal.Of(err) != code {
		t.Errorf("got %v, want code %q", err, code)
	}
}

func TestSameSizeIsSignedOnce(t *testing.T) {
	w := newWorld(t)
	first := w.checkpoint()
	if second := w.checkpoint(); second != first || len(w.rows.notes) != 1 {
		t.Errorf("signed again: %d notes", len(w.rows.notes))
	}
}

func TestServerNeverSignsAForkedDatabase(t *testing.T) {
	for name, damage := range map[string]func(m *memory){
		"node changed":    func(m *memory) { m.hashes[2][0] ^= 1 },
		"set back":        func(m *memory) { m.entries, m.hashes = m.entries[:1], m.hashes[:1] },
		"other signature": func(m *memory) { m.notes[0] = strings.Replace(m.notes[0], "— r", "— s", 1) },
	} {
		for _, grow := range []bool{false, true} {
			w := newWorld(t)
			w.checkpoint()
			damage(w.rows)
			if grow && name != "set back" {
				w.record(entry.Entry{Type: entry.Login})
			}
			if signed, err := w.log.Checkpoint(w.rows); err == nil || signed != "" && len(w.rows.notes) != 1 {
				t.Errorf("%s, grown %v: signed %q, %v", name, grow, signed, err)
			}
		}
	}
}

func TestEmptyLogHasNoCheckpoint(t *testing.T) {
	l, err := ledger.New("r.example", wire.TeamID{1}, private[key.Audit](t, 4))
	check(t, err)
	rows := newMemory()
	signed, err := l.Checkpoint(rows)
	if err != nil || signed != "" {
		t.Errorf("%q, %v", signed, err)
	}
	if g, err := l.Gossip(rows, 0); err != nil || g.Checkpoint != "" {
		t.Errorf("%+v, %v", g, err)
	}
	for _, name := range []string{"", "a b", "a+b", "a\nb", "\xff", strings.Repeat("a", 301)} {
		if _, err := ledger.New(name, wire.TeamID{1}, private[key.Audit](t, 4)); err == nil {
			t.Errorf("%q is the name of a log", name)
		}
	}
}

func TestAcceptTakesEachEntryOnce(t *testing.T) {
	w := newWorld(t)
	m := w.agents[0]
	for range 3 {
		w.sayOnly(m, entry.Entry{Type: entry.AgentStart})
	}
	list, err := m.spool.Pending(0, 16)
	check(t, err)
	accept := func(list ...statement.Signed) (uint64, error) { return w.log.Accept(w.rows, m.key.Public(), list) }
	for range 2 {
		if seq, err := accept(list[0], list[1]); err != nil || seq != 2 {
			t.Fatalf("%d, %v", seq, err)
		}
	}
	if seq, err := accept(list...); err != nil || seq != 3 || len(w.rows.entries) != 6 {
		t.Fatalf("%d, %v, log has %d", seq, err, len(w.rows.entries))
	}

	refuse := func(code refusal.Code, s statement.Signed, err error) {
		t.Helper()
		check(t, err)
		_, err = accept(s)
		wantCode(t, err, code)
		if len(w.rows.entries) != 6 {
			t.Fatal("a refused entry was stored")
		}
	}
	head := list[2].Hash()
	now := wire.At(w.now)
	make := func(k key.Private[key.Agent], e entry.Entry) (statement.Signed, error) { return statement.Sign(k, e) }
	e := entry.Entry{ID: wire.NewNonce(), Type: entry.AgentStop, Time: now, Team: w.state.Team(), Seq: 4, Previous: head}
	edit := func(f func(*entry.Entry)) entry.Entry { c := e; f(&c); return c }
	s, err := make(m.key, edit(func(e *entry.Entry) { e.Seq = 5 }))
	refuse(refusal.Gap, s, err)
	s, err = make(m.key, edit(func(e *entry.Entry) { e.Seq = 0 }))
	refuse(refusal.Gap, s, err)
	s, err = make(m.key, edit(func(e *entry.Entry) { e.Seq = 3 }))
	refuse(refusal.AuditFork, s, err)
	s, err = make(m.key, edit(func(e *entry.Entry) { e.Previous = key.Hash{} }))
	refuse(refusal.BadChain, s, err)
	s, err = make(m.key, edit(func(e *entry.Entry) { e.Team = wire.TeamID{8} }))
	refuse(refusal.WrongTeam, s, err)
	s, err = make(m.key, edit(func(e *entry.Entry) { e.Type = entry.Login }))
	refuse(refusal.WrongType, s, err)
	s, err = make(w.agents[1].key, e)
	refuse(refusal.UnknownKey, s, err)
	refuse(refusal.BadStatement, statement.Signed("{}"), nil)
	_, err = accept(append(list, bytesOf(list[0], wire.MaxAuditBatch)...)...)
	wantCode(t, err, refusal.TooMany)
}

func bytesOf(s statement.Signed, n int) (list []statement.Signed) {
	for range n {
		list = append(list, s)
	}
	return list
}

func TestRecordNeedsTypeAndTime(t *testing.T) {
	w := newWorld(t)
	for _, e := range []entry.Entry{{}, {Type: entry.Login}, {Time: 1}, {Type: entry.Login, Time: -1}} {
		if _, err := w.log.Record(w.rows, e); err == nil {
			t.Errorf("recorded %+v", e)
		}
	}
}

// failing fails the n-th call of any kind.
type failing struct {
	*memory
	left int
}

var errDisk = errors.New("disk is full")

func (f *failing) step() error {
	if f.left--; f.left < 0 {
		return errDisk
	}
	return nil
}

func (f *failing) AuditExtend(n int64) (int64, error) {
	if err := f.step(); err != nil {
		return 0, err
	}
	return f.memory.AuditExtend(n)
}
func (f *failing) PutAuditEntry(i int64, id wire.Nonce, s statement.Signed) error {
	return errors.Join(f.step(), f.memory.PutAuditEntry(i, id, s))
}
func (f *failing) PutAuditHashes(i int64, h []key.Hash) error {
	return errors.Join(f.step(), f.memory.PutAuditHashes(i, h))
}
func (f *failing) AuditHashes(i []int64) ([]key.Hash, error) {
	if err := f.step(); err != nil {
		return nil, err
	}
	return f.memory.AuditHashes(i)
}
func (f *failing) AuditHead(k key.ID) (uint64, key.Hash, error) {
	seq, h, err := f.memory.AuditHead(k)
	return seq, h, errors.Join(f.step(), err)
}
func (f *failing) SetAuditHead(k key.ID, seq uint64, h key.Hash) error {
	return errors.Join(f.step(), f.memory.SetAuditHead(k, seq, h))
}
func (f *failing) PutCheckpoint(n int64, s string) error {
	return errors.Join(f.step(), f.memory.PutCheckpoint(n, s))
}
func (f *failing) LastCheckpoint() (string, error) {
	s, err := f.memory.LastCheckpoint()
	return s, errors.Join(f.step(), err)
}

// Each call to the database fails in turn: the error comes out, so that the
// transaction around it is given up.
func TestK18EveryDatabaseErrorComesOut(t *testing.T) {
	for n := range 30 {
		w := newWorld(t)
		w.checkpoint()
		f := &failing{memory: w.rows, left: n}
		_, err1 := w.log.Record(f, entry.Entry{Type: entry.Login, Time: 1})
		var err2 error
		if err1 == nil {
			_, err2 = w.log.Checkpoint(f)
		}
		if f.left >= 0 { // all calls were made, and none failed
			if n < 8 || err1 != nil || err2 != nil {
				t.Errorf("only %d calls, %v, %v", n, err1, err2)
			}
			return
		}
		if !errors.Is(errors.Join(err1, err2), errDisk) {
			t.Errorf("call %d: %v, %v", n, err1, err2)
		}
	}
	t.Error("more calls than were tried")
}

func TestExportOfADamagedDatabase(t *testing.T) {
	w := newWorld(t)
	w.checkpoint()
	w.rows.notes[0] = "nonsense"
	if err := w.write(io.Discard, w.rows); err == nil {
		t.Error("exported under a checkpoint that is none")
	}
}

// N6: what is appended while an export runs is not in it: it is, to the byte, the export
// before, which verifies.
func TestN6ExportWhileAppending(t *testing.T) {
	w := newWorld(t)
	for range 300 {
		w.record(entry.Entry{Type: entry.Login})
	}
	w.checkpoint()
	size := len(w.rows.entries)
	var before, out bytes.Buffer
	check(t, w.write(&before, w.rows))
	grows := writerFunc(func(p []byte) (int, error) {
		w.record(entry.Entry{Type: entry.Login})
		w.checkpoint()
		return out.Write(p)
	})
	check(t, w.write(grows, w.rows))
	if !bytes.Equal(out.Bytes(), before.Bytes()) || len(w.rows.entries) == size {
		t.Errorf("%d bytes, before %d; %d entries, before %d", out.Len(), before.Len(), len(w.rows.entries), size)
	}
	r, err := verify.Export(&before, w.state.Fingerprint(), w.now)
	check(t, err)
	wantClean(t, r)
	if r.Size != int64(size) {
		t.Errorf("exported %d of %d", r.Size, size)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// spoolFile is what package spool calls its file.
const spoolFile = "audit.spool"

func pendingOf(t testing.TB, s *spool.Spool) []statement.Signed {
	t.Helper()
	list, err := s.Pending(0, wire.MaxAuditBatch)
	check(t, err)
	return list
}

// Two agents of one machine, or one restored from an image: the chain is tied to
// the key, so the log takes only one of them.
func TestRestoredSpoolIsNoticed(t *testing.T) {
	w := newWorld(t)
	m := w.agents[0]
	dir := t.TempDir()
	w.say(m, entry.Entry{Type: entry.AgentStart})
	image, err := os.ReadFile(filepath.Join(m.dir, spoolFile))
	check(t, err)
	w.say(m, entry.Entry{Type: entry.AgentStop})
	check(t, os.WriteFile(filepath.Join(dir, spoolFile), image, 0o600))
	old, err := spool.Open(dir, m.key, w.state.Team())
	check(t, err)
	defer old.Close()
	wantCode(t, old.Claimed(2), refusal.AuditFork) // the server holds what the image does not know
	_, err = old.Append(entry.Entry{Type: entry.SessionRefuse, Time: wire.At(w.now)})
	check(t, err)
	list := pendingOf(t, old)
	_, err = w.log.Accept(w.rows, m.key.Public(), list)
	wantCode(t, err, refusal.AuditFork)
}

// What an agent writes whose disk was set back far is in no log: taken for what the log
// has under those numbers, it would go missing without a word.
func TestEntriesOfASpoolThatWasSetBackFarAreNotTakenForKnown(t *testing.T) {
	w := newWorld(t)
	m := w.agents[0]
	w.say(m, entry.Entry{Type: entry.AgentStart})
	image, err := os.ReadFile(filepath.Join(m.dir, spoolFile))
	check(t, err)
	for range 5 {
		w.say(m, entry.Entry{Type: entry.AgentStart})
	}
	before := w.rows.heads[m.key.ID()]
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, spoolFile), image, 0o600))
	old, err := spool.Open(dir, m.key, w.state.Team())
	check(t, err)
	defer old.Close()
	sent := pendingOf(t, old)
	seq, err := w.log.Accept(w.rows, m.key.Public(), sent) // what both have, sent again
	if check(t, err); seq != before.seq {
		t.Errorf("the log is at %d, not at %d", seq, before.seq)
	}
	_, err = old.Append(entry.Entry{Type: entry.SessionRefuse, Time: wire.At(w.now)})
	check(t, err)
	_, err = w.log.Accept(w.rows, m.key.Public(), pendingOf(t, old))
	wantCode(t, err, refusal.AuditFork)
	if w.rows.heads[m.key.ID()] != before {
		t.Error("the log took some of it")
	}
}

// The answer to a batch proves all of it, also what was sent before, and nothing
// that the log or its checkpoint does not have.
func TestAcknowledgementProvesTheBatch(t *testing.T) {
	w := newWorld(t)
	m := w.agents[0]
	for range 3 {
		w.sayOnly(m, entry.Entry{Type: entry.AgentStart})
	}
	list := pendingOf(t, m.spool)
	acknowledge := func(batch []statement.Signed, from int64) wire.AuditAck {
		t.Helper()
		ack, err := w.log.Acknowledge(w.rows, m.key.ID(), batch, from)
		check(t, err)
		return ack
	}
	if ack := acknowledge(list, 0); ack.Seq != 0 || len(ack.Proofs) != 0 || ack.Checkpoint.Checkpoint != "" {
		t.Errorf("of nothing: %+v", ack)
	}
	_, err := w.log.Accept(w.rows, m.key.Public(), list[:2])
	check(t, err)
	first, _, err := checkpoint.Open(w.checkpoint(), w.log.Origin(), w.server.Public())
	check(t, err)
	_, err = w.log.Accept(w.rows, m.key.Public(), list[2:])
	check(t, err)
	if ack := acknowledge(list, 0); ack.Seq != 3 || ack.First != 1 || len(ack.Proofs) != 2 {
		t.Errorf("no checkpoint covers the third, but: %d, %d proofs from %d on", ack.Seq, len(ack.Proofs), ack.First)
	}
	w.checkpoint()
	ack := acknowledge(list, first.Size)
	c, _, err := checkpoint.Open(ack.Checkpoint.Checkpoint, w.log.Origin(), w.server.Public())
	check(t, err)
	check(t, tree.CheckConsistency(first.Head, c.Head, ack.Checkpoint.Consistency))
	if n, err := m.spool.Proved(c.Head, ack.First, ack.Proofs); err != nil || n != 3 {
		t.Errorf("%d are proven, %v", n, err)
	}
	if ack := acknowledge(nil, 0); len(ack.Proofs) != 0 || ack.Seq != 3 {
		t.Errorf("of an empty batch: %+v", ack)
	}
	junk := []statement.Signed{statement.Signed("{}"), list[0]}
	if ack := acknowledge(junk, 0); len(ack.Proofs) != 0 {
		t.Errorf("of what is not there: %+v", ack)
	}
}
