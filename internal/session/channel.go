package session

import (
	"context"
	"io"
	"sync"
	"sync/atomic"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/transport"
)

// Codes with which streams are reset.
const (
	resetGivenUp  uint32 = 1
	resetProtocol uint32 = 2
)

// Channel is a "session" channel of RFC 4254 at the operator's end: one program
// on the agent. The order is OpenSession, RequestPTY and Setenv as wanted, one of
// Shell and Exec, then the streams and Wait. Methods may be called from any
// goroutine.
//
// Standard output and standard error share one stream: both must be read, or
// the one that is not read holds up the other, as with pipes of a process.
type Channel struct {
	conn   *Conn
	stream *transport.Stream
	w      messageWriter

	stdout, stderr *handoff
	answer         chan error // of Shell or Exec; one place
	asked          atomic.Bool
	answered       atomic.Bool
	running        atomic.Bool
	done           chan struct{} // the reader has ended
	once           sync.Once     // abort
	exit           *Exit         // written by the reader before done
	err            error         // likewise
	unregister     func() bool
}

// OpenSession opens a channel. It does not wait for the agent: a refusal comes
// from Shell, Exec or Wait. On the agent's side it fails.
func (c *Conn) OpenSession(ctx context.Context) (*Channel, error) {
	s, err := c.openStream(ctx, nameSession)
	if err != nil {
		return nil, err
	}
	ch := &Channel{
		conn: c, stream: s, w: messageWriter{s: s},
		stdout: newHandoff(), stderr: newHandoff(),
		answer: make(chan error, 1), done: make(chan struct{}),
	}
	// The stream itself ends with the transport; a reset would overtake CLOSE.
	ch.unregister = context.AfterFunc(c.ctx, func() { ch.closeOutput(c.Err()) })
	c.wg.Go(ch.read)
	return ch, nil
}

// openStream opens a stream and says what channel it is.
func (c *Conn) openStream(ctx context.Context, name string) (*transport.Stream, error) {
	s, err := c.transport.OpenStream(ctx)
	if err != nil {
		return nil, c.cause(err)
	}
	w := messageWriter{s: s}
	if err := w.write(msgOpen, appendString(nil, name)); err != nil {
		return nil, c.cause(err)
	}
	return s, nil
}

// RequestPTY asks for a pseudo-terminal. It does not wait: an agent that cannot
// give one refuses Shell or Exec. Values beyond the limits of PTY are refused
// here with BadArgument.
func (ch *Channel) RequestPTY(p PTY) error { return ch.request(PTYRequest{PTY: p}) }

// Setenv adds a variable to the program's environment. It does not wait,
// likewise. The agent allows those that the signed request names.
func (ch *Channel) Setenv(name, value string) error {
	return ch.request(EnvRequest{Name: name, Value: value})
}

// LendAgent asks that the program be lent our SSH agent. It does not wait, likewise;
// where the policy does not let it, the program runs without.
func (ch *Channel) LendAgent() error { return ch.request(AgentRequest{}) }

// ID names the channel to the other end, in Opening.Of.
func (ch *Channel) ID() uint64 { return ch.stream.ID() }

// Shell starts the user's shell and waits until the agent has said yes or no.
func (ch *Channel) Shell(ctx context.Context) error { return ch.start(ctx, ShellRequest{}) }

// Exec starts one program and waits until the agent has said yes or no. argv is
// at most 64 KiB and 4,096 arguments.
func (ch *Channel) Exec(ctx context.Context, argv [][]byte) error {
	return ch.start(ctx, ExecRequest{Argv: argv})
}

// Subsystem starts what the agent serves by that name, at most 64 bytes, and waits
// likewise.
func (ch *Channel) Subsystem(ctx context.Context, name string) error {
	return ch.start(ctx, SubsystemRequest{Name: name})
}

