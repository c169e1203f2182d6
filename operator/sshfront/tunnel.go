package sshfront

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/tucdesk/tucdesk/internal/join"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// tunnels is the one session that all forwards of an SSH connection share. It is
// opened by the first of them and, when it was lost, again by the next one.
type tunnels struct {
	front *front
	conn  *ssh.ServerConn

	opening sync.Mutex // held while one is opened: the others want the same
	open    *Session   // guarded by opening

	mu        sync.Mutex
	listeners map[string]*listener // guarded by mu; by what the client calls them
	byID      map[uint64]*listener // guarded by mu; by the channel in the session

	running sync.WaitGroup // what serves open and its listeners
}

// listener is one that the machine has for us.
type listener struct {
	pipe *session.Pipe
	host string // as the client wrote it: it compares this
	port uint32
}

// session returns the shared session.
func (t *tunnels) session(ctx context.Context) (*Session, error) {
	t.opening.Lock()
	defer t.opening.Unlock()
	if t.open != nil {
		select {
		case <-t.open.Done():
			t.open.Close()
			t.open = nil
		default:
			return t.open, nil
		}
	}
	a := Ask{Action: wire.Forward, Params: wire.Params{User: t.front.user, Argv: []wire.Bytes{}, Env: []wire.EnvVar{}}}
	s, err := t.front.cfg.Open(ctx, a, t.front.cfg.Talk)
	if err != nil {
		return nil, err
	}
	t.open = s
	t.running.Go(func() { t.accept(ctx, s) })
	return s, nil
}

// close ends the session with everything in it.
func (t *tunnels) close() {
	t.opening.Lock()
	if t.open != nil {
		t.open.Close()
		t.open = nil
	}
	t.opening.Unlock()
	t.running.Wait()
}

// direct serves a channel of the client's that is to be connected at the machine.
func (t *tunnels) direct(ctx context.Context, c ssh.NewChannel) {
	o, err := parseDirect(c)
	if err != nil {
		_ = c.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	if machine, is := ofTeam(o); is {
		t.jump(ctx, c, machine)
		return
	}
	s, err := t.session(ctx)
	if err != nil {
		t.reject(c, err)
		return
	}
	p, err := s.OpenPipe(ctx, o)
	if err != nil {
		t.reject(c, err)
		return
	}
	ch, requests, err := c.Accept()
	if err != nil {
		_ = p.Close()
		return
	}
	go ssh.DiscardRequests(requests) // it ends with the channel
	stop := context.AfterFunc(ctx, func() { _ = p.Close() })
	defer stop()
	join.Both(p, ch)
}

// ofTeam reports whether a connection is to the SSH server of a machine that only we
// know, and to which.
func ofTeam(o session.Opening) (machine string, is bool) {
	machine, is = strings.CutSuffix(strings.ToLower(o.Host), Suffix)
	return machine, is && o.Kind == session.DirectTCP && o.Port == sshPort
}

// jump serves another machine in place of a connection to it. A machine of the team is
// reached from here, by a session of its own; the one that was to be jumped through
// could not even find its name.
func (t *tunnels) jump(ctx context.Context, c ssh.NewChannel, machine string) {
	ch, requests, err := c.Accept()
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests) // it ends with the channel
	cfg := t.front.cfg.Other(machine)
	cfg.Talk = t.front.cfg.Talk
	_ = Serve(ctx, cfg, ch, ch) // its client has seen why it failed
}

func parseDirect(c ssh.NewChannel) (session.Opening, error) {
	bad := errors.New("malformed target")
	if c.ChannelType() == string(session.DirectSocket) {
		var body struct {
			Path     string
			Reserved string
			Unused   uint32
		}
		if ssh.Unmarshal(c.ExtraData(), &body) != nil {
			return session.Opening{}, bad
		}
		return session.Opening{Kind: session.DirectSocket, Host: body.Path}, nil
	}
	var body struct {
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}
	if ssh.Unmarshal(c.ExtraData(), &body) != nil || body.Port == 0 || body.Port > 65535 {
		return session.Opening{}, bad
	}
	return session.Opening{Kind: session.DirectTCP, Host: body.Host, Port: uint16(body.Port)}, nil
}

// reject gives the reason to the client and, with what to do about it, to the
// person: ssh shows a reason only with -v.
func (t *tunnels) reject(c ssh.NewChannel, err error) {
	reason := ssh.ConnectionFailed
	if refusal.Of(err) != refusal.Unreachable {
		reason = ssh.Prohibited
		t.front.cfg.Report(t.front.cfg.Talk, err)
	}
	_ = c.Reject(reason, err.Error())
}

// isListen reports a global request about listeners.
func isListen(r *ssh.Request) bool {
	switch r.Type {
	case "tcpip-forward", "cancel-tcpip-forward", "streamlocal-forward@openssh.com", "cancel-streamlocal-forward@openssh.com":
		return true
	}
	return false
}

