package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

func wantCode(t testing.TB, err error, code refusal.Code) {
	t.Helper()
	if code == "" && err != nil || refusal.Of(err) != code {
		t.Errorf("got %v, want code %q", err, code)
	}
}

// A note of ours opens with the library's own verifier made from our key, so any
// tool that knows the format can read it.
func TestCheckpointIsAStandardNote(t *testing.T) {
	w := newWorld(t)
	signed := w.checkpoint()
	vkey, err := note.NewEd25519VerifierKey(w.log.Origin(), ed25519.PublicKey(w.server.Public().Bytes()))
	check(t, err)
	v, err := note.NewVerifier(vkey)
	check(t, err)
	n, err := note.Open([]byte(signed), note.VerifierList(v))
	check(t, err)
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[0] != "rendezvous.example/audit/"+w.state.Team().String() || lines[1] != "3" || lines[3] != "" {
		t.Errorf("text %q", n.Text)
	}
	c, kid, err := OpenCheckpoint(signed, w.log.Origin(), private[key.Audit](t, 50).Public(), w.server.Public())
	check(t, err)
	if c.Size != 3 || kid != w.server.ID() || c.text() != n.Text {
		t.Errorf("checkpoint %+v by %v", c, kid)
	}
}

func TestEveryByteOfACheckpointCounts(t *testing.T) {
	w := newWorld(t)
	signed := w.checkpoint()
	for i := range len(signed) {
		b := []byte(signed)
		b[i] ^= 1
		if _, _, err := OpenCheckpoint(string(b), w.log.Origin(), w.server.Public()); err == nil {
			t.Errorf("byte %d may be changed: %q", i, b)
		}
	}
	for i := range len(signed) {
		if _, _, err := OpenCheckpoint(signed[:i], w.log.Origin(), w.server.Public()); err == nil {
			t.Errorf("%d bytes are enough", i)
		}
	}
}

func TestCheckpointOfAnotherKeyOrLog(t *testing.T) {
	w := newWorld(t)
	signed := w.checkpoint()
	open := func(signed, origin string, k key.Public[key.Audit]) error {
		_, _, err := OpenCheckpoint(signed, origin, k)
		return err
	}
	wantCode(t, open(signed, w.log.Origin(), private[key.Audit](t, 50).Public()), refusal.BadSignature)
	wantCode(t, open(signed, w.log.Origin(), key.Public[key.Audit]{}), refusal.BadSignature)
	wantCode(t, open(signed, Origin("other.example", w.state.Team()), w.server.Public()), refusal.BadSignature)
	wantCode(t, open(signed, "", w.server.Public()), refusal.BadSignature)
	wantCode(t, open(signed+strings.Repeat("x", maxNote), w.log.Origin(), w.server.Public()), refusal.BadSignature)
	// Rightly signed under this name, with another log's text.
	msg, err := note.Sign(&note.Note{Text: Checkpoint{"other/audit/x", 1, key.Hash{}}.text()}, noteSigner{w.log.Origin(), w.server})
	check(t, err)
	wantCode(t, open(string(msg), w.log.Origin(), w.server.Public()), refusal.WrongTeam)
}

