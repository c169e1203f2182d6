package utmp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
)

// lockWithin is how long a lock is waited for; our choice.
const lockWithin = time.Second

// In writes that r has logged in. It writes what it can; the error says what it could
// not.
func (f Files) In(r Login) error {
	l, ok := here()
	if !ok {
		return nil
	}
	b := l.encode(userProcess, r)
	return errors.Join(
		change(f.Utmp, func(file *os.File) error { return l.put(file, r.Line, b) }),
		add(f.Wtmp, b),
		change(f.Lastlog, func(file *os.File) error {
			_, err := file.WriteAt(l.encodeLast(r), int64(r.UID)*int64(l.lastlog))
			return err
		}),
	)
}

// Out writes that r, which In has written, logged out at a time.
func (f Files) Out(r Login, at time.Time) error {
	l, ok := here()
	if !ok {
		return nil
	}
	r.At = at
	b := l.encode(deadProcess, r)
	return errors.Join(
		change(f.Utmp, func(file *os.File) error {
			at, kind, have, err := l.find(file, r.Line)
			if err != nil || at < 0 || kind != userProcess || have.PID != r.PID {
				return err // somebody else is at that terminal by now
			}
			_, err = file.WriteAt(b, at)
			return err
		}),
		add(f.Wtmp, b),
	)
}

// Sweep writes the end of logins of ours whose process is gone: of an agent that was
// killed. Ours are those whose host begins with prefix.
func (f Files) Sweep(prefix string, now time.Time) error {
	l, ok := here()
	if !ok {
		return nil
	}
	var stale []Login
	err := change(f.Utmp, func(file *os.File) error {
		return l.each(file, func(_ int64, kind int16, r Login) bool {
			if kind == userProcess && strings.HasPrefix(r.Host, prefix) && errors.Is(syscall.Kill(r.PID, 0), syscall.ESRCH) {
				stale = append(stale, r)
			}
			return true
		})
	})
	for _, r := range stale {
		err = errors.Join(err, f.Out(r, now))
	}
	return err
}

// put writes a record in the place of the one with the same id, or at the end.
func (l layout) put(file *os.File, line string, b []byte) error {
	at, _, _, err := l.find(file, line)
	if err != nil {
		return err
	}
	if at < 0 {
		info, err := file.Stat()
		if err != nil {
			return err
		}
		at = info.Size() - info.Size()%int64(l.size) // over a record that was cut short
	}
	_, err = file.WriteAt(b, at)
	return err
}

// find returns the place of a terminal's record, or -1.
func (l layout) find(file *os.File, line string) (at int64, kind int16, r Login, err error) {
	at = -1
	err = l.each(file, func(place int64, k int16, have Login) bool {
		if k >= initProcess && k <= deadProcess && id(have.Line) == id(line) && have.Line == line {
			at, kind, r = place, k, have
		}
		return at < 0
	})
	return at, kind, r, err
}

// maxRecords bounds what is read of utmp; our choice, above any machine's terminals.
const maxRecords = 64 << 10

// each calls f with each record until it returns false.
func (l layout) each(file *os.File, f func(at int64, kind int16, r Login) bool) error {
	b := make([]byte, l.size)
	for n := range int64(maxRecords) {
		if _, err := file.ReadAt(b, n*int64(l.size)); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if kind, r := l.decode(b); !f(n*int64(l.size), kind, r) {
			return nil
		}
	}
	return nil
}

// change lets f write to a file under its lock, if there is such a file.
func change(path string, f func(*os.File) error) error { return open(path, os.O_RDWR, f) }

// add appends a record to a file, if there is such a file.
func add(path string, b []byte) error {
	return open(path, os.O_WRONLY|os.O_APPEND, func(file *os.File) error {
		_, err := file.Write(b)
		return err
	})
}

func open(path string, how int, f func(*os.File) error) error {
	if path == "" {
		return nil
	}
	file, err := os.OpenFile(path, how|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		lock(file)
		err = errors.Join(f(file), file.Close()) // which gives the lock back
	}
	if err != nil {
		return fmt.Errorf("writing down a login: %v", err)
	}
	return nil
}

// fOFDSetLock is F_OFD_SETLK of fcntl(2): a lock of this opening of the file, which
// works against glibc's and between our own goroutines.
const fOFDSetLock = 37

// lock waits for the file's lock for a moment; see the package comment.
func lock(file *os.File) {
	raw, err := file.SyscallConn()
	if err != nil {
		return
	}
	for deadline := time.Now().Add(lockWithin); ; time.Sleep(10 * time.Millisecond) {
		var locked error
		_ = raw.Control(func(fd uintptr) {
			locked = syscall.FcntlFlock(fd, fOFDSetLock, &syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart})
		})
		if locked == nil || time.Now().After(deadline) {
			return
		}
	}
}
