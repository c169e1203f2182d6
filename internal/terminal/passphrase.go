package terminal

import (
	"context"
	"fmt"
	"os"
	"sync"

	"golang.org/x/term"
)

// Quiet stops the controlling terminal from showing what is typed until the returned
// function is called, which may be done more than once, or ctx ends. It is for the
// time around questions by ReadPassphrase: who types the next answer while the last
// one is worked on must not read it on the screen, and what was typed so is
// discarded, or the shell behind this program would take a secret for a command.
// Without a terminal it does nothing.
func Quiet(ctx context.Context) (end func()) {
	in, out, err := openTTY()
	if err != nil {
		return func() {}
	}
	_ = out.Close()
	return quiet(ctx, in)
}

// quiet closes in at the end.
func quiet(ctx context.Context, in *os.File) (end func()) {
	old, err := term.GetState(int(in.Fd()))
	if err == nil {
		err = hush(int(in.Fd()))
	}
	if err != nil {
		_ = in.Close()
		return func() {}
	}
	var mu sync.Mutex
	closed := false
	back := func(last bool) {
		mu.Lock()
		defer mu.Unlock()
		if closed {
			return
		}
		show(in, old)
		if closed = last; last {
			_ = in.Close()
		}
	}
	// At the first Ctrl-C: a second one may end the program wherever it is.
	stop := context.AfterFunc(ctx, func() { back(false) })
	return func() {
		stop()
		back(true)
	}
}

// show puts the terminal back to old, without what nobody has read yet.
func show(in *os.File, old *term.State) {
	_ = discard(int(in.Fd()))
	_ = term.Restore(int(in.Fd()), old)
}

// ReadPassphrase asks on the controlling terminal, not on standard input,
// which may be a pipe, and shows nothing of the answer. What was typed before the
// question is no answer to it and is discarded. Cancelling ctx puts the
// terminal back and returns at once. Without a terminal it is ErrNoTerminal. The
// caller clears the answer.
func ReadPassphrase(ctx context.Context, prompt string) ([]byte, error) {
	in, out, err := openTTY()
	if err != nil {
		return nil, ErrNoTerminal
	}
	return ask(ctx, in, out, prompt)
}

// ask closes in and out when the answer has come.
func ask(ctx context.Context, in, out *os.File, prompt string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		// The reader below might hush the terminal after it was put back, and leave it so.
		_, _ = in.Close(), out.Close()
		return nil, err
	}
	old, err := term.GetState(int(in.Fd()))
	if err == nil {
		// Before the question: who types at once must not see the beginning of a secret.
		err = hush(int(in.Fd()))
	}
	if err != nil {
		_, _ = in.Close(), out.Close()
		return nil, ErrNoTerminal
	}
	_ = discard(int(in.Fd()))
	fmt.Fprint(out, prompt)
	typed := make(chan answer, 1)
	go func() {
		text, err := term.ReadPassword(int(in.Fd()))
		show(in, old)
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
		show(in, old)
		fmt.Fprintln(out) // or the shell goes on behind the prompt
		return nil, ctx.Err()
	}
}

type answer struct {
	text []byte
	err  error
}
