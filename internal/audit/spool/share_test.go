package spool

import (
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// by is an entry of an operator's doing, some 5 KiB on the disk.
func by(t entry.EventType, operator byte) entry.Entry {
	return entry.Entry{Type: t, Time: 1, Actor: entry.Actor{Kid: key.ID{operator}}, Command: &entry.Command{Argv: []wire.Bytes{make([]byte, 2000)}}}
}

// appendAll writes e until its share is used up, and returns how many bytes wait.
func appendAll(t *testing.T, s *Spool, e entry.Entry) int64 {
	t.Helper()
	for range s.limit / 1000 {
		if _, err := s.Append(e); err != nil {
			wantCode(t, err, refusal.AuditFull)
			return s.waiting()
		}
	}
	t.Fatal("the spool has no end")
	return 0
}

func (s *Spool) waiting() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waitingLocked()
}

// N9: one operator's connections end at this operator's share of them, many operators'
// at that of all; sessions still begin then, and what has happened is written when they
// do not either.
func TestN9NobodyFillsTheSpoolWithWhatMayBeRefused(t *testing.T) {
	limit := int64(20 * maxLine)
	part := limit / parts
	s, dir := newSpool(t, limit)
	if n := appendAll(t, s, by(entry.ChannelOpen, 1)); n > part {
		t.Errorf("one operator's connections take %d bytes of %d", n, limit)
	}
	if err := s.Room(entry.ChannelOpen, key.ID{2}); err != nil {
		t.Errorf("another operator has no room: %v", err)
	}
	if n := appendAll(t, s, by(entry.SessionAccept, 1)); n > ownSessionShare*part {
		t.Errorf("one operator's sessions take %d bytes of %d", n, limit)
	}
	for operator := byte(2); operator < 9; operator++ {
		appendAll(t, s, by(entry.ChannelOpen, operator))
	}
	if n := s.waiting(); n > channelShare*part {
		t.Errorf("connections take %d bytes of %d", n, limit)
	}
	for _, typ := range []entry.EventType{entry.SessionAccept, entry.SessionRefuse} {
		wantCode(t, s.Room(typ, key.ID{1}), refusal.AuditFull)
		if err := s.Room(typ, key.ID{9}); err != nil {
			t.Errorf("%s of another operator has no room: %v", typ, err)
		}
	}
	for operator := byte(9); operator < 20; operator++ {
		appendAll(t, s, by(entry.SessionRefuse, operator))
	}
	if n := s.waiting(); n > sessionShare*part {
		t.Errorf("sessions take %d bytes of %d", n, limit)
	}
	say(t, s, 1)
	seq, _ := s.Head()
	if last := entry.Peek(pending(t, s, int(seq))[0]); last.Type != entry.ChannelOpen {
		t.Errorf("the first entry is %s", last.Type)
	}
	if s.gap != nil {
		t.Error("what was refused before it happened is marked as lost")
	}

	s = reopen(t, s, dir, limit) // whose is what is read again
	wantCode(t, s.Room(entry.ChannelOpen, key.ID{1}), refusal.AuditFull)
	check(t, forget(s, seq-1))
	if err := s.Room(entry.ChannelOpen, key.ID{1}); err != nil {
		t.Errorf("no room after all was taken: %v", err)
	}
	check(t, forget(s, seq))
	if len(s.held) != 0 {
		t.Errorf("held for nobody: %v", s.held)
	}
}

// N9: a full spool empties without being written again for each MiB.
func TestN9AFullSpoolIsNotRewrittenAgainAndAgain(t *testing.T) {
	s, _ := newSpool(t, 3*compactAt)
	appendAll(t, s, entry.Entry{Type: entry.ExecEnd, Time: 1, Command: &entry.Command{Argv: []wire.Bytes{make([]byte, 15000)}}})
	seq, _ := s.Head()
	written, first := int64(0), s.first
	for n := s.first; n <= seq; n++ {
		check(t, forget(s, n))
		if s.first != first {
			written, first = written+s.waiting(), s.first
		}
	}
	if written > 6*s.limit || s.size > 2*compactAt {
		t.Errorf("%d bytes were rewritten, %d are left", written, s.size)
	}
}
