package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
)

// The exit codes. A remote command's own status, 0 to 255, is passed through
// where there was one; a signal is 128 plus its number, as shells do it. 255
// for "the session could not be had or was lost" is OpenSSH's.
const (
	ExitFailed      = 1   // anything that has no code of its own
	ExitUsage       = 2   // the command line was wrong
	ExitInterrupted = 130 // Ctrl-C before a remote command began
	ExitNotLoggedIn = 250 // log in, then try again
	ExitOffline     = 251 // the machine is not connected
	ExitPending     = 252 // an approval is missing, or came too late
	ExitDenied      = 253 // policy, an approver or the agent said no
	ExitTransport   = 255 // server, relay or session could not be reached or was lost
)

// Error is an error with what to do next and how to exit.
type Error struct {
	Err   error    // what happened; never nil
	Hints []string // commands or sentences, most useful first
	Exit  int      // 0: by the refusal in Err's chain
}

// Error returns the text of the cause.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// about is an error that has to do with one machine.
type about struct {
	err  error
	host string
}

// About is err, in whose hints the machine's name stands in place of HOST; nil for none.
// Hints for a code are the same for every machine, and who copies one has to fill that in.
func About(host string, err error) error {
	if err == nil || host == "" {
		return err
	}
	return &about{err, host}
}

// Error returns the text of the cause.
func (a *about) Error() string { return a.err.Error() }

// Unwrap returns the cause.
func (a *about) Unwrap() error { return a.err }

// Status ends the program with a remote command's exit status, silently: what
// there was to say the remote command has said. It has the 32 bits of Windows: as an
// int, half of them would be below 0 on a system of 32 bits.
type Status uint32

// Error is for programs that look; report says nothing.
func (s Status) Error() string { return fmt.Sprintf("remote exit status %d", uint32(s)) }

// Listening adds to err, of a server that could not begin, what to do when its port
// is taken or may not be opened by this user.
func Listening(err error) error {
	var op *net.OpError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &Error{Err: err, Hints: []string{"another program, or this one started twice, listens there; on Linux: ss -tulpn", "or choose another port"}}
	case errors.As(err, &op) && errors.Is(err, fs.ErrPermission):
		return &Error{Err: err, Hints: []string{"ports below 1024 are for root; on Linux also for: setcap cap_net_bind_service=+ep PROGRAM"}}
	}
	return err
}

// Report prints err for a person, with hints, and returns the exit status that it
// stands for: its lower 32 bits count, and where an int has no more it may be below 0.
func Report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	var status Status
	if errors.As(err, &status) {
		return int(status)
	}
	fmt.Fprintf(w, "error: %s\n", terminal.Escape(err.Error()))
	exit, hints := advice(err)
	for _, h := range hints {
		fmt.Fprintf(w, "hint: %s\n", terminal.Escape(h))
	}
	return exit
}

func advice(err error) (exit int, hints []string) {
	known := known[refusal.Of(err)]
	exit, hints = known.exit, known.hints
	var e *Error
	if errors.As(err, &e) {
		if len(e.Hints) > 0 {
			hints = e.Hints
		}
		if e.Exit != 0 {
			exit = e.Exit
		}
	}
	if a := new(about); errors.As(err, &a) {
		hints = slices.Clone(hints)
		for i, h := range hints {
			hints[i] = strings.ReplaceAll(h, "HOST", a.host)
		}
	}
	if exit == 0 {
		exit = ExitFailed
		if errors.Is(err, context.DeadlineExceeded) {
			exit = ExitTransport
		}
	}
	return exit, hints
}
