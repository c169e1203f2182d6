//go:build unix

package process

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// whyNot names why spec did not start. It looks as the user of this process, so it
// tells nothing that the program could not have found out; a path is the operator's
// own text, or a link's, and is not repeated.
func whyNot(spec Spec, err error) error {
	if refusal.Of(err) != "" {
		return err
	}
	if e := badDir(spec.Dir); e != nil {
		return e
	}
	_, there := os.Stat(spec.File.Path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return refusal.New(refusal.NotExecutable, "its user may not run this file")
	case errors.Is(err, syscall.ENOEXEC):
		return refusal.New(refusal.NotExecutable, "the file is no program of this system")
	case errors.Is(err, syscall.ETXTBSY):
		return refusal.New(refusal.NotExecutable, "the file is being written to")
	case errors.Is(err, syscall.ENOENT) && there == nil:
		return refusal.New(refusal.NotExecutable, "the interpreter that the file names is not there")
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		return refusal.New(refusal.CommandNotFound, "no such program on this host")
	case errors.Is(err, syscall.E2BIG):
		return refusal.New(refusal.BadArgument, "arguments and environment are longer than this host takes")
	}
	return refusal.New(refusal.Unavailable, "the host cannot start a program: %s", systemText(err))
}

// badDir tries dir as the kernel will: being there is not enough, it must be
// possible to enter it.
func badDir(dir string) error {
	_, err := os.Stat(dir + "/.")
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return refusal.New(refusal.BadArgument, "its user may not enter the working directory")
	case errors.Is(err, syscall.ENOTDIR):
		return refusal.New(refusal.BadArgument, "the working directory is no directory")
	}
	return refusal.New(refusal.BadArgument, "the working directory is not there")
}

// systemText is the text of a system error's number, without the path that usually
// goes along with it.
func systemText(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number.Error()
	}
	return "it does not say why"
}