// asked answers a request about listeners. They are answered in their order.
func (t *tunnels) asked(ctx context.Context, r *ssh.Request) {
	o, err := parseListen(r)
	if err != nil {
		_ = r.Reply(false, nil)
		return
	}
	name := fmt.Sprintf("%s %s %d", o.Kind, o.Host, o.Port)
	if r.Type[:6] == "cancel" {
		_ = r.Reply(t.cancel(name), nil)
		return
	}
	l, err := t.listen(ctx, name, o)
	switch {
	case err != nil:
		t.front.cfg.Report(t.front.cfg.Talk, err)
		_ = r.Reply(false, nil)
	case o.Kind == session.ListenTCP && o.Port == 0:
		_ = r.Reply(true, ssh.Marshal(struct{ Port uint32 }{l.port}))
	default:
		_ = r.Reply(true, nil)
	}
}

func parseListen(r *ssh.Request) (session.Opening, error) {
	bad := errors.New("malformed address")
	if r.Type == "streamlocal-forward@openssh.com" || r.Type == "cancel-streamlocal-forward@openssh.com" {
		var body struct{ Path string }
		err := ssh.Unmarshal(r.Payload, &body)
		return session.Opening{Kind: session.ListenSocket, Host: body.Path}, err
	}
	var body struct {
		Host string
		Port uint32
	}
	if ssh.Unmarshal(r.Payload, &body) != nil || body.Port > 65535 {
		return session.Opening{}, bad
	}
	return session.Opening{Kind: session.ListenTCP, Host: body.Host, Port: uint16(body.Port)}, nil
}

func (t *tunnels) listen(ctx context.Context, name string, o session.Opening) (*listener, error) {
	t.mu.Lock()
	_, twice := t.listeners[name]
	t.mu.Unlock()
	if twice {
		return nil, refusal.New(refusal.BadArgument, "this connection listens there already")
	}
	s, err := t.session(ctx)
	if err != nil {
		return nil, err
	}
	p, err := s.OpenPipe(ctx, o)
	if err != nil {
		return nil, err
	}
	l := &listener{pipe: p, host: o.Host, port: uint32(p.Port())}
	if o.Kind == session.ListenTCP && o.Port == 0 {
		name = fmt.Sprintf("%s %s %d", o.Kind, o.Host, l.port) // by which it is cancelled
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listeners[name], t.byID[p.ID()] = l, l
	return l, nil
}

func (t *tunnels) cancel(name string) bool {
	t.mu.Lock()
	l := t.listeners[name]
	if l != nil {
		delete(t.listeners, name)
		delete(t.byID, l.pipe.ID())
	}
	t.mu.Unlock()
	if l == nil {
		return false
	}
	_ = l.pipe.Close()
	return true
}

// accept takes connections to our listeners until the session ends, and with it
// its listeners.
func (t *tunnels) accept(ctx context.Context, s *Session) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		a, err := s.AcceptPipe(ctx)
		if err != nil {
			break
		}
		wg.Go(func() { t.forwarded(a) })
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.listeners)
	clear(t.byID)
}

// forwarded hands one of them to the client, which decides where it goes.
func (t *tunnels) forwarded(a *session.Asked) {
	t.mu.Lock()
	l := t.byID[a.Of]
	t.mu.Unlock()
	if l == nil {
		a.Refuse(refusal.New(refusal.BadRequest, "there is no such listener"))
		return
	}
	name, body := string(a.Kind), []byte(nil)
	switch a.Kind {
	case session.ForwardedTCP:
		body = ssh.Marshal(struct {
			Host       string
			Port       uint32
			Origin     string
			OriginPort uint32
		}{l.host, l.port, a.Host, uint32(a.Port)})
	case session.ForwardedSocket:
		body = ssh.Marshal(struct{ Path, Reserved string }{l.host, ""})
	default:
		a.Refuse(refusal.New(refusal.BadRequest, "this session has no channels of that type"))
		return
	}
	handOver(t.conn, a, name, body)
}

// handOver joins a channel of the machine's to a new one of the client's.
func handOver(conn *ssh.ServerConn, a *session.Asked, name string, body []byte) {
	ch, requests, err := conn.OpenChannel(name, body)
	if err != nil {
		a.Refuse(refusal.New(refusal.Unreachable, "the operator's end takes no such connection"))
		return
	}
	go ssh.DiscardRequests(requests) // it ends with the channel
	p, err := a.Accept(0)
	if err != nil {
		_ = ch.Close()
		return
	}
	join.Both(p, ch)
}

// lockedWriter lets several goroutines talk in whole lines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write takes turns: several channels talk to one person.
func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
