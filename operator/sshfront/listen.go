package sshfront

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/terminal"
)

// Pauses between two tries to have the machine listen again; our choice, those of our
// own client.
const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second
)

// place is where the machine has a listener: sessions number their channels by
// themselves, so the number alone could be one of the session before.
type place struct {
	of *Session
	id uint64
}

// listener is one that the client wants. It outlives the session that has it: ssh
// asks once and never again, so nobody else would ask the next session for it.
type listener struct {
	name string          // by which the client cancels it
	what session.Opening // with the port that it was given
	host string          // as the client wrote it: it compares this
	told bool            // of the goroutine that restores; why it cannot be had just now

	// Guarded by the tunnels' mu. Both are nil while no session has it.
	pipe *session.Pipe
	of   *Session
}

// at is the listener's address for people.
func (l *listener) at() string {
	if l.what.Kind == session.ListenSocket {
		return terminal.Escape(l.host)
	}
	return terminal.Escape(net.JoinHostPort(l.host, strconv.Itoa(int(l.what.Port))))
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
	if r.Type[:6] == "cancel" {
		_ = r.Reply(t.cancel(nameOf(o)), nil)
		return
	}
	l, err := t.listen(ctx, o)
	switch {
	case err != nil:
		t.front.cfg.Report(t.front.cfg.Talk, err)
		_ = r.Reply(false, nil)
	case o.Kind == session.ListenTCP && o.Port == 0:
		_ = r.Reply(true, ssh.Marshal(struct{ Port uint32 }{uint32(l.what.Port)}))
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

// nameOf is what the client calls a listener.
func nameOf(o session.Opening) string { return fmt.Sprintf("%s %s %d", o.Kind, o.Host, o.Port) }

func (t *tunnels) listen(ctx context.Context, o session.Opening) (*listener, error) {
	t.mu.Lock()
	_, twice := t.listeners[nameOf(o)]
	t.mu.Unlock()
	if twice {
		return nil, refusal.New(refusal.BadArgument, "this connection listens there already")
	}
	s, err := t.session(ctx)
	if err != nil {
		return nil, err
	}
	l := &listener{what: o, host: o.Host}
	return l, t.ask(ctx, s, l)
}

// ask has the machine listen and notes the listener, a new one as well.
func (t *tunnels) ask(ctx context.Context, s *Session, l *listener) error {
	t.asking.Lock()
	defer t.asking.Unlock()
	p, err := s.OpenPipe(ctx, l.what)
	if err != nil {
		return err
	}
	if l.what.Kind == session.ListenTCP && l.what.Port == 0 {
		l.what.Port = p.Port() // from now on this one: the client knows no other
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if over(s) { // perhaps accept has looked already for what it had, and nobody would ask again
		return endOf(s)
	}
	if l.name == "" {
		l.name = nameOf(l.what)
		t.listeners[l.name] = l
	}
	if t.listeners[l.name] != l { // cancelled meanwhile
		_ = p.Close()
		return nil
	}
	l.pipe, l.of = p, s
	t.byID[place{s, p.ID()}] = l
	return nil
}

func (t *tunnels) cancel(name string) bool {
	t.mu.Lock()
	l := t.listeners[name]
	var pipe *session.Pipe
	if l != nil {
		pipe = l.pipe
		delete(t.listeners, name)
		if pipe != nil {
			delete(t.byID, place{l.of, pipe.ID()})
		}
	}
	t.mu.Unlock()
	if pipe != nil {
		_ = pipe.Close()
	}
	return l != nil
}

// accept takes connections to our listeners until the session ends, and has the next
// one listen for them then.
func (t *tunnels) accept(ctx context.Context, s *Session) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		a, err := s.AcceptPipe(ctx)
		if err != nil {
			break
		}
		wg.Go(func() { t.forwarded(a, s) })
	}
	t.ended(ctx, s)
}

// ended takes a session's listeners from it and asks for them again, until each is
// had, or refused for good, which is told. One at a time does it for all.
func (t *tunnels) ended(ctx context.Context, s *Session) {
	if ctx.Err() != nil || !t.lose(s) {
		return
	}
	since := time.Now()
	t.say("%s listens for -R no more: %s; it is asked again", terminal.Escape(t.front.cfg.Host), terminal.Escape(endOf(s).Error()))
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
		if t.restore(ctx, since) {
			return
		}
	}
}

