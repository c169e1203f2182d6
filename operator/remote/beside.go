package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/forward"
)

// beside is what one ssh has: forwards, and a shell or command unless -N.
type beside struct {
	*sshOptions
	host  string
	talk  *cli.IO // its Err is late
	late  *lateWriter
	set   *forward.Set
	ready func() // tells the process that waits for -f; once
}

// open runs what was asked for.
func (o *sshOptions) open(ctx context.Context, tio *cli.IO, host, command string) error {
	specs, err := o.allSpecs()
	if err != nil {
		return err
	}
	char, err := o.escapeChar()
	if err != nil {
		return err
	}
	late := &lateWriter{w: tio.Err}
	b := &beside{sshOptions: o, host: host, late: late, talk: &cli.IO{In: tio.In, Out: tio.Out, Err: late}}
	b.ready = sync.OnceFunc(func() {
		if o.inBackground {
			late.become(io.Discard) // nobody reads it any more
			inBackground()
		}
	})
	b.set = forward.New(forward.Config{Gateway: o.gateway, Unlink: o.unlink, Report: b.report})
	defer b.set.Close()
	for _, s := range specs {
		if err := b.set.Add(ctx, s); err != nil {
			if o.exitOnFailure {
				return notListened(s, err)
			}
			b.say("warning: %s", terminal.Escape(err.Error()))
		}
	}
	if o.noCommand {
		return b.forwardOnly(ctx)
	}
	return b.shell(ctx, command, char, len(specs) > 0)
}

// say is about forwards: -q silences it.
func (b *beside) say(format string, args ...any) {
	if !b.quiet {
		b.talk.Say(format, args...)
	}
}

// report tells what a person has to know; with -v all of it.
func (b *beside) report(e forward.Event) {
	switch {
	case e.Type == forward.Refused && e.At != "":
		b.say("warning: %s", eventText(e, b.host))
	case e.Type == forward.Listening && e.Spec.Way == forward.Remote && e.Spec.Listen.Port == 0 && e.Spec.Listen.Socket == "":
		port := e.At[strings.LastIndex(e.At, ":")+1:]
		b.say("Allocated port %s for remote forward to %s", port, e.Spec.To) // scripts read this line of OpenSSH's
	case e.Type == forward.Refused, b.sessionOptions.talk:
		b.say("tucdesk: %s", eventText(e, b.host))
	}
}

// forwardOnly is -N.
func (b *beside) forwardOnly(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := b.tunnel(func(bad error) {
		if bad != nil && b.exitOnFailure {
			cancel(bad)
			return
		}
		b.ready()
	})
	t.waits = b.say // no program is beside it that would tell
	err := t.run(ctx)
	if cause := context.Cause(ctx); err == nil && cause != nil {
		if err = cause; errors.Is(cause, context.Canceled) {
			err = cli.Status(cli.ExitTransport) // as ssh -N after a signal
		}
	}
	return err
}

// tunnel is the session of the forwards. first is told of the first one.
func (b *beside) tunnel(first func(bad error)) *tunnel {
	w := forwardWant(b.host, b.user)
	w.reason, w.noWait, w.noMap = b.reason, b.noWait, b.noMap
	var once sync.Once
	t := &tunnel{options: &b.Options, io: b.talk, want: w, set: b.set}
	t.stands = func(_ *opened, bad error) { once.Do(func() { first(bad) }) }
	t.lost = func(err error, again time.Duration) {
		b.say("tucdesk: forwards lost their session: %s; next try in %s", terminal.Escape(err.Error()), again)
	}
	if b.sessionOptions.talk {
		t.path = func(way session.PathState) { b.say("tucdesk: forwards: %s", wayText(way, b.host)) }
	}
	return t
}

// shell runs the shell or a command, with forwards beside it. Where a failing
// forward ends everything, it comes first.
func (b *beside) shell(ctx context.Context, command string, escape byte, forwards bool) error {
	w, err := b.shellWant(command)
	if err != nil {
		return err
	}
	beside, cancel := context.WithCancel(ctx)
	var tunnels sync.WaitGroup
	defer tunnels.Wait()
	defer cancel()
	if forwards {
		stood := make(chan error, 1)
		t := b.tunnel(func(bad error) { stood <- bad })
		tunnels.Go(func() {
			if err := t.run(beside); err != nil {
				b.tunnelFailed(err, stood)
			}
		})
		if b.exitOnFailure || b.inBackground {
			if bad := <-stood; bad != nil && b.exitOnFailure {
				return bad
			}
		}
	}
	run := b.runAround
	if w.params.Keep != nil {
		run = b.runKept
	}
	err = run(ctx, b.talk, w, around{escape: escape, list: b.list, started: b.ready, late: b.late, agent: b.agentToLend()})
	b.set.Drain(ctx) // as ssh: who is connected goes on
	return err
}

