package terminal

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/term"
)

// ErrNoTerminal is returned where a person would have to be asked and there is
// none. A program without a terminal never waits for an answer.
var ErrNoTerminal = errors.New("there is no terminal to ask at")

// Size is the size of a terminal in characters.
type Size struct{ Rows, Cols int }

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// SizeOf returns the size of the terminal f.
func SizeOf(f *os.File) (Size, error) {
	cols, rows, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return Size{}, fmt.Errorf("asking the terminal for its size: %v", err)
	}
	return Size{Rows: rows, Cols: cols}, nil
}

// Raw switches f to raw mode: every key goes to the remote side. The returned
// function puts it back and may be called more than once.
func Raw(f *os.File) (restore func(), err error) {
	old, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("switching the terminal to raw mode: %v", err)
	}
	return func() { _ = term.Restore(int(f.Fd()), old) }, nil
}

func openBoth(inName, outName string) (in, out *os.File, err error) {
	if in, err = os.OpenFile(inName, os.O_RDWR, 0); err != nil {
		return nil, nil, err
	}
	if out, err = os.OpenFile(outName, os.O_RDWR, 0); err != nil {
		return nil, nil, errors.Join(err, in.Close())
	}
	return in, out, nil
}
