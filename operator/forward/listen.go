package forward

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/tucdesk/tucdesk/internal/join"
	"github.com/tucdesk/tucdesk/internal/listen"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/operator/socks"
)

// listen opens the listeners of a spec here and serves them until the set ends.
func (s *Set) listen(spec Spec) error {
	open := s.openTCP
	if spec.Listen.Socket != "" {
		open = s.openSocket
	}
	list, at, err := open(spec.Listen)
	if err != nil {
		return fmt.Errorf("listening at %q: %w", spec.Listen.String(), err)
	}
	for _, l := range list {
		s.wg.Go(func() { s.accept(spec, l) })
	}
	s.cfg.Report(Event{Type: Listening, Spec: spec, At: at})
	return nil
}

// openTCP listens in each family that the system has where a host is unsaid.
func (s *Set) openTCP(at Address) ([]net.Listener, string, error) {
	if at.Host == "" && s.cfg.Gateway {
		at.Host = Everywhere
	}
	switch at.Host {
	case Everywhere:
		at.Host = ""
		l, err := net.Listen("tcp", ":"+strconv.Itoa(int(at.Port)))
		if err != nil {
			return nil, "", err
		}
		return []net.Listener{l}, l.Addr().String(), nil
	case "", "localhost":
		list, err := listen.Loopback(s.ctx, at.Port)
		if err != nil {
			return nil, "", err
		}
		return list, list[0].Addr().String(), nil
	}
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		return nil, "", err
	}
	return []net.Listener{l}, l.Addr().String(), nil
}

func (s *Set) openSocket(at Address) ([]net.Listener, string, error) {
	if s.cfg.Unlink {
		if info, err := os.Lstat(at.Socket); err == nil && info.Mode().Type() == fs.ModeSocket {
			_ = os.Remove(at.Socket)
		}
	}
	l, err := listen.Socket(s.ctx, at.Socket)
	if err != nil {
		return nil, "", err
	}
	return []net.Listener{l}, at.Socket, nil
}

// acceptPause is between two tries of a listener that has trouble, which mostly is
// a lack of descriptors; our choice.
const acceptPause = 100 * time.Millisecond

func (s *Set) accept(spec Spec, l net.Listener) {
	defer l.Close() // also where the set ended before this began
	stop := context.AfterFunc(s.ctx, func() { _ = l.Close() })
	defer stop()
	for s.ctx.Err() == nil {
		c, err := l.Accept()
		if err != nil {
			select {
			case <-s.ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		s.wg.Go(func() { s.local(spec, c.(join.Conn), nameOf(c)) })
	}
}

// nameOf is who connected: nobody has a name at a socket in a file.
func nameOf(c net.Conn) string {
	if addr, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return addr.String()
	}
	return "a program of this computer"
}

// local serves one connection to a listener here.
func (s *Set) local(spec Spec, client join.Conn, from string) {
	ctx, cancel := context.WithTimeout(s.ctx, waitLimit)
	defer cancel()
	to, answer := spec.To, func(error) error { return nil }
	if spec.socks() {
		want, err := greet(ctx, client)
		if err != nil {
			_ = client.Close()
			s.refused(spec, from, "", err)
			return
		}
		to = Address{Host: want.Host, Port: want.Port}
		answer = func(err error) error { return want.Answer(reason(err)) }
	}
	pipe, err := s.openPipe(ctx, to)
	if bad := answer(err); err == nil {
		err = bad
	}
	if err != nil {
		if pipe != nil {
			_ = pipe.Close()
		}
		_ = client.Close()
		s.refused(spec, from, to.String(), err)
		return
	}
	s.join(spec, from, to.String(), client, pipe)
}

// openPipe has the machine connect. The time of the connection itself is the
// machine's to bound.
func (s *Set) openPipe(ctx context.Context, to Address) (*session.Pipe, error) {
	conn, err := s.session(ctx)
	if err != nil {
		return nil, err
	}
	return conn.OpenPipe(s.ctx, opening(to))
}

// greet hears what a SOCKS client wants, in bounded time.
func greet(ctx context.Context, client join.Conn) (*socks.Request, error) {
	ctx, cancel := context.WithTimeout(ctx, greetLimit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = client.Close() })
	want, err := socks.Accept(client)
	if !stop() && err == nil {
		err = refusal.New(refusal.Unreachable, "a SOCKS client was too slow")
	}
	return want, err
}

// reason is err as SOCKS has it.
func reason(err error) socks.Reason {
	switch {
	case err == nil:
		return socks.Granted
	case refusal.Of(err) == refusal.PolicyDenied:
		return socks.NotAllowed
	case refusal.Of(err) == refusal.Unreachable:
		return socks.Refused
	}
	return socks.Failed
}
