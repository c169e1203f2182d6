package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

var team = wire.TeamID{7}

// private makes the n-th agent's key, always the same.
func private(t testing.TB, n byte) key.Private[key.Agent] {
	t.Helper()
	k, err := key.FromSeed[key.Agent](bytes.Repeat([]byte{n}, key.SeedSize))
	check(t, err)
	return k
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t testing.TB, err error, code refusal.Code) {
	t.Helper()
	if code == "" && err != nil || refusal.Of(err) != code {
		t.Errorf("got %v, want code %q", err, code)
	}
}

// spool makes a new one; reopen closes it and opens it again.
func newSpool(t testing.TB, limit int64) (*Spool, string) {
	t.Helper()
	dir := t.TempDir()
	check(t, Create(dir, private(t, 30), team))
	return reopen(t, nil, dir, limit), dir
}

func reopen(t testing.TB, old *Spool, dir string, limit int64) *Spool {
	t.Helper()
	if old != nil {
		check(t, old.Close())
		check(t, old.Close())
	}
	s, err := openFile(filepath.Join(dir, fileName), private(t, 30), team, limit)
	check(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func say(t testing.TB, s *Spool, n int) {
	t.Helper()
	for range n {
		_, err := s.Append(entry.Entry{Type: entry.AgentStart, Time: 1})
		check(t, err)
	}
}

// forget lets go of the entries up to seq as if the log had proved to hold them.
func forget(s *Spool, seq uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mendLocked(); err != nil {
		return err
	}
	return s.forgetLocked(seq)
}

func pending(t testing.TB, s *Spool, max int) []statement.Signed {
	t.Helper()
	list, err := s.Pending(0, max)
	check(t, err)
	return list
}

func TestSpoolSurvivesReopen(t *testing.T) {
	s, dir := newSpool(t, MaxBytes)
	say(t, s, 5)
	seq, head := s.Head()
	before := pending(t, s, 99)
	s = reopen(t, s, dir, MaxBytes)
	if seq2, head2 := s.Head(); seq2 != 5 || seq != 5 || head2 != head || before[4].Hash() != head {
		t.Errorf("head %d", seq2)
	}
	after := pending(t, s, 99)
	for i := range before {
		if !bytes.Equal(before[i], after[i]) {
			t.Errorf("entry %d changed", i)
		}
	}
	if list := pending(t, s, 2); len(list) != 2 || !bytes.Equal(list[0], before[0]) {
		t.Errorf("%d pending", len(list))
	}
	if _, err := s.Append(entry.Entry{Type: entry.Login, Time: 1}); err == nil {
		t.Error("a server's event was recorded")
	}
	if _, err := s.Append(entry.Entry{Type: entry.SpoolGap, Time: 1}); err == nil {
		t.Error("a made-up gap was recorded")
	}
}

func TestSpoolIsCreatedOnce(t *testing.T) {
	_, dir := newSpool(t, MaxBytes)
	if err := Create(dir, private(t, 30), team); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created again: %v", err)
	}
	if _, err := Open(t.TempDir(), private(t, 30), team); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opened nothing: %v", err)
	}
	if _, err := Open(dir, private(t, 31), team); refusal.Of(err) != refusal.WrongTeam {
		t.Errorf("opened by another agent: %v", err)
	}
	if _, err := Open(dir, private(t, 30), wire.TeamID{8}); refusal.Of(err) != refusal.WrongTeam {
		t.Errorf("opened for another team: %v", err)
	}
}

// A crash can leave the file cut anywhere: what stays is a chain of whole
// entries, and it goes on from there.
func TestSpoolTornAnywhere(t *testing.T) {
	s, dir := newSpool(t, MaxBytes)
	say(t, s, 2)
	check(t, s.Close())
	path := filepath.Join(dir, fileName)
	whole, err := os.ReadFile(path)
	check(t, err)
	header := bytes.IndexByte(whole, '\n') + 1
	second := header + bytes.IndexByte(whole[header:], '\n') + 1
	for n := header; n < len(whole); n++ {
		if n%17 != 0 && n != header && n != second-1 && n != second && n != len(whole)-1 {
			continue // each costs several syncs
		}
		check(t, os.WriteFile(path, whole[:n], 0o600))
		s := reopen(t, nil, dir, MaxBytes)
		want := uint64(0)
		if n >= second {
			want = 1
		}
		if seq, _ := s.Head(); seq != want {
			t.Fatalf("cut at %d: %d entries", n, seq)
		}
		say(t, s, 1)
		s = reopen(t, s, dir, MaxBytes)
		if seq, _ := s.Head(); seq != want+1 {
			t.Fatalf("cut at %d: did not go on", n)
		}
		check(t, s.Close())
	}
	// Blocks of a file may reach the disk out of order.
	check(t, os.WriteFile(path, append(bytes.Clone(whole[:second]), "\x00\x00\x00garbage\n"...), 0o600))
	s = reopen(t, nil, dir, MaxBytes)
	if seq, _ := s.Head(); seq != 1 {
		t.Errorf("garbage at the end: %d entries", seq)
	}
}

