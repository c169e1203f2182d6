package filecopy

import (
	"errors"
	"io/fs"
	"os"

	"github.com/tucdesk/tucdesk/internal/filecopy/disk"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// NotData is why a device, FIFO or socket is left out, as the text of a Problem with
// BadFile. An end that reads it knows by it that no other way of asking helps.
const NotData = "a device, FIFO or socket, left out"

// ProblemOf tells the other end why an entry is left out. Of the system's errors it
// keeps the reason and not the path, which is nobody's business there.
func ProblemOf(name string, err error) Problem {
	code, why := Reason(err)
	return Problem{Name: name[:min(len(name), MaxName)], Code: code, Text: why}
}

// Reason is an error as the other end may see it.
func Reason(err error) (refusal.Code, string) {
	var e *refusal.Error
	if errors.As(err, &e) {
		return e.Code, e.Detail
	}
	code := refusal.FileFailed
	switch {
	case errors.Is(err, fs.ErrNotExist):
		code = refusal.NotFound
	case errors.Is(err, fs.ErrPermission):
		code = refusal.FileDenied
	case disk.Full(err):
		code = refusal.NoSpace
	}
	return code, cause(err).Error()
}

func cause(err error) error {
	var p *fs.PathError
	var l *os.LinkError
	var s *os.SyscallError
	switch {
	case errors.As(err, &p):
		return p.Err
	case errors.As(err, &l):
		return l.Err
	case errors.As(err, &s):
		return s.Err
	}
	return err
}
