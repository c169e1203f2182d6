package approval

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Sizes of the ledger; our choice.
const (
	// MaxLedger bounds the unexpired ids: at ten minutes each, 100 a second. A
	// full ledger refuses, it does not forget.
	MaxLedger = 65_536
	// MaxUse bounds the ids of one call: a request and its approvals.
	MaxUse = MaxApprovals + 1

	ledgerHeader = "tucdesk-ledger-v1              \n" // as long as a slot, so that no slot straddles two disk sectors
	slotSize     = 32
	spareSlots   = 1024 // expired slots that are not worth rewriting the file for
	maxFile      = len(ledgerHeader) + (MaxLedger+2*spareSlots+MaxUse)*slotSize
	checkLabel   = "tucdesk-ledger-slot-v1"
)

// Ledger remembers durably which approvals and requests were used. One process
// at a time may have it open. It is safe for concurrent use.
type Ledger struct {
	path string

	mu    sync.Mutex // also held while writing: uses are serial by nature
	file  disk       // nil once closed
	slots int        // in the file, expired ones included
	used  map[wire.Nonce]wire.Millis
	floor wire.Millis // ids with an expiry at or before it may be forgotten
	fault error       // a write that failed: what the file holds is not known
}

// disk is the edge of the process that tests make fail.
type disk interface {
	io.WriteCloser
	Sync() error
}

// CreateLedger makes a new, empty ledger at path; an existing file is an error
// that matches fs.ErrExist. It is made once, when the agent joins: a ledger that
// came back empty would allow every approval again.
func CreateLedger(path string) (*Ledger, error) {
	if err := keyfile.WriteNew(path, []byte(ledgerHeader)); err != nil {
		return nil, err
	}
	return OpenLedger(path)
}

// OpenLedger opens the ledger at path. A missing one matches fs.ErrNotExist. A
// last slot that a crash cut short is dropped, because Use had not returned; any
// other damage is bad_statement, since guessing could allow something twice.
func OpenLedger(path string) (*Ledger, error) {
	data, err := keyfile.ReadPrivate(path, maxFile)
	if err != nil {
		return nil, err
	}
	l := &Ledger{path: path, used: make(map[wire.Nonce]wire.Millis)}
	end, err := l.read(data)
	if err != nil {
		return nil, fmt.Errorf("opening ledger %q: %w", path, err)
	}
	if l.file, err = openAt(path, end, len(data)); err != nil {
		return nil, fmt.Errorf("opening ledger %q: %v", path, err)
	}
	return l, nil
}

