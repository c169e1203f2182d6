package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/screen"
)

// play runs what w asks for on an open session and joins it to our own input
// and output until it ends.
func play(ctx context.Context, tio *cli.IO, conn *opened, w want, x around) (*player, error) {
	p := &player{io: tio, conn: conn, host: w.host, around: x, renew: &conn.renew, gone: make(chan struct{}), broken: make(chan struct{})}
	ch, err := conn.OpenSession(ctx)
	if err != nil {
		return p, err
	}
	defer ch.Close()
	p.ch = ch
	if w.params.TTY {
		restore, err := p.attachTerminal(ctx, w.predict)
		if err != nil {
			return p, err
		}
		defer restore()
	}
	if x.agent != "" {
		lending, stop := context.WithCancel(ctx)
		var lent sync.WaitGroup
		lent.Go(func() { lend(lending, conn.Conn, ch.ID(), x.agent) })
		defer lent.Wait()
		defer stop()
		if err := ch.LendAgent(); err != nil {
			return p, err
		}
	}
	if err := start(ctx, ch, w); err != nil {
		return p, err
	}
	if x.started != nil {
		x.started()
	}
	return p, p.run(ctx)
}

// around is what goes on beside a program. The zero value is nothing.
type around struct {
	escape  byte          // character of the escapes; 0 is none
	list    func() string // lines about forwarded connections, for ~#
	started func()        // the machine has started the program
	ended   func()        // the program has ended, and the machine said how
	late    *lateWriter   // talk that a raw terminal takes over
	verbose bool          // tell each change of the session's way
	agent   string        // socket of the SSH agent that the program is lent; "" is none
}

func start(ctx context.Context, ch *session.Channel, w want) error {
	if w.action == wire.Shell {
		return ch.Shell(ctx)
	}
	argv := make([][]byte, len(w.params.Argv))
	for i, a := range w.params.Argv {
		argv[i] = a
	}
	return ch.Exec(ctx, argv)
}

// player joins one channel to the terminal or to pipes.
type player struct {
	io     *cli.IO
	ch     *session.Channel
	conn   *opened
	host   string // as the person wrote it
	around around
	pause  func() error // leaves raw mode and stops this process until it is told to go on
	renew  *renewal
	raw    bool
	screen *screen.Screen // between the program and a real terminal, else nil
	gone   chan struct{}  // closed when the person asked to leave by an escape

	broken  chan struct{} // closed when nobody reads our output any more
	breakIt sync.Once

	first atomic.Int64 // nanoseconds since 1970 of the first output; 0 until then
}

// firstOutput is how long after since the program first said something.
func (p *player) firstOutput(since time.Time) string {
	at := p.first.Load()
	if at == 0 {
		return "(none)"
	}
	return time.Unix(0, at).Sub(since).Round(time.Millisecond).String()
}

// firstByte notes when output begins.
type firstByte struct {
	p *player
	w io.Writer
}

// Write passes output on.
func (f firstByte) Write(b []byte) (int, error) {
	f.p.first.CompareAndSwap(0, time.Now().UnixNano())
	n, err := f.w.Write(b)
	if err != nil {
		f.p.breakIt.Do(func() { close(f.p.broken) })
	}
	return n, err
}

// run copies until the program has ended and all its output is written. The
// copy of our input is left behind: a read of a terminal cannot be called back,
// and the process ends with it.
func (p *player) run(ctx context.Context) error {
	leave := p.renew.keep(p.warn)
	defer leave()
	if !p.raw {
		telling, quiet := context.WithCancel(ctx)
		var teller sync.WaitGroup
		teller.Go(func() { p.conn.tellLoss(telling, p.host, p.io.Say) })
		defer teller.Wait()
		defer quiet()
	}
	if p.around.verbose {
		var verbose sync.WaitGroup
		telling, quiet := context.WithCancel(ctx)
		verbose.Go(func() { p.conn.tellWays(telling, func(way session.PathState) { p.remark(wayText(way, p.host)) }) })
		defer verbose.Wait()
		defer quiet()
	}
	go p.feed()
	var out sync.WaitGroup
	stdout, stderr := io.Writer(p.io.Out), io.Writer(p.io.Err)
	if p.screen != nil { // one terminal: nothing passes by the screen
		stdout, stderr = p.screen, p.screen
	}
	out.Go(func() { _, _ = io.Copy(firstByte{p, stdout}, p.ch.Stdout()) })
	out.Go(func() { _, _ = io.Copy(firstByte{p, stderr}, p.ch.Stderr()) })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		out.Wait()
	}()
	select {
	case <-ended:
	case <-p.gone:
		_ = p.ch.Close()
		<-ended
		return cli.Status(cli.ExitTransport)
	case <-p.broken: // "| head": end what would go on for nobody
		_ = p.ch.Close()
		<-ended
		return cli.Status(128 + signalNumbers["PIPE"])
	case <-ctx.Done():
		// Ctrl-C without a raw terminal: the remote program gets it too.
		_ = p.ch.Signal("INT")
		_ = p.conn.Close()
		<-ended
		return cli.Status(cli.ExitInterrupted)
	}
	exit, err := p.ch.Wait()
	if err == nil && exit.Refusal == nil && p.around.ended != nil {
		p.around.ended()
	}
	return status(exit, err)
}

// talk is where we say something on a raw terminal.
func (p *player) talk() io.Writer {
	if p.screen != nil {
		return saying{p.screen}
	}
	return p.io.Err
}

const noConnections = "\r\nno connections are forwarded\r\n"

// connections are lines about what is forwarded beside this program.
func (p *player) connections() string {
	if p.around.list == nil {
		return noConnections
	}
	return p.around.list()
}

// feed copies our input to the program.
func (p *player) feed() {
	in := p.ch.Stdin()
	var src io.Reader = p.io.In
	if p.raw {
		src = &escapes{
			in: p.io.In, say: p.talk(), char: p.around.escape, leave: func() { close(p.gone) }, suspend: p.pause,
			state: p.conn.line, list: p.connections,
		}
	}
	if p.screen != nil {
		src = io.TeeReader(src, typing{p.screen})
	}
	_, err := io.Copy(in, src)
	if err == nil || errors.Is(err, os.ErrClosed) {
		_ = in.Close()
	}
}

// signalNumbers are those of Linux, for exit statuses as shells form them.
var signalNumbers = map[session.Signal]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "BUS": 7, "FPE": 8, "KILL": 9, "USR1": 10,
	"SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "XCPU": 24, "XFSZ": 25, "SYS": 31,
}

// status turns the end of a program into the end of ours.
func status(exit session.Exit, err error) error {
	switch {
	case err != nil:
		return &cli.Error{Err: err, Exit: cli.ExitTransport}
	case exit.Refusal != nil:
		return exit.Refusal
	case exit.Signal != "":
		n, ok := signalNumbers[exit.Signal]
		if !ok {
			return fmt.Errorf("the program was ended by signal %q", exit.Signal)
		}
		return cli.Status(128 + n)
	case exit.Status != 0:
		return cli.Status(exit.Status)
	}
	return nil
}
