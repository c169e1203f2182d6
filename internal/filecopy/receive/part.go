package receive

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path"
	"time"
	"unicode/utf8"

	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/filecopy/disk"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// maxStem is how much of a file's name the name of its part has; our choice. The
// rest of 255 bytes is for what is put around it.
const maxStem = 200

// Of locks; our choice. A sender that is silent for lendAfter lends its locks, and a
// copy that finds one waits a little longer than that.
const (
	lendAfter = 2 * time.Second
	lockWait  = 3 * time.Second
	lockEvery = 50 * time.Millisecond
)

// partName is what a file is called until it is complete: beside it, so that a
// rename is enough, hidden, and with an ending that says what it is. More in it is the
// mark of who may not look at other parts, or makes it a second copy of the same file.
func partName(base, more string) string {
	if len(base) > maxStem {
		sum := sha256.Sum256([]byte(base))
		stem := base[:maxStem]
		for !utf8.ValidString(stem) && len(stem) > maxStem-utf8.UTFMax {
			stem = stem[:len(stem)-1]
		}
		base = stem + "." + hex.EncodeToString(sum[:8])
	}
	if more != "" {
		base += "." + more
	}
	return "." + base + filecopy.PartSuffix
}

// part is a file that is not complete yet. Nothing of the target changes before
// commit.
type part struct {
	t    *tree
	dir  *folder
	name string // whole, as it will be
	base string
	temp string
	f    *os.File
	kept bool // its name is the one that the next copy looks for
	have int64

	lent fs.FileInfo // what it was when the lock was given back; nil while it is ours

	barred bool // it is without a bit that was asked for
}

// target is what lies where a file is to be: nil for nothing. Folders, devices,
// FIFOs and sockets are not replaced (attack I4).
func (t *tree) target(dir *folder, base string) (fs.FileInfo, error) {
	info, err := dir.root.Lstat(base)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case info.Mode().IsRegular(), info.Mode().Type() == fs.ModeSymlink:
		return info, nil
	}
	return nil, refusal.New(refusal.BadFile, "there is something else of that name that is no file")
}

// begin opens the part of a file: what an earlier copy left behind, or a new one.
func (t *tree) begin(name string) (*part, error) {
	dir, err := t.open(path.Dir(name))
	if err != nil {
		return nil, err
	}
	p := &part{t: t, dir: dir, name: name, base: path.Base(name)}
	if _, err = t.target(dir, p.base); err == nil {
		err = p.open()
	}
	if err != nil {
		t.done(dir)
		return nil, err
	}
	return p, nil
}

