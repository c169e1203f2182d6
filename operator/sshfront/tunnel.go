package sshfront

import (
	"context"
	"errors"
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

	asking sync.Mutex // held while the machine is asked to listen: what it connects meanwhile may be for that listener

	mu        sync.Mutex
	listeners map[string]*listener // guarded by mu; by what the client calls them
	byID      map[place]*listener  // guarded by mu; those that the machine has at present
	restoring bool                 // guarded by mu; somebody asks for listeners again

	running sync.WaitGroup // what serves open and its listeners
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
// know, and to which. A name without Suffix is the machine's to look up, also where the
// team has one of that name: whoever may enrol machines chooses their names, and "db"
// behind this machine is somebody's host. The bare names that a person has asked for
// get the Suffix from their ssh configuration.
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
	mu  sync.Mutex
	w   io.Writer
	raw bool // guarded by mu; a program has asked for a terminal, which is likely the one that w is
}

// Write takes turns: several channels talk to one person.
func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.raw {
		return rawLines{l.w}.Write(b)
	}
	return l.w.Write(b)
}

// becomeRaw has lines end as a terminal in raw mode needs it.
func (l *lockedWriter) becomeRaw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.raw = true
}
