//go:build unix

package terminal

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// openTTY opens the terminal for reading and for writing.
func openTTY() (in, out *os.File, err error) { return openBoth("/dev/tty", "/dev/tty") }

// Resizes delivers the terminal's size each time it changes, newest only, until
// ctx ends.
func Resizes(ctx context.Context, f *os.File) <-chan Size {
	out := make(chan Size, 1)
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		defer close(out)
		defer signal.Stop(changed)
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			if size, err := SizeOf(f); err == nil {
				select {
				case <-out: // a size nobody took yet is out of date
				default:
				}
				out <- size
			}
		}
	}()
	return out
}

// resumeWithin is how long Suspend waits to learn that it was stopped and goes on;
// our choice. Time does not pass for a process that is stopped.
const resumeWithin = time.Second

// Suspend stops this process as Ctrl-Z does, and returns when it was told to go on.
func Suspend() error {
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGCONT)
	defer signal.Stop(again)
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGTSTP); err != nil {
		return fmt.Errorf("suspending this program: %v", err)
	}
	select {
	case <-again:
		return nil
	case <-time.After(resumeWithin): // nobody was there to start us again: an orphan is not stopped
		return nil
	}
}
