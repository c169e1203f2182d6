package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// breakLocked notes that the disk failed.
func (s *Spool) breakLocked(err error) error {
	s.broken, s.mendAt = err, time.Now().Add(mendAgain)
	return err
}

// mendLocked makes the spool usable again after its disk failed, or says why it
// is not: the reason may have been a full disk, and an agent that refuses
// everything until somebody restarts it would be a cheap way to switch a machine
// off. What goes on is the chain that Head has told of, and no other.
func (s *Spool) mendLocked() error {
	if s.broken == nil || s.closed || time.Now().Before(s.mendAt) {
		return s.broken
	}
	if s.file != nil {
		_ = s.file.Close() // it has failed already; what counts is what the next one reads
		s.file = nil
	}
	if err := s.reopenLocked(); err != nil {
		return s.breakLocked(fmt.Errorf("opening the audit spool again: %w", err))
	}
	s.broken = nil
	return nil
}

// reopenLocked cuts off what stands behind the good part: a torn line, or a whole
// one that could not be synced, whose caller was told that it is lost. It does
// not verify 32 MiB every second while a disk stays full: the last entry at its
// place is enough to know the file. If it is another one, a rewrite has got
// further than it said, and all of it is read.
func (s *Spool) reopenLocked() error {
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if !s.endsHere(f) {
		return errors.Join(f.Close(), s.reloadLocked())
	}
	if err := s.cutTail(f, 1); err != nil {
		return errors.Join(err, f.Close())
	}
	s.file = f
	return nil
}

// endsHere reports whether f holds the newest entry, or the header if there is
// none, where it was written.
func (s *Spool) endsHere(f io.ReaderAt) bool {
	from := int64(0)
	if n := len(s.start); n > 0 {
		from = s.start[n-1]
	}
	line := make([]byte, s.size-from)
	if _, err := f.ReadAt(line, from); err != nil {
		return false
	}
	if from > 0 {
		signed, whole := bytes.CutSuffix(line, []byte("\n"))
		_, err := s.open(signed) // the hash says nothing of the signature
		return whole && err == nil && statement.Signed(signed).Hash() == s.head
	}
	want, err := headerLine(header{Format: format, Team: s.team, Agent: s.signer.ID(), Seq: s.seq, Hash: s.head})
	return err == nil && string(line) == string(want)
}

// reloadLocked reads and verifies the file at path and takes it, if its chain
// ends where ours does. Going on from anywhere else would fork the chain. What waits is
// the same, so held stays.
func (s *Spool) reloadLocked() error {
	fresh, err := openFile(s.path, s.signer, s.team, s.limit)
	if err != nil {
		return err
	}
	if fresh.seq != s.seq || fresh.head != s.head {
		return errors.Join(refusal.New(refusal.BadChain, "the file ends with entry %d, the chain with %d", fresh.seq, s.seq), fresh.Close())
	}
	s.file, s.size, s.start, s.by, s.first = fresh.file, fresh.size, fresh.start, fresh.by, fresh.first
	return nil
}