// endOf is why a session is over.
func endOf(s *Session) error {
	if err := s.Err(); err != nil {
		return err
	}
	return errors.New("the session has ended")
}

// lose marks what s had as not listening, and reports whether the caller is the one to
// ask for it again.
func (t *tunnels) lose(s *Session) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	lost := false
	for at, l := range t.byID {
		if at.of == s {
			l.pipe, l.of, lost = nil, nil, true
			delete(t.byID, at)
		}
	}
	if !lost || t.restoring {
		return false
	}
	t.restoring = true
	return true
}

// restore asks once for all that is missing and reports whether there is nothing left
// to ask for.
func (t *tunnels) restore(ctx context.Context, since time.Time) bool {
	host := terminal.Escape(t.front.cfg.Host)
	s, err := t.session(ctx)
	if err != nil {
		if ctx.Err() != nil || t.front.cfg.Passing(err) {
			return ctx.Err() != nil
		}
		for _, l := range t.missing() {
			t.cancel(l.name)
			t.say("%s listens at %s no more, and is not asked again", host, l.at())
		}
		t.front.cfg.Report(t.front.cfg.Talk, err)
		return t.restored()
	}
	for _, l := range t.missing() {
		err := t.ask(ctx, s, l)
		switch {
		case err == nil && !t.had(l): // cancelled meanwhile, or lost again
		case err == nil:
			l.told = false
			t.say("%s listens at %s again after %s", host, l.at(), time.Since(since).Round(100*time.Millisecond))
		case ctx.Err() != nil:
			return true
		case over(s):
			return false
		case t.front.cfg.Passing(err):
			if !l.told {
				l.told = true
				t.say("%s does not listen at %s yet: %s; it is asked again", host, l.at(), terminal.Escape(err.Error()))
			}
		default:
			t.cancel(l.name)
			t.say("%s listens at %s no more, and is not asked again", host, l.at())
			t.front.cfg.Report(t.front.cfg.Talk, err)
		}
	}
	return t.restored()
}

func over(s *Session) bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}

// missing are the listeners that no session has.
func (t *tunnels) missing() (list []*listener) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.listeners {
		if l.pipe == nil {
			list = append(list, l)
		}
	}
	return list
}

// had reports whether a session has a listener.
func (t *tunnels) had(l *listener) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return l.pipe != nil
}

// restored reports whether every listener is had; then the next loss is somebody
// else's to answer. Both are one step, or a loss in between would be nobody's.
func (t *tunnels) restored() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.listeners {
		if l.pipe == nil {
			return false
		}
	}
	t.restoring = false
	return true
}

// say tells the person what concerns the whole connection.
func (t *tunnels) say(format string, args ...any) {
	_, _ = fmt.Fprintf(t.front.cfg.Talk, "tucdesk: "+format+"\n", args...)
}

// forwarded hands one of them to the client, which decides where it goes.
func (t *tunnels) forwarded(a *session.Asked, s *Session) {
	t.asking.Lock()
	t.mu.Lock()
	l := t.byID[place{s, a.Of}]
	t.mu.Unlock()
	t.asking.Unlock()
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
		}{l.host, uint32(l.what.Port), a.Host, uint32(a.Port)})
	case session.ForwardedSocket:
		body = ssh.Marshal(struct{ Path, Reserved string }{l.host, ""})
	default:
		a.Refuse(refusal.New(refusal.BadRequest, "this session has no channels of that type"))
		return
	}
	handOver(t.conn, a, name, body)
}
