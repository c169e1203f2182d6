package process

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/windows"

	"github.com/tucdesk/tucdesk/agent/pipe"
)

// console is our end of a pseudo-console. What closes it is a process of the system's
// own, conhost, which paints what it still has to and ends.
type console struct {
	handle  windows.Handle
	in, out *os.File

	closed chan struct{} // closed when conhost has let go

	mu   sync.Mutex // held while handle is used, so that nobody does who was late
	gone bool       // guarded by mu: handle is being closed
}

// attachTerminal makes a pseudo-console. The modes of the operator's terminal mean
// nothing to it: a program sets its own.
func (p *Process) attachTerminal(t Terminal) (streams, error) {
	in, theirIn, err := pipe.New(pipe.Out)
	if err != nil {
		return streams{}, err
	}
	defer windows.CloseHandle(theirIn)
	out, theirOut, err := pipe.New(pipe.In)
	if err != nil {
		_ = in.Close()
		return streams{}, err
	}
	defer windows.CloseHandle(theirOut)
	c := &console{in: in, out: out, closed: make(chan struct{})}
	if err := windows.CreatePseudoConsole(coord(t.Size.Clamp()), theirIn, theirOut, 0, &c.handle); err != nil {
		_, _ = in.Close(), out.Close()
		return streams{}, fmt.Errorf("opening a terminal: %w", err)
	}
	p.tty, p.stdin = c, ttyInput{in}
	p.stdout = &output{f: file{out}, exited: p.exited}
	return streams{console: c.handle}, nil
}

func coord(s Size) windows.Coord { return windows.Coord{X: int16(s.Columns), Y: int16(s.Rows)} }

// resize does nothing to a console that is being closed: its handle is memory of this
// process, and an operator may ask at any time.
func (c *console) resize(s Size) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return nil
	}
	return windows.ResizePseudoConsole(c.handle, coord(s))
}

// release begins to close the console. Programs on it hear of it and may take seconds;
// before that conhost writes what is not yet written, and waits for us to read it.
func (c *console) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return
	}
	c.gone = true
	go func() { // its owner is wait
		defer close(c.closed)
		windows.ClosePseudoConsole(c.handle)
	}()
}

// hangUp closes our ends, so that conhost waits for no reader, and begins to close the
// console. That comes to its end when its last program has, so nothing here waits for it.
func (c *console) hangUp() error {
	err := errors.Join(c.in.Close(), c.out.Close())
	c.release()
	return err
}

// wait returns when the console that was released is closed.
func (c *console) wait() { <-c.closed }

// flush has the terminal of a program that has ended paint what it still has to. The
// end of its output is then the end of the stream, and no pause has to be taken for it.
// Without a reader, or with others on the terminal that take their time, it is not
// waited for.
func (p *Process) flush() {
	c, ok := p.tty.(*console)
	if !ok {
		return
	}
	c.release()
	select {
	case <-c.closed:
	case <-p.ending:
	case <-time.After(killAfter):
	}
}

// ttyInput ignores Close: there is no end of a console's input but ^Z, which the user types.
type ttyInput struct{ f *os.File }

func (t ttyInput) Write(b []byte) (int, error) { return t.f.Write(b) }

// Close does nothing; see the type.
func (ttyInput) Close() error { return nil }