func TestN11CheckpointSizes(t *testing.T) {
	root := "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo="
	for text, ok := range map[string]bool{
		"o\n1\n" + root + "\n": true, "o\n281474976710656\n" + root + "\n": true,
		"o\n0\n" + root + "\n": false, "o\n-1\n" + root + "\n": false, "o\n+1\n" + root + "\n": false, "o\n01\n" + root + "\n": false,
		"o\n9223372036854775807\n" + root + "\n": false, "o\n9223372036854775808\n" + root + "\n": false, "o\n1e3\n" + root + "\n": false,
		"o\n1\n" + root: false, "o\n1\n" + root + "\nextension\n": false, "o\n1\n" + root[:43] + "\n": false, "o\n1\n\n": false, "": false,
		"o\r\n1\n" + root + "\n": true, // odd, but one spelling; no log has such a name
	} {
		if _, err := parseCheckpoint(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseCheckpoint(f *testing.F) {
	f.Add("rendezvous.example/audit/07\n42\nqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=\n")
	f.Add("\n1\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := parseCheckpoint(text); err == nil && c.text() != text {
			t.Errorf("%q has a second spelling", text)
		}
	})
}

func TestFrontierHasTheTreesRoots(t *testing.T) {
	w := newWorld(t)
	var f frontier
	if f.root() != sha256.Sum256(nil) {
		t.Error("root of nothing")
	}
	for n := range 70 {
		w.record(Entry{Type: Login})
		f = frontier{}
		for _, s := range w.rows.entries {
			f.add(tlog.RecordHash(s))
		}
		want, err := tlog.TreeHash(int64(n+4), hashReader(w.rows))
		check(t, err)
		if f.root() != key.Hash(want) || f.size != int64(n+4) {
			t.Fatalf("root of %d entries", n+4)
		}
	}
}

func TestProofsOfEveryEntryAndSize(t *testing.T) {
	w := newWorld(t)
	var points []Checkpoint
	for range 20 {
		w.record(Entry{Type: Login})
		c, _, err := OpenCheckpoint(w.checkpoint(), w.log.Origin(), w.server.Public())
		check(t, err)
		points = append(points, c)
	}
	newest := points[len(points)-1]
	for i, s := range w.rows.entries {
		proof, err := ProveInclusion(w.rows, int64(i), newest.Size)
		check(t, err)
		wantCode(t, CheckInclusion(newest, int64(i), s, proof), "")
		wantCode(t, CheckInclusion(newest, int64(i), s[1:], proof), refusal.AuditFork)
		wantCode(t, CheckInclusion(newest, int64(i)+1, s, proof), refusal.AuditFork)
		wantCode(t, CheckInclusion(newest, -1, s, proof), refusal.AuditFork)
		for j := range proof {
			proof[j][0] ^= 1
			wantCode(t, CheckInclusion(newest, int64(i), s, proof), refusal.AuditFork)
			proof[j][0] ^= 1
		}
	}
	for _, older := range points {
		g, err := w.log.Gossip(w.rows, older.Size)
		check(t, err)
		wantCode(t, CheckConsistency(older, newest, g.Consistency), "")
		if older != newest {
			wantCode(t, CheckConsistency(newest, older, g.Consistency), refusal.AuditFork)
			wantCode(t, CheckConsistency(older, newest, append(g.Consistency, key.Hash{})), refusal.AuditFork)
		}
		forged := older
		forged.Root[0] ^= 1
		wantCode(t, CheckConsistency(forged, newest, g.Consistency), refusal.AuditFork)
	}
	for _, c := range [][2]int64{{-1, 3}, {3, 3}, {0, 1 << 40}, {0, 0}} {
		_, err := ProveInclusion(w.rows, c[0], c[1])
		wantCode(t, err, refusal.NotFound)
	}
}

// FuzzProofs throws any proof at the checks: they answer, they do not panic.
func FuzzProofs(f *testing.F) {
	f.Add(int64(0), int64(1), []byte{})
	f.Add(int64(1), int64(1<<62), bytes.Repeat([]byte{1}, 64))
	f.Add(int64(-1), int64(-1<<63), bytes.Repeat([]byte{1}, 4200))
	f.Add(int64(5), int64(9), bytes.Repeat([]byte{7}, 32*4))
	f.Fuzz(func(t *testing.T, a, b int64, raw []byte) {
		var proof []key.Hash
		for ; len(raw) >= 32; raw = raw[32:] {
			proof = append(proof, key.Hash(raw[:32]))
		}
		if CheckConsistency(Checkpoint{Size: a}, Checkpoint{Size: b, Root: key.Hash{1}}, proof) == nil {
			t.Error("a made-up proof holds")
		}
		if CheckInclusion(Checkpoint{Size: b, Root: key.Hash{1}}, a, []byte("x"), proof) == nil {
			t.Error("a made-up inclusion holds")
		}
	})
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
				w.record(Entry{Type: Login})
			}
			if signed, err := w.log.Checkpoint(w.rows); err == nil || signed != "" && len(w.rows.notes) != 1 {
				t.Errorf("%s, grown %v: signed %q, %v", name, grow, signed, err)
			}
		}
	}
}

