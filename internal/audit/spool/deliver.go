package spool

import (
	"bytes"
	"fmt"
	"time"

	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Pending returns up to limit of the oldest entries behind number after that the log
// has not proved to hold, fewer if they would not fit into one frame.
func (s *Spool) Pending(after uint64, limit int) ([]statement.Signed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mendLocked(); err != nil {
		return nil, err
	}
	next := max(s.acked, after)
	var list []statement.Signed
	room := int64(maxPending)
	for seq := next + 1; seq <= s.seq && len(list) < limit; seq++ {
		line, err := s.lineLocked(seq)
		if err != nil {
			return nil, err
		}
		if room -= int64(len(line)); room < 0 && len(list) > 0 {
			break
		}
		list = append(list, line)
	}
	return list, nil
}

// Claimed hears up to which entry a server says that its log holds the chain. One
// that claims entries which do not exist is refused with audit_fork: it, or this
// disk, was set back. A claim alone lets nothing go.
func (s *Spool) Claimed(seq uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seq > s.seq {
		return refusal.New(refusal.AuditFork, "the server holds log entry %d of this agent, whose last is %d", seq, s.seq)
	}
	return nil
}

// Proved takes proofs that the log at head, which the caller has verified, holds the
// entries from number first on, and forgets those that are proven without a gap
// before them (protocol 5.2). It returns how many those are. A proof that does not
// hold is audit_fork, and then everything is kept.
func (s *Spool) Proved(head tree.Head, first uint64, proofs []wire.Inclusion) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mendLocked(); err != nil {
		return 0, err
	}
	if first == 0 || len(proofs) > wire.MaxAuditBatch || first-1 > s.seq || uint64(len(proofs)) > s.seq-(first-1) {
		return 0, refusal.New(refusal.AuditFork, "the server proves log entries that this agent has not written")
	}
	end := first + uint64(len(proofs)) // the number after the last proof
	for seq := max(first, s.acked+1); seq < end; seq++ {
		line, err := s.lineLocked(seq)
		if err != nil {
			return 0, err
		}
		p := proofs[seq-first]
		if err := tree.CheckInclusion(head, p.Index, line, p.Path); err != nil {
			return 0, fmt.Errorf("proof of log entry %d: %w", seq, err)
		}
	}
	if first > s.acked+1 || end <= s.acked+1 {
		return 0, nil
	}
	n := int(end - 1 - s.acked)
	return n, s.forgetLocked(end - 1)
}

// lineLocked reads an entry that has not been forgotten.
func (s *Spool) lineLocked(seq uint64) ([]byte, error) {
	from, end := s.placeLocked(seq)
	line := make([]byte, end-from-1)
	if _, err := s.file.ReadAt(line, from); err != nil {
		return nil, fmt.Errorf("reading the audit spool: %v", err)
	}
	return line, nil
}

// placeLocked is where an entry that has not been forgotten lies in the file.
func (s *Spool) placeLocked(seq uint64) (from, end int64) {
	i := seq - s.first
	if i+1 < uint64(len(s.start)) {
		return s.start[i], s.start[i+1]
	}
	return s.start[i], s.size
}

// forgetLocked lets go of the entries up to seq.
func (s *Spool) forgetLocked(seq uint64) error {
	for ; s.acked < seq; s.acked++ {
		s.giveBackLocked(s.acked + 1)
	}
	if waiting := s.waitingLocked(); s.size-waiting > max(compactAt, waiting/compactPart) {
		return s.compactLocked()
	}
	return nil
}

// compactLocked rewrites the file without the entries that were delivered. A
// crash leaves the old file or the new one.
func (s *Spool) compactLocked() error {
	kept := make([]byte, s.waitingLocked())
	if _, err := s.file.ReadAt(kept, s.size-int64(len(kept))); err != nil {
		return fmt.Errorf("reading the audit spool: %v", err)
	}
	h := header{Format: format, Team: s.team, Agent: s.signer.ID(), Seq: s.acked, Hash: s.head}
	if len(kept) > 0 {
		line, _, _ := bytes.Cut(kept, []byte("\n"))
		next, err := s.open(line)
		if err != nil {
			return err
		}
		h.Hash = next.Previous
	}
	line, err := headerLine(h)
	if err != nil {
		return err
	}
	if err := s.replaceLocked(append(line, kept...)); err != nil {
		_ = s.breakLocked(fmt.Errorf("rewriting the audit spool: %v", err))
		s.mendAt = time.Time{} // nothing is lost: the old file is there, or the new one
		return s.broken
	}
	return nil
}

// replaceLocked swaps the file and reads the new one. The old one is closed
// first, because not every system renames over an open file.
func (s *Spool) replaceLocked(content []byte) error {
	if err := s.file.Close(); err != nil {
		return err
	}
	s.file = nil
	if err := keyfile.WriteAtomic(s.path, content, 0o600); err != nil {
		return err
	}
	return s.reloadLocked()
}

// waitingLocked is how many bytes are not delivered.
func (s *Spool) waitingLocked() int64 {
	i := s.acked + 1 - s.first
	if i >= uint64(len(s.start)) {
		return 0
	}
	return s.size - s.start[i]
}