func (ch *Channel) start(ctx context.Context, r Request) error {
	if !ch.asked.CompareAndSwap(false, true) {
		return refusal.New(refusal.BadArgument, "this channel was used to start a program before")
	}
	if err := ch.request(r); err != nil {
		return err
	}
	select {
	case err := <-ch.answer:
		return err
	case <-ch.done:
		return ch.startError()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// startError: the answer may have come together with the end.
func (ch *Channel) startError() error {
	select {
	case err := <-ch.answer:
		return err
	default:
	}
	if ch.err != nil {
		return ch.err
	}
	return errMessage
}

// request sends r on the channel's own stream. What the agent would not accept
// is found here.
func (ch *Channel) request(r Request) error {
	body, err := marshalRequest(r)
	if err != nil {
		return err
	}
	return ch.conn.cause(ch.w.write(msgRequest, body))
}

func marshalRequest(r Request) ([]byte, error) {
	body := r.append(nil)
	if len(body) > maxMessage {
		return nil, refusal.New(refusal.BadArgument, "request is longer than %d bytes", maxMessage)
	}
	if _, err := parseRequest(body); err != nil {
		return nil, refusal.New(refusal.BadArgument, "request is outside the limits of this protocol")
	}
	return body, nil
}

// WindowChange tells the program that the window has another size. It does not
// wait behind data once the program runs.
func (ch *Channel) WindowChange(s Size) error { return ch.outOfBand(WindowChange{Size: s}) }

// Signal sends a signal to the program. Likewise.
func (ch *Channel) Signal(s Signal) error { return ch.outOfBand(SignalRequest{Signal: s}) }

// outOfBand: before the program runs the agent may not know the channel yet, and
// nothing can be in front of the request.
func (ch *Channel) outOfBand(r Request) error {
	if !ch.running.Load() {
		return ch.request(r)
	}
	body, err := marshalRequest(r)
	if err != nil {
		return err
	}
	return ch.conn.sendControl(ch.stream.ID(), body)
}

// Stdin returns the program's standard input. Close is its end of file.
func (ch *Channel) Stdin() io.WriteCloser { return stdin{ch} }

// Stdout returns the program's standard output, for one goroutine. io.EOF follows its
// end. It implements io.WriterTo, which copies less than Read does.
func (ch *Channel) Stdout() io.Reader { return ch.stdout }

// Stderr returns the program's standard error likewise; silent with a pseudo-terminal.
func (ch *Channel) Stderr() io.Reader { return ch.stderr }

type stdin struct{ ch *Channel }

func (s stdin) Write(p []byte) (int, error) {
	n, err := dataWriter{w: &s.ch.w}.Write(p)
	if err != nil {
		select {
		case <-s.ch.done:
			err = io.ErrClosedPipe
		default:
			err = s.ch.conn.cause(err)
		}
	}
	return n, err
}

func (s stdin) Close() error {
	if err := s.ch.w.write(msgEOF); err != nil && err != io.ErrClosedPipe {
		return s.ch.conn.cause(err)
	}
	return nil
}

// Wait returns how the program ended, when its output has been read to the end.
// An error means that this is not known: the session ended first, or the agent
// refused the channel.
func (ch *Channel) Wait() (Exit, error) {
	<-ch.done
	if ch.exit != nil {
		return *ch.exit, nil
	}
	return Exit{}, ch.err
}

// Close gives the channel up; the agent ends the program. After the program's
// own end it does nothing. It may be called more than once.
func (ch *Channel) Close() error {
	ch.abort()
	<-ch.done
	return nil
}

func (ch *Channel) abort() {
	ch.once.Do(func() {
		ch.stream.Reset(resetGivenUp)
		ch.closeOutput(ch.conn.cause(io.ErrClosedPipe))
	})
}

// read is the reader goroutine of the channel.
func (ch *Channel) read() {
	defer ch.unregister()
	err := ch.readAll()
	if refusal.Of(err) == refusal.ProtocolError {
		ch.stream.Reset(resetProtocol)
		ch.conn.fail(err)
	}
	if err == nil {
		err = io.EOF
		// Our close answers the agent's, which tells it that all has arrived.
		_ = ch.w.finish(msgClose)
	} else {
		ch.err = ch.conn.cause(err)
	}
	if ch.exit == nil && ch.err == nil {
		ch.err = refusal.New(refusal.ProtocolError, "the agent closed the channel without saying how the program ended")
	}
	ch.closeOutput(ch.conn.cause(err))
	close(ch.done)
}

// closeOutput ends both readers, and a writer that waits for them. The first
// call counts.
func (ch *Channel) closeOutput(err error) {
	ch.stdout.close(err)
	ch.stderr.close(err)
}

// readAll handles messages until the agent's close.
func (ch *Channel) readAll() error {
	r := messageReader{r: ch.stream}
	for {
		t, body, err := r.next()
		if err == io.EOF {
			return errMessage // without close
		}
		if err != nil {
			return err
		}
		if t == msgClose {
			return lastOf(&r)
		}
		if err := ch.handle(&r, t, body); err != nil {
			return err
		}
	}
}

func (ch *Channel) handle(r *messageReader, t messageType, body []byte) error {
	switch t {
	case msgData, msgExtended:
		return ch.output(r, t, body)
	case msgConfirm:
		return (&parser{b: body}).end()
	case msgOpenFailure:
		return ch.refused(body)
	case msgSuccess, msgFailure:
		return ch.gotAnswer(t, body)
	case msgEOF:
		ch.stdout.finish()
		ch.stderr.finish()
		return (&parser{b: body}).end()
	case msgRequest:
		if ch.exit != nil {
			return errMessage
		}
		e, err := parseExit(body)
		if err == nil {
			ch.exit = &e
		}
		return err
	}
	return errMessage
}

// output passes on data, which r has read. Data that nobody wants is dropped.
func (ch *Channel) output(r *messageReader, t messageType, body []byte) error {
	data, stderr, err := parseData(t, body)
	if err != nil {
		return err
	}
	to := ch.stdout
	if stderr {
		to = ch.stderr
	}
	r.pass(data, to)
	return nil
}

func (ch *Channel) refused(body []byte) error {
	p := parser{b: body}
	e := p.refusal()
	if err := p.end(); err != nil {
		return err
	}
	return e
}

// gotAnswer takes exactly one answer, and only after the question.
func (ch *Channel) gotAnswer(t messageType, body []byte) error {
	var answer error
	p := parser{b: body}
	if t == msgFailure {
		answer = p.refusal() // never a nil pointer
	}
	if err := p.end(); err != nil {
		return err
	}
	if !ch.asked.Load() || !ch.answered.CompareAndSwap(false, true) {
		return errMessage
	}
	ch.running.Store(t == msgSuccess)
	ch.answer <- answer
	return nil
}