// agentToLend is the socket for -A.
func (b *beside) agentToLend() string {
	if !b.agent {
		return ""
	}
	socket := agentSocket()
	if socket == "" {
		b.say("warning: no SSH agent is lent: SSH_AUTH_SOCK is not set")
	}
	return socket
}

// tunnelFailed is about forwards that never come: refused, or the machine is away.
func (b *beside) tunnelFailed(err error, stood chan<- error) {
	select {
	case stood <- err:
	default:
	}
	if !b.exitOnFailure && !b.quiet {
		b.talk.Say("warning: nothing is forwarded")
		cli.Report(b.talk.Err, err)
	}
}

func (b *beside) shellWant(command string) (want, error) {
	var argv []string
	if command != "" {
		argv = []string{command}
	}
	p, err := b.params(argv)
	if err != nil {
		return want{}, err
	}
	if err := b.addSent(&p); err != nil {
		return want{}, err
	}
	local := terminal.IsTerminal(b.talk.In)
	p.TTY = !b.noTTY && (b.tty > 1 || local && (b.tty > 0 || command == ""))
	if b.tty == 1 && !local && !b.noTTY {
		b.talk.Say("no pseudo-terminal: standard input is none; -tt asks for one all the same")
	}
	if b.keep != "" {
		err = b.keepAs(&p)
	}
	return b.want(b.host, wire.Shell, p), err
}

// list is the answer to ~#.
func (b *beside) list() string {
	list := b.set.Connections()
	if len(list) == 0 {
		return noConnections
	}
	var s strings.Builder
	s.WriteString("\r\nforwarded connections:\r\n")
	for _, c := range list {
		s.WriteString("  " + terminal.Escape(fmt.Sprintf("#%d  %s  from %s to %s, for %s", c.ID, c.Spec, c.From, c.To, short(time.Since(c.Since)))) + "\r\n")
	}
	return s.String()
}

// connectStdio is -W: one connection on our own standard input and output.
func (o *sshOptions) connectStdio(ctx context.Context, tio *cli.IO, host string) error {
	spec, err := forward.Parse(forward.Local, "0:"+o.stdio)
	if err != nil {
		return usage("-W HOST:PORT, or the path of a socket", "-W %q", o.stdio)
	}
	w := forwardWant(host, o.user)
	w.reason, w.noWait, w.noMap = o.reason, o.noWait, o.noMap
	return o.WithAccount(ctx, tio, func(a *account.Account) error {
		conn, err := connect(ctx, a, tio, w)
		if err != nil {
			return err
		}
		defer conn.Close()
		leave := conn.renew.keep(func(text string) { tio.Say("warning: %s", text) })
		defer leave()
		conn.followers.Go(func() { conn.tellLoss(ctx, host, tio.Say) })
		pipe, err := conn.OpenPipe(ctx, spec.Opening())
		if err != nil {
			return notConnected(host, spec.To, err)
		}
		return joinStdio(ctx, tio, pipe)
	})
}

// notConnected is err, by which the machine host did not connect to a target. It is
// that machine which looks the name up and is kept out by firewalls, not this one and
// not our server.
func notConnected(host string, to forward.Address, err error) error {
	e := &cli.Error{Err: err, Exit: cli.ExitTransport}
	if said := new(refusal.Error); errors.As(err, &said) {
		e.Err = refusal.New(said.Code, "%s did not connect to %s: %s", host, to, said.Detail)
	}
	switch refusal.Of(err) {
	case refusal.PolicyDenied:
		e.Exit = cli.ExitDenied // as where the policy denies the whole session
	case refusal.Unreachable:
		e.Hints = []string{
			fmt.Sprintf("the name is looked up, and the connection made, on %s: is the name known there, and does a firewall let it through?", host),
			"a machine of the team is reached by its own name, without -J: tucdesk ls"}
	}
	return e
}

// joinStdio ends when the target has said all and takes no more. A read of our
// input may be left behind; it ends with the process.
func joinStdio(ctx context.Context, tio *cli.IO, pipe *session.Pipe) error {
	stop := context.AfterFunc(ctx, func() { _ = pipe.Close() })
	defer stop()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if _, err := io.Copy(pipe, tio.In); err == nil {
			_ = pipe.CloseWrite()
		}
	}()
	if _, err := io.Copy(tio.Out, pipe); err != nil {
		_ = pipe.Close()
		return &cli.Error{Err: err, Exit: cli.ExitTransport}
	}
	select {
	case <-sent:
	case <-pipe.Gone():
	case <-ctx.Done():
	}
	return nil
}