func TestDamagedSpoolIsRefused(t *testing.T) {
	s, dir := newSpool(t, MaxBytes)
	say(t, s, 3)
	check(t, s.Close())
	path := filepath.Join(dir, fileName)
	whole, err := os.ReadFile(path)
	check(t, err)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	for name, content := range map[string][]byte{
		"middle line gone":  bytes.Join([][]byte{lines[0], lines[1], lines[3], lines[1]}, nil),
		"lines turned":      bytes.Join([][]byte{lines[0], lines[2], lines[1], lines[3]}, nil),
		"bit in the middle": bytes.Replace(whole, lines[2][:60], append(bytes.Clone(lines[2][:59]), lines[2][59]^1), 1),
		"no header":         bytes.Join(lines[1:], nil),
		"odd header":        append([]byte(" "), whole...),
		"empty":             {},
		"endless line":      append(bytes.Clone(lines[0]), bytes.Repeat([]byte("x"), maxLine+2)...),
	} {
		check(t, os.WriteFile(path, content, 0o600))
		if s, err := Open(dir, private(t, 30), team); err == nil {
			t.Errorf("%s: opened", name)
			_ = s.Close()
		}
	}
}

func TestAckedEntriesAreForgotten(t *testing.T) {
	s, dir := newSpool(t, MaxBytes)
	filler := make([]wire.Bytes, 8)
	for i := range filler {
		filler[i] = bytes.Repeat([]byte("x"), 2000)
	}
	for range 64 { // about a megabyte
		_, err := s.Append(entry.Entry{Type: entry.ExecStart, Time: 1, Command: &entry.Command{Argv: filler}})
		check(t, err)
	}
	if list := pending(t, s, 99); len(list) != 1 && len(list) != 2 {
		t.Errorf("%d large entries in one frame", len(list))
	}
	wantCode(t, s.Claimed(65), refusal.AuditFork)
	check(t, s.Claimed(64))
	check(t, forget(s, 60))
	info, err := os.Stat(filepath.Join(dir, fileName))
	check(t, err)
	if info.Size() > 200<<10 {
		t.Errorf("file still has %d bytes", info.Size())
	}
	seq, head := s.Head()
	s = reopen(t, s, dir, MaxBytes)
	if seq2, head2 := s.Head(); seq2 != 64 || head2 != head || seq != 64 {
		t.Errorf("head %d after the rewrite", seq2)
	}
	say(t, s, 1)
	check(t, forget(s, 65))
	if list := pending(t, s, 9); len(list) != 0 {
		t.Errorf("%d pending", len(list))
	}
	s = reopen(t, s, dir, MaxBytes)
	say(t, s, 1)
	if seq, _ := s.Head(); seq != 66 {
		t.Errorf("chain goes on with %d", seq)
	}
}

func TestEverythingAckedLeavesOnlyTheHead(t *testing.T) {
	s, dir := newSpool(t, MaxBytes)
	filler := []wire.Bytes{bytes.Repeat([]byte("x"), 15000)}
	for range 64 { // about a megabyte
		_, err := s.Append(entry.Entry{Type: entry.ExecStart, Time: 1, Command: &entry.Command{Argv: filler}})
		check(t, err)
	}
	_, head := s.Head()
	check(t, forget(s, 64))
	s = reopen(t, s, dir, MaxBytes)
	if seq, h := s.Head(); seq != 64 || h != head || len(pending(t, s, 9)) != 0 {
		t.Errorf("head %d", seq)
	}
}

