package session

import (
	"context"
	"encoding/binary"
	"io"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/transport"
)

// Kind is the type of a channel that carries one connection, by its name in SSH
// (RFC 4254, section 7, and OpenSSH's PROTOCOL).
type Kind string

// The kinds. The operator opens the first four, the agent the others.
const (
	DirectTCP    Kind = "direct-tcpip"                    // connect to Host and Port
	DirectSocket Kind = "direct-streamlocal@openssh.com"  // connect to the socket at Host
	ListenTCP    Kind = "tcpip-forward"                   // listen at Host and Port while the channel is open
	ListenSocket Kind = "streamlocal-forward@openssh.com" // listen at the path Host likewise

	ForwardedTCP    Kind = "forwarded-tcpip"                   // a connection to the listener Of, from Host and Port
	ForwardedSocket Kind = "forwarded-streamlocal@openssh.com" // a connection to the listener Of at a path
	AgentSocket     Kind = "auth-agent@openssh.com"            // a connection to the SSH agent that the program Of was lent
)

// byOperator reports who opens channels of a kind; ok is false for no kind at all.
func (k Kind) byOperator() (yes, ok bool) {
	switch k {
	case DirectTCP, DirectSocket, ListenTCP, ListenSocket:
		return true, true
	case ForwardedTCP, ForwardedSocket, AgentSocket:
		return false, true
	}
	return false, false
}

// maxHost is the longest path of a socket that any of our systems takes, and more
// than a name in DNS has; our choice.
const maxHost = 1024

// Opening is what a channel of a kind is opened with.
type Opening struct {
	Kind Kind
	Host string // name or address, or the path of a socket; at most 1,024 bytes
	Port uint16 // 0 for sockets, and for a listener that may be anywhere
	Of   uint64 // ID of the listener or program that this belongs to
}

func (o Opening) append(b []byte) []byte {
	b = appendString(appendString(b, string(o.Kind)), o.Host)
	b = binary.BigEndian.AppendUint32(b, uint32(o.Port))
	return binary.BigEndian.AppendUint64(b, o.Of)
}

// opening reads what append wrote behind the kind.
func (p *parser) opening(k Kind) Opening {
	o := Opening{Kind: k, Host: p.string(maxHost)}
	port := p.uint32()
	p.bad = p.bad || port > 65535
	o.Port, o.Of = uint16(port), p.uint64()
	return o
}

// Pipe is a channel that carries one connection. After the answer to its opening
// its stream holds the connection's bytes and nothing else, so that a copy costs
// no framing: the end of a direction is the end of the connection's, and a reset
// is a reset. One goroutine may read and another one write.
type Pipe struct {
	conn *Conn
	s    *transport.Stream
	port uint16

	mu    sync.Mutex
	ended bool // guarded by mu: CloseWrite was called
}

// ID names the channel to the other end, in Opening.Of.
func (p *Pipe) ID() uint64 { return p.s.ID() }

// Port is where a listener listens.
func (p *Pipe) Port() uint16 { return p.port }

// Read reads what the other end wrote; io.EOF after its CloseWrite.
func (p *Pipe) Read(b []byte) (int, error) {
	n, err := p.s.Read(b)
	return n, p.conn.cause(err)
}

// Write waits while the other end does not read.
func (p *Pipe) Write(b []byte) (int, error) {
	n, err := p.s.Write(b)
	return n, p.conn.cause(err)
}

// CloseWrite is the end of what we write.
func (p *Pipe) CloseWrite() error {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	return p.conn.cause(p.s.CloseWrite())
}

// Gone is closed when nothing written can arrive any more.
func (p *Pipe) Gone() <-chan struct{} { return p.s.WriteDone() }

// Close gives up: nothing more is read, and without CloseWrite before it the other
// end learns that the connection was cut. What was written before CloseWrite still
// arrives. It may be called more than once.
func (p *Pipe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		p.s.StopReading(resetGivenUp)
	} else {
		p.s.Reset(resetGivenUp)
	}
	return nil
}

