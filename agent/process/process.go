// Package process runs exactly one program for one remote session and ends it
// with everything it left behind. It knows nothing of keys or of the network.
//
// What it promises, and against what:
//
//   - The program is the file that was judged: Resolve returns its real path,
//     device and inode; on Linux Start opens that file, compares, and executes
//     the open descriptor, so a swap after the decision changes nothing
//     (attack E6). A script is executed by its path, because its interpreter
//     opens it again; that small window is the kernel's.
//   - Arguments and environment are the given ones, byte for byte. Nothing of
//     this process' environment and no descriptor beyond 0, 1, 2 reaches the
//     program (attack H6).
//   - It leads a session of its own, with its own terminal as controlling
//     terminal if it has one, so it cannot push input into anybody else's
//     terminal (attack H10).
//   - Exit codes, signals and the core flag are reported as they were (H9).
//   - Output is read only as fast as the caller reads: the kernel's pipe or
//     terminal buffer is the only buffer (H4).
//   - End hangs up and, two seconds later, kills everything that is still in
//     the program's session, and on Linux, in a process that is there for this
//     program alone, everything that descends from it, daemons too: they cannot
//     leave the process that adopts orphans. There the program also dies when
//     this process does, even by SIGKILL (H2). After Leave, End spares what was
//     meant to go on. On Windows the program is in a job from its first instruction, which no
//     process can leave and which ends with this one, however that ends. Whatever the
//     system starts on its behalf is in none: WMI, the task scheduler and services
//     make processes of their own, as systemd and at do on Linux.
//
// A program on Windows gets a command line and no list of arguments; it is made so
// that programs which split it as C does get the given ones back. Text that is not
// UTF-8 has no form there and is refused, as are batch files: what splits their line
// is cmd.exe, which finds commands in arguments.
//
// Source: protocol 4.3 (command identity), design 4.1 and 4.3.
package process

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Our choices.
const (
	killAfter  = 2 * time.Second        // between hanging up and killing
	drainGrace = 100 * time.Millisecond // silence after the exit that ends the output
	drainMax   = 1 << 20                // bytes read after the exit: more than a pipe can hold
)

// Spec says what to run.
type Spec struct {
	File     File      // from Resolve; only its Path is needed for a login shell
	Argv     []string  // argv[0] included, without zero bytes
	Dir      string    // absolute
	Env      []string  // the whole environment, "NAME=value"
	Terminal *Terminal // nil for three pipes
	Alone    bool      // this process has no other children: End ends all that it has
}

// Terminal describes the pseudo-terminal to run on.
type Terminal struct {
	Size  Size
	Modes []Mode // nil for the system's defaults
}

// Mode is one terminal mode of RFC 4254 section 8. Those that this system does
// not have are skipped.
type Mode struct {
	Op    byte
	Value uint32
}

// Size is a terminal's size in characters.
type Size struct{ Columns, Rows int }

// Clamp brings both sides into the range that programs survive: 0 and less
// become 80×24, anything beyond 2,048 becomes 2,048 (attack H5; our choice: a
// program that keeps a cell for each character stays below 100 MB).
func (s Size) Clamp() Size { return Size{clamp(s.Columns, 80), clamp(s.Rows, 24)} }

func clamp(n, preset int) int {
	if n <= 0 {
		return preset
	}
	return min(n, 2048)
}

// Exit is how a program ended. Signal is "" after a normal exit, otherwise its
// name without "SIG" as RFC 4254 section 6.10 writes it.
type Exit struct {
	Code   int
	Signal string
	Core   bool
}

// Process is a running program. Its methods may be called concurrently.
type Process struct {
	native
	tty    terminal // nil on pipes
	stdin  io.WriteCloser
	stdout *output
	stderr *output // nil on a terminal

	exited chan struct{} // closed when exit is set
	exit   Exit          // guarded by exited
	reap   chan struct{} // closed when the leader may be reaped
	ending chan struct{} // closed when End begins
	reaper sync.WaitGroup
	alone  bool
	leave  atomic.Bool   // End spares what stays
	done   chan struct{} // closed when run is over

	endOnce sync.Once
}

