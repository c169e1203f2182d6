// Package spool is an agent's own chain of entries, on its disk until the server's
// log has proved to hold them.
//
// Source: protocol 5.2; attack N9.
package spool

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/lines"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

const (
	// MaxBytes is how many bytes of entries an agent keeps for a server that it
	// cannot reach; our choice, some 20,000 entries.
	MaxBytes = 32 << 20

	// compactAt is how many bytes of delivered entries make a rewrite worth it.
	compactAt = 1 << 20

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
	start  []int64    // offset of each entry in the file
	first  uint64     // number of the entry at start[0]
	acked  uint64     // newest entry that is proven; what comes after it is kept
	gap    *entry.Gap // while entries are being lost; Open once the chain says so
	broken error      // why nothing can be recorded
	mendAt time.Time  // when that may be tried again
	closed bool
}

// header is the first line: the chain's end before the first entry below.
type header struct {
	Format string      `json:"format"`
	Team   wire.TeamID `json:"team"`
	Agent  key.ID      `json:"agent"`
	Seq    uint64      `json:"seq"`
	Hash   key.Hash    `json:"hash"`
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

func headerLine(h header) ([]byte, error) {
	line, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("writing the audit spool: %v", err)
	}
	return append(line, '\n'), nil
}

// Open opens the spool in dir and verifies all of it. A missing one
// matches fs.ErrNotExist.
func Open(dir string, signer key.Private[key.Agent], team wire.TeamID) (*Spool, error) {
	return openFile(filepath.Join(dir, fileName), signer, team, MaxBytes)
}

func openFile(path string, signer key.Private[key.Agent], team wire.TeamID, limit int64) (*Spool, error) {
	s := &Spool{team: team, signer: signer, path: path, limit: limit}
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

// load reads f from its beginning and cuts off a torn last line.
func (s *Spool) load(f *os.File) error {
	r := bufio.NewReaderSize(f, 64<<10)
	line, whole, err := lines.Next(r, maxLine)
	if err != nil {
		return err
	}
	var h header
	if again, err := []byte(nil), json.Unmarshal(line, &h); err != nil || !whole {
		return errors.New("header is damaged")
	} else if again, err = headerLine(h); err != nil || !bytes.Equal(again, append(line, '\n')) {
		return errors.New("header is damaged")
	}
	if h.Format != format || h.Team != s.team || h.Agent != s.signer.ID() {
		return refusal.New(refusal.WrongTeam, "the spool is of another team or agent")
	}
	s.seq, s.head, s.first, s.acked, s.size = h.Seq, h.Hash, h.Seq+1, h.Seq, int64(len(line))+1
	for {
		line, whole, err := lines.Next(r, maxLine)
		switch {
		case err != nil:
			return err
		case !whole:
			return s.cutTail(f, len(line))
		}
		if err := s.take(line); err != nil {
			if _, end := r.Peek(1); end == io.EOF {
				return s.cutTail(f, len(line)) // the last line, written out of order
			}
			return fmt.Errorf("entry %d: %w", s.seq+1, err)
		}
	}
}

// take verifies one line and moves the chain's end behind it.
func (s *Spool) take(line []byte) error {
	e, err := s.open(line)
	if err != nil {
		return err
	}
	hash := statement.Signed(line).Hash()
	if e.Seq != s.seq+1 || e.Previous != s.head || e.Team != s.team {
		return refusal.New(refusal.BadChain, "does not follow the entry before it")
	}
	s.push(e, hash, int64(len(line))+1)
	return nil
}

func (s *Spool) push(e entry.Entry, hash key.Hash, bytes int64) {
	s.start = append(s.start, s.size)
	s.size += bytes
	s.seq, s.head = e.Seq, hash
	s.gap = nil
	if e.Type == entry.SpoolGap && e.Gap != nil && e.Gap.Open {
		s.gap = &entry.Gap{Open: true, Since: e.Gap.Since}
	}
}

func (s *Spool) cutTail(f *os.File, torn int) error {
	if torn > 0 {
		if err := f.Truncate(s.size); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	_, err := f.Seek(s.size, io.SeekStart)
	return err
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
// caller then gets unavailable, and must not begin what it wanted to record
// (attack N9). Any other error means that the disk failed. That entry is lost
// like the others until the disk works again, which is tried at most once a
// second.
func (s *Spool) Append(e entry.Entry) (statement.Signed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Type == entry.SpoolGap || !e.Type.ByAgent() {
		return nil, fmt.Errorf("recording %q: not an agent's event", e.Type)
	}
	err := s.mendLocked()
	if err == nil {
		var signed statement.Signed
		if signed, err = s.appendLocked(e); err == nil {
			return signed, nil
		}
	}
	if s.broken != nil || refusal.Of(err) == refusal.Unavailable {
		s.loseLocked(e.Time)
	}
	return nil, err
}

// appendLocked says first what was lost, if something was.
func (s *Spool) appendLocked(e entry.Entry) (statement.Signed, error) {
	// Room for the largest entry, so that one that is signed is never given up.
	full := s.waitingLocked()+maxLine > s.limit
	if s.gap != nil && !s.gap.Open || s.gap == nil && full {
		if err := s.openGapLocked(e.Time); err != nil {
			return nil, err
		}
	}
	if full {
		return nil, refusal.New(refusal.Unavailable, "the audit spool is full: the server has not taken any entries for too long")
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

// waitingLocked is how many bytes are not delivered.
func (s *Spool) waitingLocked() int64 {
	i := s.acked + 1 - s.first
	if i >= uint64(len(s.start)) {
		return 0
	}
	return s.size - s.start[i]
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
	i, end := seq-s.first, s.size
	if i+1 < uint64(len(s.start)) {
		end = s.start[i+1]
	}
	line := make([]byte, end-s.start[i]-1)
	if _, err := s.file.ReadAt(line, s.start[i]); err != nil {
		return nil, fmt.Errorf("reading the audit spool: %v", err)
	}
	return line, nil
}

// forgetLocked lets go of the entries up to seq.
func (s *Spool) forgetLocked(seq uint64) error {
	s.acked = seq
	if s.size-s.waitingLocked() > compactAt {
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

func (s *Spool) open(line []byte) (entry.Entry, error) {
	e, _, err := statement.Open[entry.Entry](line, func(key.ID) (statement.Verifier, error) {
		return s.signer.Public(), nil // another kid fails Open's own comparison
	})
	return e, err
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
