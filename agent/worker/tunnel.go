package worker

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/agent/reach"
	"github.com/tucdesk/tucdesk/internal/join"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// maxTunnels bounds the connections and listeners of one session that are open at
// once; our choice.
const maxTunnels = 10_000

// tunnels serves a session for forwards until it ends.
func (w *worker) tunnels(ctx context.Context, conn *session.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	places := make(chan struct{}, maxTunnels)
	wg.Go(func() { refuseChannels(ctx, conn) })
	for {
		asked, err := conn.AcceptPipe(ctx)
		if err != nil {
			return err
		}
		select {
		case places <- struct{}{}:
		default:
			asked.Refuse(refusal.New(refusal.TooMany, "at most %d connections in one session", maxTunnels))
			continue
		}
		wg.Go(func() {
			serve, err := w.tunnel(ctx, conn, asked)
			if err != nil {
				e := &refusal.Error{Code: refusal.Unavailable, Detail: "the connection cannot be made"}
				errors.As(err, &e)
				asked.Refuse(e)
			}
			if serve == nil {
				<-places
				return
			}
			wg.Go(func() { // on a stack that no dialling has made large: 4 KiB for each of thousands
				defer func() { <-places }()
				serve()
			})
		})
	}
}

// tunnel makes one connection, which serve then serves to its end, or serves a
// listener to its end. An error means that it was not accepted.
func (w *worker) tunnel(ctx context.Context, conn *session.Conn, a *session.Asked) (serve func(), err error) {
	switch a.Kind {
	case session.DirectTCP, session.DirectSocket:
		return w.direct(ctx, a)
	case session.ListenTCP, session.ListenSocket:
		return nil, w.listening(ctx, conn, a)
	}
	return nil, refusal.New(refusal.BadRequest, "no channel of that type begins at the operator")
}

// target is what the policy is asked about.
func target(o session.Opening) (string, error) {
	text, ok := "", false
	switch o.Kind {
	case session.DirectSocket, session.ListenSocket:
		text, ok = policy.SocketTarget(o.Host)
	case session.ListenTCP:
		text, ok = policy.ListenTarget(o.Host, o.Port)
	default:
		text, ok = policy.DialTarget(o.Host, o.Port)
	}
	if !ok {
		return "", refusal.New(refusal.BadArgument, "not a target: a name or address with a port, or the absolute path of a socket")
	}
	return text, nil
}

func (w *worker) direct(ctx context.Context, a *session.Asked) (serve func(), err error) {
	to, err := target(a.Opening)
	if err != nil {
		return nil, err
	}
	yes, err := w.may(ctx, wire.Action(policy.ForwardLocal), to)
	if err != nil {
		return nil, err
	}
	var c join.Conn
	if a.Kind == session.DirectSocket {
		c, err = reach.DialSocket(ctx, a.Host, yes.Named)
	} else {
		c, err = reach.Dial(ctx, a.Host, a.Port, yes.Named)
	}
	if err != nil {
		return nil, err
	}
	p, err := a.Accept(0)
	if err != nil {
		_ = c.Close()
		return nil, nil // the operator is gone
	}
	return func() { w.join(ctx, p, c) }, nil
}

// join copies until both ends have ended or the session does.
func (w *worker) join(ctx context.Context, p *session.Pipe, c join.Conn) {
	stop := context.AfterFunc(ctx, func() {
		_ = p.Close()
		_ = c.Close()
	})
	defer stop()
	join.Both(touched{p, w.idle}, c)
}

// touched keeps the session from being idle while the operator sends.
type touched struct {
	*session.Pipe
	idle *idleTimer
}

// Read reads, and notes that the operator sent something.
func (t touched) Read(b []byte) (int, error) {
	n, err := t.Pipe.Read(b)
	if n > 0 {
		t.idle.touch()
	}
	return n, err
}

// listening listens for as long as the operator keeps the channel open.
func (w *worker) listening(ctx context.Context, conn *session.Conn, a *session.Asked) error {
	at, err := target(a.Opening)
	if err != nil {
		return err
	}
	yes, err := w.may(ctx, wire.Action(policy.ForwardRemote), at)
	if err != nil {
		return err
	}
	var listeners []net.Listener
	port := uint16(0)
	if a.Kind == session.ListenSocket {
		var l net.Listener
		l, err = reach.ListenSocket(ctx, a.Host, yes.Named)
		listeners = []net.Listener{l}
	} else {
		listeners, port, err = reach.Listen(ctx, a.Host, a.Port, yes.Named)
	}
	if err != nil {
		return err
	}
	over, end := context.WithCancel(ctx)
	stop := func() {
		end()
		for _, l := range listeners {
			_ = l.Close()
		}
	}
	defer stop()
	p, err := a.Accept(port)
	if err != nil {
		return nil
	}
	cut := context.AfterFunc(ctx, func() { _ = p.Close() })
	defer cut()
	var wg sync.WaitGroup
	for _, l := range listeners {
		o := session.Opening{Kind: session.ForwardedTCP, Of: p.ID()}
		if a.Kind == session.ListenSocket {
			o.Kind = session.ForwardedSocket
		}
		wg.Go(func() {
			accept(over, l, func(c net.Conn) { w.forwarded(ctx, conn, c, o) })
		})
	}
	_, _ = p.Read(make([]byte, 1)) // the operator sends nothing: it ends the listener
	stop()
	wg.Wait() // connections outlive their listener, whose place in the session is theirs until then
	_ = p.Close()
	return nil
}

// acceptPause is how long a listener that cannot accept waits; our choice.
const acceptPause = 100 * time.Millisecond

// maxAccepted bounds the connections of one listener; our choice.
const maxAccepted = 1_000

// accept has each connection of l served, until over ends or l is closed, and waits for
// those that are being served. Who connects is somebody on this machine, or in its network
// where a rule lets it listen there. Nobody is taken in before there is a place: whoever
// holds all of them would hold the listener, too, when the operator has ended it.
func accept(over context.Context, l net.Listener, serve func(net.Conn)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	places := make(chan struct{}, maxAccepted)
	for {
		select {
		case places <- struct{}{}:
		case <-over.Done():
			return
		}
		c, err := l.Accept()
		if err == nil {
			wg.Go(func() {
				defer func() { <-places }()
				serve(c)
			})
			continue
		}
		<-places
		if errors.Is(err, net.ErrClosed) {
			return
		}
		select {
		case <-time.After(acceptPause): // no descriptor left, say; the next one may be free soon
		case <-over.Done():
			return
		}
	}
}

// forwarded hands one connection to the operator, opened with o.
func (w *worker) forwarded(ctx context.Context, conn *session.Conn, c net.Conn, o session.Opening) {
	if from, ok := c.(*net.TCPConn); ok {
		addr := from.RemoteAddr().(*net.TCPAddr)
		o.Host, o.Port = addr.IP.String(), uint16(addr.Port)
	}
	p, err := conn.OpenPipe(ctx, o)
	if err != nil {
		_ = c.Close()
		return
	}
	w.join(ctx, p, c.(join.Conn))
}
