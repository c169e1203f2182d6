package terminal

import (
	"context"
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

// ReadPassphrase asks on the controlling terminal, not on standard input,
// which may be a pipe, and shows nothing of the answer. Cancelling ctx puts the
// terminal back and returns at once. Without a terminal it is ErrNoTerminal. The
// caller clears the answer.
func ReadPassphrase(ctx context.Context, prompt string) ([]byte, error) {
	in, out, err := openTTY()
	if err != nil {
		return nil, ErrNoTerminal
	}
	old, err := term.GetState(int(in.Fd()))
	if err != nil {
		_, _ = in.Close(), out.Close()
		return nil, ErrNoTerminal
	}
	// Before the question: who types at once must not see the beginning of a secret.
	if err := hush(int(in.Fd())); err != nil {
		_, _ = in.Close(), out.Close()
		return nil, ErrNoTerminal
	}
	fmt.Fprint(out, prompt)
	typed := make(chan answer, 1)
	go func() {
		text, err := term.ReadPassword(int(in.Fd()))
		_ = term.Restore(int(in.Fd()), old)
		fmt.Fprintln(out)
		_, _ = in.Close(), out.Close()
		typed <- answer{text, err}
	}()
	select {
	case a := <-typed:
		if a.err != nil {
			return nil, fmt.Errorf("reading the passphrase: %v", a.err)
		}
		return a.text, nil
	case <-ctx.Done():
		// A read of a terminal cannot be called back, nor does closing it end one:
		// the reader is left to the next line end, or to the end of the process.
		_ = term.Restore(int(in.Fd()), old)
		return nil, ctx.Err()
	}
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

type answer struct {
	text []byte
	err  error
}