// OpenPipe opens a channel of a kind and waits until the other end has said yes or
// no; its refusal is the error. Cancelling ctx gives up.
func (c *Conn) OpenPipe(ctx context.Context, o Opening) (*Pipe, error) {
	body := o.append(nil)
	if p := (parser{b: body}); p.string(maxName) != string(o.Kind) || p.opening(o.Kind) != o || p.end() != nil {
		return nil, refusal.New(refusal.BadArgument, "a target is outside the limits of this protocol")
	}
	s, err := c.transport.OpenStream(ctx)
	if err != nil {
		return nil, c.cause(err)
	}
	stop := context.AfterFunc(ctx, func() { s.Reset(resetGivenUp) })
	defer stop()
	p, err := c.openPipe(s, body)
	if err != nil {
		s.Reset(resetGivenUp)
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return p, nil
}

func (c *Conn) openPipe(s *transport.Stream, body []byte) (*Pipe, error) {
	w := messageWriter{s: s}
	if err := w.write(msgOpen, body); err != nil {
		return nil, c.cause(err)
	}
	r := messageReader{r: s}
	t, answer, err := r.next()
	if err != nil && refusal.Of(err) == "" {
		return nil, c.cause(err)
	}
	p := parser{b: answer}
	pipe := &Pipe{conn: c, s: s}
	switch {
	case err == nil && t == msgConfirm:
		port := p.uint32()
		p.bad = p.bad || port > 65535
		pipe.port, err = uint16(port), p.end()
	case err == nil && t == msgOpenFailure:
		e := p.refusal()
		if err = p.end(); err == nil {
			return nil, e
		}
	default:
		err = errMessage
	}
	if err != nil {
		c.fail(errMessage)
		return nil, errMessage
	}
	return pipe, nil
}

// Asked is a channel of a kind that the other end opens. Accept or Refuse answers.
type Asked struct {
	Opening
	conn *Conn
	s    *transport.Stream
}

// ID names the channel to the other end, in Opening.Of.
func (a *Asked) ID() uint64 { return a.s.ID() }

// Accept says yes; port is where a listener listens, else 0.
func (a *Asked) Accept(port uint16) (*Pipe, error) {
	w := messageWriter{s: a.s}
	if err := w.write(msgConfirm, binary.BigEndian.AppendUint32(nil, uint32(port))); err != nil {
		a.s.Reset(resetGivenUp)
		return nil, a.conn.cause(err)
	}
	return &Pipe{conn: a.conn, s: a.s, port: port}, nil
}

// Refuse says no. e.Detail is for the person.
func (a *Asked) Refuse(e *refusal.Error) { refuseOpening(a.s, e) }

func refuseOpening(s *transport.Stream, e *refusal.Error) {
	w := messageWriter{s: s}
	_ = w.write(msgOpenFailure, appendRefusal(nil, e))
	_ = w.finish()
	s.StopReading(resetGivenUp)
}

// AcceptPipe waits for the next channel of a kind that the other end opens.
// Openings that nobody waits for within ten seconds are refused.
func (c *Conn) AcceptPipe(ctx context.Context) (*Asked, error) {
	select {
	case a := <-c.asked:
		return a, nil
	case <-c.ctx.Done():
		return nil, c.Err()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// offer hands a stream that was opened with o to AcceptPipe.
func (c *Conn) offer(s *transport.Stream, o Opening) {
	late := time.NewTimer(openLimit)
	defer late.Stop()
	select {
	case c.asked <- &Asked{Opening: o, conn: c, s: s}:
	case <-late.C:
		refuseOpening(s, refusal.New(refusal.BadRequest, "this session has no channels of that type"))
	case <-s.WriteDone(): // the other end gave up; its place is free again
		s.Reset(resetGivenUp)
	case <-c.ctx.Done():
	}
}

var _ io.ReadWriteCloser = (*Pipe)(nil)
