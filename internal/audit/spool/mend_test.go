package spool

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// fail makes the next write fail, as a full disk does, with tail behind the good part.
func fail(t *testing.T, s *Spool, tail []byte) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.file.WriteAt(tail, s.size)
	check(t, err)
	check(t, s.file.Close())
}

// later lets the time pass after which the disk is looked at again.
func later(s *Spool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mendAt = time.Time{}
}

func refuses(t *testing.T, s *Spool) {
	t.Helper()
	if _, err := s.Append(entry.Entry{Type: entry.AgentStart, Time: 2}); err == nil {
		t.Fatal("appended")
	}
}

// wantGap checks the entries from first on: a gap of lost, then n entries.
func wantGap(t *testing.T, s *Spool, first uint64, lost uint64, n int) {
	t.Helper()
	list := pending(t, s, 99)[first-1:]
	if len(list) != n+2 {
		t.Fatalf("%d entries", len(list))
	}
	for i, want := range []entry.Gap{{Open: true, Since: 2}, {Lost: lost, Since: 2}} {
		if e := entry.Peek(list[i]); e.Type != entry.SpoolGap || *e.Gap != want {
			t.Errorf("entry %d is %s %+v", e.Seq, e.Type, e.Gap)
		}
	}
}

// next is the entry that s would write, from a copy of it.
func next(t *testing.T, s *Spool) []byte {
	t.Helper()
	content, err := os.ReadFile(s.path)
	check(t, err)
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, fileName), content, 0o600))
	twin := reopen(t, nil, dir, MaxBytes)
	signed, err := twin.Append(entry.Entry{Type: entry.AgentStop, Time: 9})
	check(t, err)
	return append(bytes.Clone(signed), '\n')
}

// A failed write leaves the chain where it was. When the disk works again the
// chain goes on from there, whatever has reached the disk, and says what is lost.
func TestSpoolGoesOnWhenTheDiskHasRoomAgain(t *testing.T) {
	for _, before := range []int{0, 2} {
		for name, tail := range map[string]func(whole []byte) []byte{
			"nothing written": func([]byte) []byte { return nil },
			"torn":            func(whole []byte) []byte { return whole[:len(whole)/2] },
			"no newline":      func(whole []byte) []byte { return whole[:len(whole)-1] },
			"not synced":      func(whole []byte) []byte { return whole },
			"zeros":           func([]byte) []byte { return make([]byte, 4096) },
		} {
			t.Run(name, func(t *testing.T) {
				s, dir := newSpool(t, MaxBytes)
				say(t, s, before)
				_, head := s.Head()
				fail(t, s, tail(next(t, s)))
				refuses(t, s)
				refuses(t, s) // not looked at twice in a second
				if seq, h := s.Head(); seq != uint64(before) || h != head {
					t.Errorf("head %d", seq)
				}
				later(s)
				say(t, s, 1)
				wantGap(t, s, uint64(before)+1, 2, 1)
				say(t, s, 1)
				seq, head := s.Head()
				s = reopen(t, s, dir, MaxBytes) // verifies the chain
				if seq2, head2 := s.Head(); seq2 != seq || head2 != head || seq != uint64(before)+4 {
					t.Errorf("head %d after %d", seq2, seq)
				}
			})
		}
	}
}

// The disk stays full: nothing is recorded, however often it is tried.
func TestSpoolStaysClosedWhileTheDiskFails(t *testing.T) {
	s, _ := newSpool(t, MaxBytes)
	say(t, s, 3)
	for range 3 {
		fail(t, s, []byte("torn"))
		later(s)
		refuses(t, s) // the file opens, the write fails
		later(s)
		_, err := s.Pending(0, 9)
		check(t, err)
	}
	check(t, os.Rename(s.path, s.path+".gone"))
	fail(t, s, nil)
	for range 3 {
		later(s)
		refuses(t, s)
		if _, err := s.Pending(0, 9); err == nil {
			t.Error("read without a disk")
		}
		if err := forget(s, 3); err == nil {
			t.Error("acked without a disk")
		}
	}
	check(t, os.Rename(s.path+".gone", s.path))
	later(s)
	say(t, s, 1)
	wantGap(t, s, 4, 6, 1)
}

// Another end than the one that was told to the server would fork the chain.
func TestN3MendedSpoolGoesOnFromItsOwnEndOnly(t *testing.T) {
	for name, other := range map[string]func(t *testing.T, content []byte) []byte{
		"set back": func(_ *testing.T, content []byte) []byte {
			return content[:bytes.LastIndexByte(content[:len(content)-1], '\n')+1]
		},
		"empty": func(*testing.T, []byte) []byte { return nil },
		"bit in the last entry": func(_ *testing.T, content []byte) []byte {
			content[len(content)-9] ^= 1
			return content
		},
		"another chain": func(t *testing.T, _ []byte) []byte {
			s, _ := newSpool(t, MaxBytes)
			for range 3 {
				_, err := s.Append(entry.Entry{Type: entry.AgentStop, Time: 5})
				check(t, err)
			}
			content, err := os.ReadFile(s.path)
			check(t, err)
			return content
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newSpool(t, MaxBytes)
			say(t, s, 3)
			content, err := os.ReadFile(s.path)
			check(t, err)
			fail(t, s, nil)
			check(t, os.WriteFile(s.path, other(t, bytes.Clone(content)), 0o600))
			refuses(t, s)
			later(s)
			refuses(t, s)
			check(t, os.WriteFile(s.path, content, 0o600))
			later(s)
			say(t, s, 1)
			wantGap(t, s, 4, 2, 1)
		})
	}
}

// The rewrite fails on a full disk, before or after the new file took the place
// of the old one. Nothing is lost by that, so nothing has to wait.
func TestFailedRewriteOfTheSpoolLosesNothing(t *testing.T) {
	for name, replaced := range map[string]bool{"old file": false, "new file": true} {
		t.Run(name, func(t *testing.T) {
			s, dir := newSpool(t, MaxBytes)
			command := &entry.Command{Argv: []wire.Bytes{bytes.Repeat([]byte("x"), 15000)}}
			for s.size < compactAt+1000 {
				_, err := s.Append(entry.Entry{Type: entry.ExecStart, Time: 1, Command: command})
				check(t, err)
			}
			seq, head := s.Head()
			check(t, os.Rename(dir, dir+".gone"))
			if err := forget(s, seq); err == nil {
				t.Fatal("rewritten without a disk")
			}
			check(t, os.Rename(dir+".gone", dir))
			if replaced {
				content, err := headerLine(header{Format: format, Team: team, Agent: s.signer.ID(), Seq: seq, Hash: head})
				check(t, err)
				check(t, os.WriteFile(s.path, content, 0o600))
			}
			say(t, s, 1)
			if list := pending(t, s, 9); len(list) != 1 || entry.Peek(list[0]).Seq != seq+1 || entry.Peek(list[0]).Previous != head {
				t.Errorf("%d entries pending", len(list))
			}
			check(t, forget(s, seq+1))
			s = reopen(t, s, dir, MaxBytes)
			if now, _ := s.Head(); now != seq+1 {
				t.Errorf("head %d, want %d", now, seq+1)
			}
		})
	}
}

// A closed spool is not a broken one.
func TestClosedSpoolIsNotMended(t *testing.T) {
	s, _ := newSpool(t, MaxBytes)
	fail(t, s, nil)
	refuses(t, s)
	_ = s.Close()
	later(s)
	refuses(t, s)
	if s.file != nil {
		t.Error("opened again")
	}
}
