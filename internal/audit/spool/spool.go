// Package spool is an agent's own chain of entries, on its disk until the server's
// log has proved to hold them.
//
//	spool.go    the chain: numbering, signing, and marking what was lost
//	file.go     the file it lies in, and what of it is believed when it is opened
//	mend.go     going on when the disk works again
//	deliver.go  what is to be sent, and what may be forgotten
//	share.go    how much of it who may fill
//
// Source: protocol 5.2; attack N9.
package spool

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

const (
	// MaxBytes is how many bytes of entries an agent keeps for a server that it
	// cannot reach; our choice, some 20,000 entries.
	MaxBytes = 32 << 20

	// compactAt is how many bytes of delivered entries make a rewrite worth it, if they
	// are also one in compactPart of what would be written again: a full spool that
	// empties is then written some five times in all, not once for every MiB of it. After
	// a restart, what was not rewritten counts as waiting until it is proven again. Our
	// choices.
	compactAt   = 1 << 20
	compactPart = 4

	// maxPending is how many bytes of entries go into one frame, below
	// wire.MaxFrame with its head.
	maxPending = 56 << 10

	maxLine = entry.MaxSize*4/3 + 1024

	// mendAgain is how long a spool whose disk failed waits until it looks at
	// the disk again; our choice.
	mendAgain = time.Second

	fileName = "audit.spool"
	format   = "tucdesk-spool-v1"
)

// Spool is an agent's own chain of entries, on its disk until the log is proved to
// hold them. It is safe for concurrent use by one process.
//
// The file is one line of header, which says where the chain stood before the
// first entry, then one statement per line. An entry is synced before Append
// returns. A crash can tear at most the last line, whose entry nobody was told
// of; anything else that does not verify is damage, and refused.
type Spool struct {
	team   wire.TeamID
	signer key.Private[key.Agent]
	path   string
	limit  int64

	mu     sync.Mutex // guards all below
	file   *os.File
	size   int64  // of the file's good part
	seq    uint64 // newest entry
	head   key.Hash
	start  []int64          // offset of each entry in the file
	first  uint64           // number of the entry at start[0]
	by     []key.ID         // whose each entry in the file is: its actor, zero for the agent's own
	held   map[key.ID]int64 // bytes that are not delivered, by whose they are; none of them 0
	acked  uint64           // newest entry that is proven; what comes after it is kept
	gap    *entry.Gap       // while entries are being lost; Open once the chain says so
	broken error            // why nothing can be recorded
	mendAt time.Time        // when that may be tried again
	closed bool
}

// Create starts the chain of a new agent in dir. It fails when dir holds a
// spool already: a chain that begins again is a fork.
func Create(dir string, signer key.Private[key.Agent], team wire.TeamID) error {
	line, err := headerLine(header{Format: format, Team: team, Agent: signer.ID()})
	if err != nil {
		return err
	}
	return keyfile.WriteNew(filepath.Join(dir, fileName), line)
}

// Open opens the spool in dir and verifies all of it. A missing one
// matches fs.ErrNotExist.
func Open(dir string, signer key.Private[key.Agent], team wire.TeamID) (*Spool, error) {
	return openFile(filepath.Join(dir, fileName), signer, team, MaxBytes)
}

func openFile(path string, signer key.Private[key.Agent], team wire.TeamID, limit int64) (*Spool, error) {
	s := &Spool{team: team, signer: signer, path: path, limit: limit, held: map[key.ID]int64{}}
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the audit spool: %w", err)
	}
	if err := s.load(f); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the audit spool %q: %w", s.path, err), f.Close())
	}
	s.file = f
	return s, nil
}

// Close closes the file. It may be called again.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.broken = true, errors.New("the audit spool is closed")
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}

// Append redacts e, numbers and signs it, and returns it once it is on the
// disk. When the spool is full the entry is lost, which the chain says: an entry
// spool.gap marks where, and another one how many when there is room again. The
// caller then gets audit_full, and must not begin what it wanted to record
// (attack N9). It gets the same, and nothing is lost, where e would begin something
// and its share is used up (see Room). Any other error means that the disk failed.
// That entry is lost like the others until the disk works again, which is tried at
// most once a second.
func (s *Spool) Append(e entry.Entry) (statement.Signed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Type == entry.SpoolGap || !e.Type.ByAgent() {
		return nil, fmt.Errorf("recording %q: not an agent's event", e.Type)
	}
	err := s.mendLocked()
	if err == nil {
		if err := s.shareLocked(e.Type, e.Actor.Kid); err != nil {
			return nil, err
		}
		var signed statement.Signed
		if signed, err = s.appendLocked(e); err == nil {
			return signed, nil
		}
	}
	if s.broken != nil || refusal.Of(err) == refusal.AuditFull {
		s.loseLocked(e.Time)
	}
	return nil, err
}

// appendLocked says first what was lost, if something was.
func (s *Spool) appendLocked(e entry.Entry) (statement.Signed, error) {
	full := s.fullLocked()
	if s.gap != nil && !s.gap.Open || s.gap == nil && full {
		if err := s.openGapLocked(e.Time); err != nil {
			return nil, err
		}
	}
	if full {
		return nil, errFull()
	}
	if s.gap != nil {
		if _, err := s.writeLocked(entry.Entry{Type: entry.SpoolGap, Time: e.Time, Gap: &entry.Gap{Lost: s.gap.Lost, Since: s.gap.Since}}); err != nil {
			return nil, err
		}
	}
	return s.writeLocked(e)
}

// openGapLocked writes where the gap begins, which is in the past when the disk
// had failed.
func (s *Spool) openGapLocked(now wire.Millis) error {
	mark := entry.Gap{Open: true, Since: now}
	lost := uint64(0)
	if s.gap != nil {
		mark.Since, lost = s.gap.Since, s.gap.Lost
	}
	if _, err := s.writeLocked(entry.Entry{Type: entry.SpoolGap, Time: now, Gap: &mark}); err != nil {
		return err
	}
	s.gap.Lost = lost
	return nil
}

func (s *Spool) loseLocked(now wire.Millis) {
	if s.gap == nil {
		s.gap = &entry.Gap{Since: now}
	}
	s.gap.Lost++
}

func (s *Spool) writeLocked(e entry.Entry) (statement.Signed, error) {
	e, signed, err := entry.Sign(s.signer, e, s.team, s.seq+1, s.head)
	if err != nil {
		return nil, err
	}
	line := append(bytes.Clone(signed), '\n')
	_, err = s.file.Write(line)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		// What is on the disk behind the good part is unknown; after a failed sync
		// even the system may not know. mendLocked cuts it off.
		return nil, s.breakLocked(fmt.Errorf("writing the audit spool: %v", err))
	}
	s.push(e, signed.Hash(), int64(len(line)))
	return signed, nil
}

// Head returns the number and hash of the newest entry, for registrations and
// READY.
func (s *Spool) Head() (uint64, key.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq, s.head
}