func (p *part) open() error {
	if !p.t.anew {
		if err := p.goOn(); err != nil || p.f != nil {
			return err
		}
	}
	p.temp, p.kept, p.have = partName(p.base, rand.Text()[:8]), false, 0
	f, err := p.dir.root.OpenFile(p.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	p.f = f
	return err
}

// goOn opens the part by the name that the next copy looks for, unless there is
// something else of that name, or another copy writes it.
func (p *part) goOn() error {
	p.temp, p.kept = partName(p.base, p.t.mark), true
	f, err := p.dir.root.OpenFile(p.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		f = p.earlier()
	} else if err != nil {
		return err
	}
	if f != nil && p.mine(f) {
		p.f = f
	} else if f != nil {
		_ = f.Close()
	}
	return nil
}

// earlier opens what lies under the name of the part, if that can only have come
// from a copy of ours: in a folder where others may write, it could be a link to a
// file that must not be written (attack I9).
func (p *part) earlier() *os.File {
	info, err := p.dir.root.Lstat(p.temp)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	if facts := disk.FactsOf(info); !facts.Ours || facts.Links != 1 {
		return nil
	}
	f, err := p.dir.root.OpenFile(p.temp, os.O_RDWR|disk.OpenFlags, 0)
	if err != nil {
		return nil
	}
	if opened, err := f.Stat(); err != nil || !os.SameFile(info, opened) || f.Chmod(0o600) != nil {
		_ = f.Close()
		return nil
	}
	p.have = info.Size()
	return f
}

// mine locks f, and looks whether it still has its name afterwards: another copy
// may have completed it in between. One whose session has lost its way lends the lock
// soon.
func (p *part) mine(f *os.File) bool {
	for begun := time.Now(); disk.Lock(f) != nil; time.Sleep(lockEvery) {
		if time.Since(begun) > lockWait {
			return false
		}
	}
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	p.have = opened.Size()
	return p.named(opened)
}

// named reports that info is of what lies under the name of the part.
func (p *part) named(info fs.FileInfo) bool {
	now, err := p.dir.root.Lstat(p.temp)
	return err == nil && os.SameFile(info, now)
}

// lend gives the lock back while nothing is heard of the sender: a client that was
// killed leaves a session behind that waits for it, and the copy that goes on is
// another one.
func (p *part) lend() {
	info, err := p.f.Stat()
	if err == nil && disk.Unlock(p.f) == nil {
		p.lent = info
	}
}

// recall takes the lock again; an error means that another copy has taken over.
func (p *part) recall() error {
	before := p.lent
	if before == nil {
		return nil
	}
	if disk.Lock(p.f) == nil {
		info, err := p.f.Stat()
		if err == nil && info.Size() == before.Size() && info.ModTime().Equal(before.ModTime()) && p.named(info) {
			p.lent = nil
			return nil
		}
	}
	return refusal.New(refusal.FileChanged, "another copy of it has taken over")
}

// meta is what a file gets beside its contents.
type meta struct {
	mode     uint32 // as the sender has it
	time     time.Time
	preserve bool
	special  bool // setuid, setgid and sticky were asked for as well
	allowed  bool // and may be set
}

// errBarred is told of what is there as it was sent, but for its special bits.
var errBarred = refusal.New(refusal.PolicyDenied, "copied, but without its setuid, setgid and sticky bits: at a machine they need a shell as the same user, and a rule for copies without roots")

// permissions are those of the new file. Without preserve a file that is replaced
// keeps its own; setuid and the like come only where they were asked for (attack I5).
func (p *part) permissions(m meta) fs.FileMode {
	mode := fs.FileMode(m.mode) & fs.ModePerm
	if m.preserve {
		return mode | m.specialBits()
	}
	if old, err := p.dir.root.Lstat(p.base); err == nil && old.Mode().IsRegular() {
		return old.Mode() & fs.ModePerm
	}
	return mode &^ p.t.umask
}

func (m meta) specialBits() (bits fs.FileMode) {
	if !m.special || !m.allowed {
		return 0
	}
	for _, b := range [...]struct {
		raw uint32
		bit fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if m.mode&b.raw != 0 {
			bits |= b.bit
		}
	}
	return bits
}

// barred reports that bits were asked for and are not set (attack I5).
func (m meta) barred() bool { return m.preserve && m.special && !m.allowed && m.mode&0o7000 != 0 }

// complete gives the part its size, mode and time; only commit is missing then.
func (p *part) complete(size uint64, m meta) error {
	p.barred = m.barred()
	err := p.f.Truncate(int64(size))
	if err == nil {
		err = p.f.Chmod(p.permissions(m))
	}
	if err == nil && m.preserve {
		err = p.dir.root.Chtimes(p.temp, m.time, m.time)
	}
	return err
}

// commit puts the part, which is on the disk, in the place of the target, and says
// how long it is.
func (p *part) commit() (size int64, err error) {
	defer p.t.done(p.dir)
	defer p.f.Close()
	old, err := p.t.target(p.dir, p.base)
	if err == nil && old != nil {
		err = p.t.claimed(p.name, old)
	}
	if err == nil {
		err = p.dir.root.Rename(p.temp, p.base) // with the lock held: see mine
	}
	if err != nil {
		_ = p.dir.root.Remove(p.temp)
		return 0, err
	}
	info, err := p.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), p.t.claim(p.name, info)
}

// leave gives the part up. What the next copy can use stays.
func (p *part) leave(useful bool) {
	if p.recall() == nil && (!p.kept || !useful) {
		_ = p.dir.root.Remove(p.temp)
	}
	_ = p.f.Close()
	p.t.done(p.dir)
}
