//go:build unix

package terminal

import (
	"context"
	"os"
	"os/signal"
	"syscall"
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