// terminal is our end of a pseudo-terminal.
type terminal interface {
	resize(Size) error
	hangUp() error // closes our end; the kernel then sends SIGHUP
}

// Stdin returns the program's input. Closing it ends the input of a program on
// pipes and does nothing on a terminal, where only the user can type ^D.
func (p *Process) Stdin() io.WriteCloser { return p.stdin }

// Stdout returns the program's output, both streams when it has a terminal.
// It ends when all writers are gone, or when the program has exited and its
// orphans were silent for a moment: a background process must not keep a
// session alive.
func (p *Process) Stdout() io.Reader { return p.stdout }

// Stderr returns the second stream, or nil on a terminal.
func (p *Process) Stderr() io.Reader {
	if p.stderr == nil {
		return nil
	}
	return p.stderr
}

// Exited is closed once the program itself has ended; a stop is no end.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Wait waits for Exited and returns how the program ended.
func (p *Process) Wait() Exit {
	<-p.exited
	return p.exit
}

// Resize tells the terminal its new size; on pipes it does nothing.
func (p *Process) Resize(s Size) error {
	if p.tty == nil {
		return nil
	}
	return p.tty.resize(s.Clamp())
}

// OutputBytes counts what was read of all streams, for the audit log.
func (p *Process) OutputBytes() int64 {
	n := p.stdout.n.Load()
	if p.stderr != nil {
		n += p.stderr.n.Load()
	}
	return n
}

// End ends what is left of the session and frees everything. It returns when
// nothing of it runs any more, at most a few seconds later.
func (p *Process) End() {
	p.endOnce.Do(func() {
		p.hangUp()
		close(p.ending) // from here on the dead keep their numbers, so that none is hit who got one anew
		p.reaper.Wait()
		p.sweep()
		close(p.reap)
		<-p.done
		p.closeFiles()
	})
	<-p.done
}

// Leave has End spare what Stays speaks of. The program itself ends in any case.
func (p *Process) Leave() { p.leave.Store(true) }

func (p *Process) hangUp() {
	_ = p.stdin.Close()
	if p.tty != nil {
		_ = p.tty.hangUp()
	}
}

func (p *Process) closeFiles() {
	_ = p.stdout.f.Close()
	if p.stderr != nil {
		_ = p.stderr.f.Close()
	}
}

// finish publishes how the program ended and wakes blocked readers, so that the
// drain rules start to hold for them.
func (p *Process) finish(e Exit) {
	p.exit = e
	close(p.exited)
	p.stdout.expire()
	if p.stderr != nil {
		p.stderr.expire()
	}
}

// source is what a stream is read from. readNow reads what is there already; it waits for
// nothing else, on Windows for that as long as soon.
type source interface {
	io.ReadCloser
	SetReadDeadline(time.Time) error
	readNow(b []byte) int
}

// output is one stream of the program. One goroutine reads it.
type output struct {
	f      source
	exited <-chan struct{}
	n      atomic.Int64 // bytes read in all
	late   int          // bytes read after the exit; of the reading goroutine
}

// Read ends with io.EOF when all writers are gone, or a moment or drainMax bytes after the
// program's exit, whatever its orphans still hold open.
func (o *output) Read(b []byte) (int, error) {
	for {
		late := o.isLate()
		if late {
			if o.late >= drainMax {
				return 0, io.EOF
			}
			o.expire()
		}
		n, err := o.f.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if !late {
				continue // the exit came in between: what is still there counts
			}
			n = o.f.readNow(b) // we may have slept past the deadline with data waiting
			err = io.EOF
		}
		o.n.Add(int64(n))
		if late {
			o.late += n
		}
		if n > 0 {
			return n, nil
		}
		if err != nil && (ended(err) || errors.Is(err, os.ErrClosed)) {
			err = io.EOF
		}
		return n, err
	}
}

func (o *output) isLate() bool {
	select {
	case <-o.exited:
		return true
	default:
		return false
	}
}

func (o *output) expire() { _ = o.f.SetReadDeadline(time.Now().Add(drainGrace)) }