// N9: a full spool loses entries, and the chain says from where and how many.
func TestN9FullSpoolMarksTheGap(t *testing.T) {
	limit := int64(maxLine + 4000)
	s, dir := newSpool(t, limit)
	n := 0
	var err error
	for err == nil {
		_, err = s.Append(entry.Entry{Type: entry.AgentStart, Time: wire.Millis(n + 1)})
		n++
	}
	wantCode(t, err, refusal.AuditFull)
	for range 9 {
		_, err = s.Append(entry.Entry{Type: entry.AgentStart, Time: 50})
		wantCode(t, err, refusal.AuditFull)
	}
	info, err := os.Stat(filepath.Join(dir, fileName))
	check(t, err)
	if info.Size() > limit {
		t.Errorf("spool of %d bytes, limit %d", info.Size(), limit)
	}
	list := pending(t, s, 99)
	if last := entry.Peek(list[len(list)-1]); last.Type != entry.SpoolGap || !last.Gap.Open || last.Gap.Since != wire.Millis(n) {
		t.Errorf("last entry %+v", last)
	}
	check(t, forget(s, uint64(len(list))))
	say(t, s, 1)
	list = pending(t, s, 99)
	if len(list) != 2 {
		t.Fatalf("%d entries after the gap", len(list))
	}
	if end := entry.Peek(list[0]); end.Type != entry.SpoolGap || end.Gap.Open || end.Gap.Lost != 10 || end.Gap.Since != wire.Millis(n) {
		t.Errorf("end of the gap %+v %+v", end, end.Gap)
	}
}

func TestN9GapSurvivesARestart(t *testing.T) {
	limit := int64(maxLine + 4000)
	s, dir := newSpool(t, limit)
	for {
		if _, err := s.Append(entry.Entry{Type: entry.AgentStart, Time: 1}); err != nil {
			break
		}
	}
	s = reopen(t, s, dir, limit)
	_, err := s.Append(entry.Entry{Type: entry.AgentStart, Time: 2})
	wantCode(t, err, refusal.AuditFull)
	seq, _ := s.Head()
	check(t, forget(s, seq))
	say(t, s, 1)
	if end := entry.Peek(pending(t, s, 1)[0]); end.Type != entry.SpoolGap || end.Gap.Lost != 1 || end.Gap.Since != 1 {
		t.Errorf("end of the gap %+v", end.Gap)
	}
}

func TestClosedSpoolRecordsNothing(t *testing.T) {
	s, _ := newSpool(t, MaxBytes)
	check(t, s.Close())
	if _, err := s.Append(entry.Entry{Type: entry.AgentStart, Time: 1}); err == nil {
		t.Error("appended")
	}
	if _, err := s.Pending(0, 1); err == nil {
		t.Error("read")
	}
	if err := forget(s, 0); err == nil {
		t.Error("forgotten")
	}
}

func TestSpoolUnderConcurrentUse(t *testing.T) {
	s, dir := newSpool(t, MaxBytes)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				if _, err := s.Append(entry.Entry{Type: entry.AgentStart, Time: 1}); err != nil {
					t.Error(err)
				}
				if list, err := s.Pending(0, 3); err != nil || len(list) == 0 {
					t.Error(len(list), err)
				}
			}
		})
	}
	wg.Wait()
	s = reopen(t, s, dir, MaxBytes) // verifies the chain
	if seq, _ := s.Head(); seq != 40 {
		t.Errorf("%d entries", seq)
	}
}

func FuzzSpoolFile(f *testing.F) {
	dir := f.TempDir()
	check(f, Create(dir, private(f, 30), team))
	s, err := Open(dir, private(f, 30), team)
	check(f, err)
	say(f, s, 2)
	check(f, s.Close())
	path := filepath.Join(dir, fileName)
	whole, err := os.ReadFile(path)
	check(f, err)
	f.Add(whole)
	f.Add(whole[:len(whole)-7])
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		check(t, os.WriteFile(filepath.Join(dir, fileName), content, 0o600))
		s, err := Open(dir, private(t, 30), team)
		if err != nil {
			return
		}
		check(t, s.Close())
		after, err := os.ReadFile(filepath.Join(dir, fileName))
		check(t, err)
		if !strings.HasPrefix(string(content), string(after)) {
			t.Error("opening changed more than a torn end")
		}
	})
}

func BenchmarkSpoolAppend(b *testing.B) {
	s, _ := newSpool(b, 1<<40)
	e := entry.Entry{Type: entry.ExecStart, Time: 1, Command: &entry.Command{Argv: []wire.Bytes{wire.Bytes("systemctl"), wire.Bytes("restart"), wire.Bytes("nginx")}}}
	for b.Loop() {
		if _, err := s.Append(e); err != nil {
			b.Fatal(fmt.Errorf("append: %w", err))
		}
	}
}