// openAt opens the file of the given size for writing from end on, and drops a
// torn tail behind it durably.
func openAt(path string, end, size int) (disk, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if end < size {
		err = errors.Join(f.Truncate(int64(end)), f.Sync())
	}
	if err == nil {
		_, err = f.Seek(int64(end), io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// read takes the file's content and returns where the next slot goes.
func (l *Ledger) read(data []byte) (end int, err error) {
	if len(data) < len(ledgerHeader) || string(data[:len(ledgerHeader)]) != ledgerHeader {
		return 0, refusal.New(refusal.BadStatement, "not a ledger")
	}
	end = len(ledgerHeader)
	for len(data)-end >= slotSize {
		id, expires, ok := readSlot(data[end : end+slotSize])
		if !ok && allZero(data[end:]) {
			return end, nil // some file systems grow a file before they fill it
		}
		if !ok {
			return 0, refusal.New(refusal.BadStatement, "slot %d of the ledger is damaged", l.slots)
		}
		l.remember(id, expires)
		l.slots++
		end += slotSize
	}
	return end, nil
}

func (l *Ledger) remember(id wire.Nonce, expires wire.Millis) {
	if id == (wire.Nonce{}) {
		l.floor = max(l.floor, expires)
		return
	}
	l.used[id] = max(l.used[id], expires)
}

// Use records ids, all or none, and returns when they are on the disk: only then
// may the caller start what they stand for. expires is from when on no check
// would accept any of them anyway. Refusals: approval_used when one was used
// before, or so old that the ledger may have forgotten it; expired; too_many when
// the ledger is full. After an error of the disk the ids count as used and every
// later call fails, until the ledger is opened again.
func (l *Ledger) Use(ids []wire.Nonce, expires, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.mayUseLocked(ids, wire.At(expires), wire.At(now)); err != nil {
		return err
	}
	if err := l.compactLocked(wire.At(now)); err != nil {
		return err
	}
	if len(l.used)+len(ids) > MaxLedger {
		return refusal.New(refusal.TooMany, "%d ids in the ledger; at most %d", len(l.used), MaxLedger)
	}
	return l.appendLocked(ids, wire.At(expires))
}

func (l *Ledger) mayUseLocked(ids []wire.Nonce, expires, now wire.Millis) error {
	switch {
	case l.fault != nil:
		return l.fault
	case l.file == nil:
		return errors.New("using the ledger: it is closed")
	case len(ids) == 0 || len(ids) > MaxUse:
		return refusal.New(refusal.TooMany, "%d ids in one use; 1 to %d", len(ids), MaxUse)
	case expires <= now:
		return refusal.New(refusal.Expired, "what is to be used has expired")
	case expires <= l.floor:
		return refusal.New(refusal.ApprovalUsed, "older than the ledger remembers")
	}
	once := make(map[wire.Nonce]bool, len(ids))
	for _, id := range ids {
		if _, used := l.used[id]; used || once[id] || id == (wire.Nonce{}) {
			return refusal.New(refusal.ApprovalUsed, "an approval or request was used before")
		}
		once[id] = true
	}
	return nil
}

func (l *Ledger) appendLocked(ids []wire.Nonce, expires wire.Millis) error {
	b := make([]byte, 0, len(ids)*slotSize)
	for _, id := range ids {
		b = appendSlot(b, id, expires)
		l.remember(id, expires) // first: an id whose fate on the disk is not known is used
	}
	_, err := l.file.Write(b)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		return l.failLocked(err)
	}
	l.slots += len(ids)
	return nil
}

// failLocked closes the door: after a failed write or sync nothing says which of
// the bytes will be there after a crash.
func (l *Ledger) failLocked(err error) error {
	l.fault = fmt.Errorf("writing ledger %q: %v", l.path, err)
	return l.fault
}

// compactLocked forgets what has expired once that is worth a new file. What is
// forgotten raises the floor, so a clock that goes back cannot make it usable
// again (attack E11).
func (l *Ledger) compactLocked(now wire.Millis) error {
	live, floor := 0, l.floor
	if l.slots < 2*spareSlots {
		return nil // too small to look at
	}
	for _, expires := range l.used {
		if expires > now {
			live++
		} else {
			floor = max(floor, expires)
		}
	}
	if l.slots-live < spareSlots {
		return nil
	}
	for id, expires := range l.used {
		if expires <= now {
			delete(l.used, id)
		}
	}
	l.floor = floor
	return l.rewriteLocked()
}

func (l *Ledger) rewriteLocked() error {
	b := appendSlot([]byte(ledgerHeader), wire.Nonce{}, l.floor)
	for id, expires := range l.used {
		b = appendSlot(b, id, expires)
	}
	err := l.file.Close() // first: Windows does not rename over an open file
	l.file = nil
	if err == nil {
		err = keyfile.WriteAtomic(l.path, b, 0o600)
	}
	if err == nil {
		l.file, err = openAt(l.path, len(b), len(b))
	}
	if err != nil {
		return l.failLocked(err)
	}
	l.slots = len(l.used) + 1
	return nil
}

// Close closes the file. Closing twice is no error.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

func appendSlot(b []byte, id wire.Nonce, expires wire.Millis) []byte {
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(expires))
	sum := slotCheck(b[len(b)-24:])
	return append(b, sum[:8]...)
}

func readSlot(b []byte) (id wire.Nonce, expires wire.Millis, ok bool) {
	sum := slotCheck(b[:24])
	copy(id[:], b)
	return id, wire.Millis(binary.BigEndian.Uint64(b[16:])), string(sum[:8]) == string(b[24:slotSize])
}

// slotCheck finds accidents, not attackers: who can write this file can replace
// the agent.
func slotCheck(b []byte) [sha256.Size]byte { return sha256.Sum256(append([]byte(checkLabel), b...)) }

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