func TestEmptyLogHasNoCheckpoint(t *testing.T) {
	l, err := NewLog("r.example", wire.TeamID{1}, private[key.Audit](t, 4))
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
		if _, err := NewLog(name, wire.TeamID{1}, private[key.Audit](t, 4)); err == nil {
			t.Errorf("%q is the name of a log", name)
		}
	}
}

func TestAcceptTakesEachEntryOnce(t *testing.T) {
	w := newWorld(t)
	m := w.agents[0]
	for range 3 {
		w.sayOnly(m, Entry{Type: AgentStart})
	}
	list, err := m.spool.Pending(16)
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
	make := func(k key.Private[key.Agent], e Entry) (statement.Signed, error) { return statement.Sign(k, e) }
	e := Entry{ID: wire.NewNonce(), Type: AgentStop, Time: now, Team: w.state.Team(), Seq: 4, Previous: head}
	edit := func(f func(*Entry)) Entry { c := e; f(&c); return c }
	s, err := make(m.key, edit(func(e *Entry) { e.Seq = 5 }))
	refuse(refusal.Gap, s, err)
	s, err = make(m.key, edit(func(e *Entry) { e.Seq = 0 }))
	refuse(refusal.Gap, s, err)
	s, err = make(m.key, edit(func(e *Entry) { e.Seq = 3 }))
	refuse(refusal.AuditFork, s, err)
	s, err = make(m.key, edit(func(e *Entry) { e.Previous = key.Hash{} }))
	refuse(refusal.BadChain, s, err)
	s, err = make(m.key, edit(func(e *Entry) { e.Team = wire.TeamID{8} }))
	refuse(refusal.WrongTeam, s, err)
	s, err = make(m.key, edit(func(e *Entry) { e.Type = Login }))
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
	for _, e := range []Entry{{}, {Type: Login}, {Time: 1}, {Type: Login, Time: -1}} {
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
		_, err1 := w.log.Record(f, Entry{Type: Login, Time: 1})
		var err2 error
		if err1 == nil {
			_, err2 = w.log.Checkpoint(f)
		}
		if f.left < 0 && !errors.Is(errors.Join(err1, err2), errDisk) {
			t.Errorf("call %d: %v, %v", n, err1, err2)
		}
		if n == 29 && f.left < 0 {
			t.Error("more calls than were tried")
		}
	}
}

func TestExportOfADamagedDatabase(t *testing.T) {
	w := newWorld(t)
	w.checkpoint()
	w.rows.notes[0] = "nonsense"
	if err := w.log.Export(io.Discard, w.rows); err == nil {
		t.Error("exported under a checkpoint that is none")
	}
}

// N6: what is appended while an export runs is not in it, and it still verifies.
func TestN6ExportWhileAppending(t *testing.T) {
	w := newWorld(t)
	for range 600 {
		w.record(Entry{Type: Login})
	}
	w.checkpoint()
	size := len(w.rows.entries)
	var out bytes.Buffer
	grows := writerFunc(func(p []byte) (int, error) {
		w.record(Entry{Type: Login})
		w.checkpoint()
		return out.Write(p)
	})
	check(t, w.log.Export(grows, w.rows))
	r, err := Verify(&out, w.state.Fingerprint(), w.now)
	check(t, err)
	wantClean(t, r)
	if r.Size != int64(size) || len(w.rows.entries) == size {
		t.Errorf("exported %d of %d", r.Size, size)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
