package terminal

import (
	"context"
	"errors"
	"os"
	"time"
)

// openTTY opens the console's two ends, which Windows gives two names: a prompt
// written to the first is shown nowhere.
func openTTY() (in, out *os.File, err error) { return openBoth("CONIN$", "CONOUT$") }

// pollSize is how often a Windows console is asked for its size: it has no
// signal for a change. Our choice.
const pollSize = 500 * time.Millisecond

// Resizes delivers the console's size each time it changes, until ctx ends.
func Resizes(ctx context.Context, f *os.File) <-chan Size {
	out := make(chan Size, 1)
	go func() {
		defer close(out)
		tick := time.NewTicker(pollSize)
		defer tick.Stop()
		last, _ := SizeOf(f)
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if size, err := SizeOf(f); err == nil && size != last {
				last = size
				select {
				case <-out:
				default:
				}
				out <- size
			}
		}
	}()
	return out
}

// Suspend is not possible here.
func Suspend() error { return errors.New("Windows has no way to suspend a program") }
