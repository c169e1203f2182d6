package approval

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

var (
	start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	soon  = start.Add(10 * time.Minute)
)

func nonce(n int) (id wire.Nonce) {
	binary.BigEndian.PutUint64(id[8:], uint64(n)+1)
	return id
}

func create(t testing.TB) *Ledger {
	t.Helper()
	l, err := CreateLedger(filepath.Join(t.TempDir(), "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// reopen is what follows a kill -9: nothing is closed, the file is read again.
func reopen(t testing.TB, l *Ledger) *Ledger {
	t.Helper()
	again, err := OpenLedger(l.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	return again
}

func use(l *Ledger, n ...int) error {
	var ids []wire.Nonce
	for _, i := range n {
		ids = append(ids, nonce(i))
	}
	return l.Use(ids, soon, start)
}

func wantUse(t *testing.T, what string, err error, want refusal.Code) {
	t.Helper()
	if refusal.Of(err) != want || (err == nil) != (want == "") {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

func TestE3ApprovalIsUsedOnceAlsoAfterRestart(t *testing.T) {
	l := create(t)
	wantUse(t, "first run", use(l, 1, 2), "")
	wantUse(t, "second run", use(l, 1, 3), refusal.ApprovalUsed)
	wantUse(t, "the other id alone", use(l, 2), refusal.ApprovalUsed)
	l = reopen(t, l)
	wantUse(t, "after a restart", use(l, 1), refusal.ApprovalUsed)
	wantUse(t, "after a restart, the other", use(l, 4, 2), refusal.ApprovalUsed)
	wantUse(t, "refused uses left nothing behind", use(l, 3, 4), "")
}

func TestSlotsDoNotStraddleSectors(t *testing.T) {
	if len(ledgerHeader) != slotSize || 512%slotSize != 0 {
		t.Errorf("header of %d bytes, slots of %d", len(ledgerHeader), slotSize)
	}
}

func TestLedgerRefusesWhatMakesNoSense(t *testing.T) {
	l := create(t)
	wantUse(t, "one id twice", use(l, 1, 1), refusal.ApprovalUsed)
	wantUse(t, "no id", use(l), refusal.TooMany)
	wantUse(t, "zero id", l.Use([]wire.Nonce{{}}, soon, start), refusal.ApprovalUsed)
	wantUse(t, "expired", l.Use([]wire.Nonce{nonce(1)}, start, start), refusal.Expired)
	wantUse(t, "too many at once", l.Use(make([]wire.Nonce, MaxUse+1), soon, start), refusal.TooMany)
	if l = reopen(t, l); l.slots != 0 {
		t.Errorf("%d slots were written", l.slots)
	}
}

func TestCreateAndOpenAreDifferent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	if _, err := OpenLedger(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening none: %v", err)
	}
	l, err := CreateLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := use(l, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateLedger(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("creating it again: %v", err)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	}
	if err := use(l, 2); err == nil {
		t.Error("a closed ledger took an id")
	}
	l = reopen(t, l)
	wantUse(t, "first id", use(l, 1), refusal.ApprovalUsed)
}

// Whatever a crash leaves of the last write: every use that had returned is
// remembered, the file opens, and it takes further ids that are remembered too.
func TestLedgerCutAtEveryLength(t *testing.T) {
	l := create(t)
	for i := range 2 {
		if err := use(l, 2*i, 2*i+1); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(l.path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) + 1 {
		for _, zeros := range []int{0, 1, 70} {
			path := filepath.Join(t.TempDir(), "ledger")
			if err := os.WriteFile(path, append(bytes.Clone(whole[:n]), make([]byte, zeros)...), 0o600); err != nil {
				t.Fatal(err)
			}
			checkCut(t, path, n)
		}
	}
}

func checkCut(t *testing.T, path string, n int) {
	t.Helper()
	l, err := OpenLedger(path)
	if n < len(ledgerHeader) {
		wantUse(t, "header cut", err, refusal.BadStatement)
		return
	}
	complete := (n - len(ledgerHeader)) / slotSize
	if err != nil {
		// Zeros behind half a slot are no tail that a file system leaves.
		if (n-len(ledgerHeader))%slotSize == 0 || refusal.Of(err) != refusal.BadStatement {
			t.Errorf("cut at %d: %v", n, err)
		}
		return
	}
	defer l.Close()
	for i := range complete {
		wantUse(t, "complete slot", use(l, i), refusal.ApprovalUsed)
	}
	wantUse(t, "a new id", use(l, 100), "")
	again := reopen(t, l)
	defer again.Close()
	wantUse(t, "the new id again", use(again, 100), refusal.ApprovalUsed)
	wantUse(t, "an old id again", use(again, 0), map[bool]refusal.Code{true: refusal.ApprovalUsed}[complete > 0])
}

func TestDamagedLedgerIsRefused(t *testing.T) {
	l := create(t)
	if err := use(l, 1, 2, 3); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(l.path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 1
		if err := os.WriteFile(l.path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := OpenLedger(l.path)
		wantUse(t, "flipped byte", err, refusal.BadStatement)
	}
	if err := os.WriteFile(l.path, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLedger(l.path); err == nil {
		t.Error("a file above the limit was read")
	}
}

// faulty is a disk that fails at one step, before or after it took effect.
type faulty struct {
	*os.File
	write, sync int  // calls that still work
	after       bool // the failing call did its work all the same
	part        bool // the failing write did half of it
}

var errDisk = errors.New("disk fault")

func (f *faulty) Write(b []byte) (int, error) {
	if f.write--; f.write >= 0 {
		return f.File.Write(b)
	}
	if f.part {
		b = b[:len(b)/2+5]
	} else if !f.after {
		return 0, errDisk
	}
	n, _ := f.File.Write(b)
	return n, errDisk
}

func (f *faulty) Sync() error {
	if f.sync--; f.sync >= 0 {
		return f.File.Sync()
	}
	if f.after {
		_ = f.File.Sync()
	}
	return errDisk
}

func TestEveryWriteFailsBeforeAndAfterItPersists(t *testing.T) {
	const works = 3
	for what, disk := range map[string]faulty{
		"write, nothing there":  {write: works, sync: 99},
		"write, half of it":     {write: works, sync: 99, part: true},
		"write, all of it":      {write: works, sync: 99, after: true},
		"sync, not on the disk": {write: 99, sync: works},
		"sync, on the disk":     {write: 99, sync: works, after: true},
	} {
		l := create(t)
		disk.File = l.file.(*os.File)
		l.file = &disk
		for i := range works {
			wantUse(t, what, use(l, 10*i, 10*i+1), "")
		}
		if err := use(l, 100, 101); err == nil || refusal.Of(err) != "" {
			t.Errorf("%s: failing use: %v, want a fault without a code", what, err)
		}
		if err := use(l, 200); err == nil {
			t.Errorf("%s: the ledger went on after a fault", what)
		}
		l = reopen(t, l)
		for i := range works {
			wantUse(t, what+": returned before", use(l, 10*i+1), refusal.ApprovalUsed)
		}
		// Either outcome of the failed use is right: nothing was started for it.
		first := use(l, 100)
		if first != nil && refusal.Of(first) != refusal.ApprovalUsed {
			t.Errorf("%s: %v", what, first)
		}
		wantUse(t, what+": failed use, tried twice", use(l, 100), refusal.ApprovalUsed)
		wantUse(t, what+": another", use(l, 300), "")
	}
}

// fill makes n expired ids and returns the time at which they are.
func fill(t testing.TB, l *Ledger, n int) time.Time {
	t.Helper()
	var b []byte
	for i := range n {
		b = appendSlot(b, nonce(1_000_000+i), wire.At(soon))
		l.remember(nonce(1_000_000+i), wire.At(soon))
	}
	if _, err := l.file.Write(b); err != nil {
		t.Fatal(err)
	}
	l.slots += n
	return soon
}

func TestCompactionForgetsWhatExpiredAndNothingElse(t *testing.T) {
	l := create(t)
	later := soon.Add(time.Minute)
	if err := l.Use([]wire.Nonce{nonce(1)}, later.Add(time.Hour), start); err != nil {
		t.Fatal(err)
	}
	at := fill(t, l, 2*spareSlots)
	before, _ := os.Stat(l.path)
	if err := l.Use([]wire.Nonce{nonce(2)}, later, at); err != nil {
		t.Fatal(err)
	}
	after, _ := os.Stat(l.path)
	if want := int64(len(ledgerHeader) + 3*slotSize); after.Size() != want {
		t.Errorf("file of %d bytes after %d, want %d", after.Size(), before.Size(), want)
	}
	for _, l := range []*Ledger{l, reopen(t, l)} {
		for _, id := range []int{1, 2} {
			wantUse(t, "unexpired id", l.Use([]wire.Nonce{nonce(id)}, later, at), refusal.ApprovalUsed)
		}
		if len(l.used) != 2 {
			t.Errorf("%d ids remembered, want 2", len(l.used))
		}
	}
}

func TestE11ClockMovedBackAfterCompaction(t *testing.T) {
	l := create(t)
	at := fill(t, l, 2*spareSlots)
	if err := l.Use([]wire.Nonce{nonce(1)}, at.Add(time.Hour), at); err != nil {
		t.Fatal(err)
	}
	for _, l := range []*Ledger{l, reopen(t, l)} {
		wantUse(t, "a forgotten id, clock back", l.Use([]wire.Nonce{nonce(1_000_000)}, soon, start), refusal.ApprovalUsed)
		wantUse(t, "any id as old", l.Use([]wire.Nonce{nonce(50)}, soon, start), refusal.ApprovalUsed)
	}
	wantUse(t, "one that ends later", l.Use([]wire.Nonce{nonce(51)}, soon.Add(time.Millisecond), start), "")
}

// A clock that was a year ahead must not close the ledger for a year.
func TestClockJumpAheadDoesNotLockOut(t *testing.T) {
	l := create(t)
	fill(t, l, 2*spareSlots)
	year := start.AddDate(1, 0, 0)
	wantUse(t, "a year ahead", l.Use([]wire.Nonce{nonce(1)}, year.Add(time.Minute), year), "")
	wantUse(t, "set right", l.Use([]wire.Nonce{nonce(2)}, soon.Add(time.Minute), start), "")
}

func TestFullLedgerRefuses(t *testing.T) {
	l := create(t)
	fill(t, l, MaxLedger-1)
	wantUse(t, "the last place", use(l, 1), "")
	wantUse(t, "one too many", use(l, 2), refusal.TooMany)
	l = reopen(t, l)
	wantUse(t, "after a restart", use(l, 2), refusal.TooMany)
	wantUse(t, "once they expired", l.Use([]wire.Nonce{nonce(2)}, soon.Add(time.Minute), soon), "")
	if info, err := os.Stat(l.path); err != nil || info.Size() > int64(len(ledgerHeader)+2*slotSize) {
		t.Errorf("file of %d bytes, %v", info.Size(), err)
	}
}

func TestCompactionThatFailsClosesTheLedger(t *testing.T) {
	l := create(t)
	at := fill(t, l, 2*spareSlots)
	wantUse(t, "before", use(l, 1), "")
	real := l.path
	l.path = filepath.Join(t.TempDir(), "gone", "ledger")
	if err := l.Use([]wire.Nonce{nonce(2)}, at.Add(time.Minute), at); err == nil {
		t.Fatal("compaction into a missing folder worked")
	}
	if err := l.Use([]wire.Nonce{nonce(3)}, at.Add(time.Minute), at); err == nil {
		t.Error("the ledger went on")
	}
	if err := l.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
	l.path = real
	l = reopen(t, l)
	wantUse(t, "used before", use(l, 1), refusal.ApprovalUsed)
}

func TestOneOfManyConcurrentUsesWins(t *testing.T) {
	l := create(t)
	var wg sync.WaitGroup
	won := make(chan int, 16)
	for i := range 16 {
		wg.Go(func() {
			if use(l, 1, 100+i) == nil {
				won <- i
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Errorf("%d uses of one approval", len(won))
	}
}

// Any sequence of uses, restarts and clock steps: no id is ever used twice.
func TestNoIDIsEverUsedTwice(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		l, err := CreateLedger(filepath.Join(t.TempDir(), "ledger"))
		if err != nil {
			r.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		used, at := map[int]bool{}, start
		for range rapid.IntRange(1, 25).Draw(r, "steps") {
			switch rapid.IntRange(0, 5).Draw(r, "step") {
			case 0:
				_ = l.Close()
				if l, err = OpenLedger(l.path); err != nil {
					r.Fatal(err)
				}
			case 1:
				at = at.Add(time.Duration(rapid.IntRange(-600, 1200).Draw(r, "seconds")) * time.Second)
			case 2:
				l.slots += 2 * spareSlots // makes the next use look whether to compact
			default:
				n := rapid.IntRange(0, 8).Draw(r, "id")
				// An id keeps its expiry: it is a field of the signed approval.
				expires := start.Add(time.Duration(n+1) * 5 * time.Minute)
				if err := l.Use([]wire.Nonce{nonce(n)}, expires, at); err == nil {
					if used[n] {
						r.Fatalf("id %d was used twice", n)
					}
					used[n] = true
				}
			}
		}
	})
}

func FuzzOpenLedger(f *testing.F) {
	f.Add([]byte(ledgerHeader))
	f.Add(appendSlot(appendSlot([]byte(ledgerHeader), nonce(1), 5), wire.Nonce{}, 7))
	f.Add(append(appendSlot([]byte(ledgerHeader), nonce(1), 5), make([]byte, 40)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		l := &Ledger{used: make(map[wire.Nonce]wire.Millis)}
		end, err := l.read(data)
		if err != nil {
			return
		}
		b := []byte(ledgerHeader)
		for at := len(ledgerHeader); at < end; at += slotSize {
			id, expires, ok := readSlot(data[at : at+slotSize])
			if !ok {
				t.Fatal("took a slot that does not check")
			}
			b = appendSlot(b, id, expires)
		}
		if !bytes.Equal(b, data[:end]) || len(data)-end >= slotSize && !allZero(data[end:]) {
			t.Error("read, but written otherwise")
		}
	})
}

func BenchmarkUse(b *testing.B) {
	l := create(b)
	now := start
	for i := 0; b.Loop(); i++ {
		now = now.Add(time.Second)
		if err := l.Use([]wire.Nonce{nonce(2 * i), nonce(2*i + 1)}, now.Add(5*time.Minute), now); err != nil {
			b.Fatal(err)
		}
	}
}
