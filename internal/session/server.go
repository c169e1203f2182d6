package session

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/transport"
)

// openLimit is how long a new stream may take to say what channel it is.
const openLimit = 10 * time.Second

// ServerChannel is a "session" channel at the agent's end. NextRequest must be
// called until it fails, also while the program runs: later requests wait in
// front of it. Methods may be called from any goroutine.
type ServerChannel struct {
	conn   *Conn
	stream *transport.Stream
	w      messageWriter

	stdin      *handoff
	requests   chan Request
	done       chan struct{} // the reader has ended: the operator sends no more
	once       sync.Once     // abort
	unregister func() bool
}

// AcceptChannel waits for the next channel that the operator opens.
func (c *Conn) AcceptChannel(ctx context.Context) (*ServerChannel, error) {
	select {
	case ch := <-c.accepted:
		return ch, nil
	case <-c.ctx.Done():
		return nil, c.Err()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// acceptStreams runs for the life of the session.
func (c *Conn) acceptStreams() {
	for {
		s, err := c.transport.AcceptStream(c.ctx)
		if err != nil {
			return
		}
		c.wg.Go(func() { c.accept(s) })
	}
}

// accept learns what channel a stream is and serves it.
func (c *Conn) accept(s *transport.Stream) {
	late := time.AfterFunc(openLimit, func() { s.Reset(resetProtocol) })
	r := messageReader{r: s, opening: true}
	t, body, err := r.next()
	r.opening = false
	p := parser{b: body}
	name := p.string(maxName)
	var o Opening
	operators, isPipe := Kind(name).byOperator()
	isProgram := name == nameSession || name == nameControl
	if isPipe && err == nil {
		o = p.opening(Kind(name))
	}
	if isPipe || isProgram { // what another type is opened with nobody here can judge
		operators = operators || isProgram
		p.bad = p.end() != nil || operators != (c.side == seal.Agent)
	}
	if err == nil && (t != msgOpen || p.bad) {
		err = errMessage
	}
	if !late.Stop() || err != nil {
		s.Reset(resetProtocol)
		if refusal.Of(err) != "" {
			c.fail(err)
		}
		return
	}
	switch {
	case isPipe:
		c.offer(s, o)
	case name == nameSession:
		c.serve(s, &r)
	case name == nameControl:
		c.readControl(s, &r)
	default:
		c.refuseChannel(s)
	}
}

// refuseChannel answers a type of channel that does not exist here. The name is
// the peer's, so it is not repeated.
func (c *Conn) refuseChannel(s *transport.Stream) {
	refuseOpening(s, refusal.New(refusal.BadRequest, "there are no channels of that type here"))
}

// serve hands the channel to AcceptChannel and reads it to its end.
func (c *Conn) serve(s *transport.Stream, r *messageReader) {
	ch := &ServerChannel{
		conn: c, stream: s, w: messageWriter{s: s},
		stdin: newHandoff(), requests: make(chan Request), done: make(chan struct{}),
	}
	ch.unregister = context.AfterFunc(c.ctx, func() { ch.stdin.close(c.Err()) })
	if err := ch.w.write(msgConfirm); err != nil {
		ch.end(err)
		return
	}
	c.channels.add(ch)
	defer c.channels.remove(ch)
	select {
	case c.accepted <- ch:
	case <-ch.Gone(): // nobody has taken it yet, and its place is free again
		ch.end(c.cause(io.ErrClosedPipe))
		return
	case <-c.ctx.Done():
		ch.end(c.Err())
		return
	}
	ch.end(ch.read(r))
}

// read handles messages until the operator's close.
func (ch *ServerChannel) read(r *messageReader) error {
	for {
		t, body, err := r.next()
		if err == io.EOF {
			return errMessage // without close
		}
		if err != nil {
			return err
		}
		p := parser{b: body}
		switch t {
		case msgData:
			err = ch.input(r, body)
		case msgEOF:
			ch.stdin.finish()
			err = p.end()
		case msgRequest:
			err = ch.requested(body)
		case msgClose:
			return lastOf(r)
		default:
			err = errMessage
		}
		if err != nil {
			return err
		}
	}
}

func (ch *ServerChannel) input(r *messageReader, body []byte) error {
	data, _, err := parseData(msgData, body)
	if err != nil {
		return err
	}
	r.pass(data, ch.stdin) // which drops it after the program's end
	return nil
}

func (ch *ServerChannel) requested(body []byte) error {
	r, err := parseRequest(body)
	if err != nil {
		return err
	}
	ch.deliver(r)
	return nil
}

// deliver waits for NextRequest or the end of the channel.
func (ch *ServerChannel) deliver(r Request) {
	select {
	case ch.requests <- r:
	case <-ch.done:
	case <-ch.Gone():
	}
}

func (ch *ServerChannel) end(err error) {
	ch.unregister()
	if err == nil {
		err = io.EOF
	} else {
		ch.stream.Reset(resetProtocol)
		if refusal.Of(err) == refusal.ProtocolError {
			ch.conn.fail(err)
		}
	}
	ch.stdin.close(ch.conn.cause(err))
	close(ch.done)
}

// ID names the channel to the other end, in Opening.Of.
func (ch *ServerChannel) ID() uint64 { return ch.stream.ID() }

// NextRequest waits for the operator's next request: PTYRequest, EnvRequest,
// then one of ShellRequest, ExecRequest and SubsystemRequest, which Start or Refuse answers, then
// WindowChange and SignalRequest at any time. What to do with requests in
// another order is the caller's decision. io.EOF means that no more will come.
func (ch *ServerChannel) NextRequest(ctx context.Context) (Request, error) {
	select {
	case r := <-ch.requests:
		return r, nil
	default:
	}
	select {
	case r := <-ch.requests:
		return r, nil
	case <-ch.done:
		return nil, io.EOF
	case <-ch.Gone():
		return nil, io.EOF
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Start says yes to the shell or program.
func (ch *ServerChannel) Start() error { return ch.conn.cause(ch.w.write(msgSuccess)) }

// Refuse says no to it and closes the channel. e.Detail is for the operator.
func (ch *ServerChannel) Refuse(ctx context.Context, e *refusal.Error) error {
	if err := ch.w.write(msgFailure, appendRefusal(nil, e)); err != nil {
		return ch.conn.cause(err)
	}
	return ch.Exit(ctx, Exit{Refusal: e})
}

// Stdin returns what the operator types, for one goroutine. io.EOF follows its end of file; any
// other error means that it is gone.
func (ch *ServerChannel) Stdin() io.Reader { return ch.stdin }

// Stdout returns the way for the program's output, terminal included. It waits
// while the operator does not read, and fails when the operator is gone.
func (ch *ServerChannel) Stdout() io.Writer { return dataWriter{w: &ch.w} }

// Stderr returns the way for the program's standard error.
func (ch *ServerChannel) Stderr() io.Writer { return dataWriter{w: &ch.w, stderr: true} }

// Gone is closed when output cannot be delivered any more: the operator has
// given up, the session has ended, or Exit was called. The agent then ends the
// program.
func (ch *ServerChannel) Gone() <-chan struct{} { return ch.stream.WriteDone() }

// Exit reports how the program ended, after all output was written, and returns
// when the operator has confirmed that everything arrived, or with ctx's error.
// Input that comes later is dropped.
func (ch *ServerChannel) Exit(ctx context.Context, e Exit) error {
	ch.stdin.close(io.ErrClosedPipe)
	if err := ch.w.write(msgEOF); err != nil {
		return ch.conn.cause(err)
	}
	if err := ch.w.write(msgRequest, e.append(nil)); err != nil {
		return ch.conn.cause(err)
	}
	if err := ch.w.finish(msgClose); err != nil {
		return ch.conn.cause(err)
	}
	select {
	case <-ch.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close gives the channel up at once; the operator learns that it was reset. It
// may be called more than once, and after Exit it does nothing.
func (ch *ServerChannel) Close() error {
	ch.abort()
	<-ch.done
	return nil
}

func (ch *ServerChannel) abort() {
	ch.once.Do(func() {
		ch.stream.Reset(resetGivenUp)
		ch.stdin.close(ch.conn.cause(io.ErrClosedPipe))
	})
}
