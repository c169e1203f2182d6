package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// exitLimit is how long the operator may take to confirm that all output has
// arrived; a link that is that slow has lost its user. Our choice.
const exitLimit = 30 * time.Second

// copyBuffer is the only memory between a program and the operator besides the
// stream's own window (attack H4).
const copyBuffer = 32 << 10

// program is the one program of a session.
type program struct {
	w     *worker
	ch    *session.ServerChannel
	p     *process.Process
	input atomic.Int64 // bytes
}

// serve starts what was signed when the operator asks for it, and stays until it
// has ended.
func (w *worker) serve(ctx context.Context, conn *session.Conn, ch *session.ServerChannel) error {
	defer ch.Close()
	asked, err := w.asked(ctx, ch)
	if err != nil {
		return w.refuse(ctx, ch, err)
	}
	var agent lent
	if asked.agent {
		agent = w.lend(ctx, conn, ch)
		defer agent.leave()
	}
	p, err := w.start(asked.pty, agent.path)
	if err != nil {
		return w.refuse(ctx, ch, err)
	}
	g := &program{w: w, ch: ch, p: p}
	if err := errors.Join(w.pair.SendJSON(pair.FrameStarted, pair.Started{PID: p.Pid()}), ch.Start()); err != nil {
		p.End()
		return err
	}
	if asked.pty != nil && w.job.Action == wire.Shell && len(w.job.Argv) == 0 {
		_, _ = ch.Stdout().Write(bytes.ReplaceAll(process.MessageOfTheDay(w.job.Account.Home), []byte("\n"), []byte("\r\n")))
	}
	if agent.note != "" {
		_, _ = io.WriteString(ch.Stderr(), agent.note)
	}
	return g.run(ctx)
}

// refuse tells both sides why the program does not start.
func (w *worker) refuse(ctx context.Context, ch *session.ServerChannel, err error) error {
	e := &refusal.Error{Code: refusal.Unavailable, Detail: "the program cannot be started"}
	errors.As(err, &e)
	status := 126 // there is something, and it does not run; as shells say it
	if e.Code == refusal.CommandNotFound {
		status = 127
	}
	_ = w.pair.SendJSON(pair.FrameExited, pair.Exited{Code: status, Refusal: string(e.Code)})
	ctx, cancel := context.WithTimeout(ctx, exitLimit)
	defer cancel()
	_ = ch.Refuse(ctx, e)
	return nil
}

// wishes are what a program is to run with besides what was signed.
type wishes struct {
	pty   *session.PTY // nil for pipes
	agent bool         // lend it the operator's SSH agent
}

// asked reads requests up to the one that starts the program, and holds them
// against what was signed: what comes inside the channel authorises nothing.
func (w *worker) asked(ctx context.Context, ch *session.ServerChannel) (*wishes, error) {
	ctx, cancel := context.WithTimeout(ctx, firstChannel)
	defer cancel()
	var pty *session.PTY
	var bad error
	lent := false
	for {
		r, err := ch.NextRequest(ctx)
		if err != nil {
			return nil, err
		}
		switch r := r.(type) {
		case session.PTYRequest:
			pty = &r.PTY
		case session.WindowChange:
			if pty != nil {
				pty.Size = r.Size
			}
		case session.AgentRequest:
			lent = true
		case session.EnvRequest:
			if !w.signedEnv(r) {
				bad = refusal.New(refusal.EnvNotAllowed, "an environment variable that is not in the signed request")
			}
		case session.ShellRequest:
			if bad == nil && w.job.Action != wire.Shell {
				bad = refusal.New(refusal.BadArgument, "the signed request is for a program, not for a shell")
			}
			return &wishes{w.terminal(pty), lent}, errors.Join(bad, w.signedTTY(pty))
		case session.ExecRequest:
			return &wishes{w.terminal(pty), lent}, errors.Join(bad, w.signedArgv(r.Argv), w.signedTTY(pty))
		}
	}
}

func (w *worker) signedEnv(r session.EnvRequest) bool {
	for _, v := range w.job.Env {
		if v.Name == r.Name && string(v.Value) == r.Value {
			return true
		}
	}
	return false
}

func (w *worker) signedArgv(argv [][]byte) error {
	same := w.job.Action == wire.Exec && len(argv) == len(w.job.Argv)
	for i := 0; same && i < len(argv); i++ {
		same = bytes.Equal(argv[i], w.job.Argv[i])
	}
	if !same {
		return refusal.New(refusal.BadArgument, "not the program and arguments of the signed request")
	}
	return nil
}

func (w *worker) signedTTY(pty *session.PTY) error {
	if pty != nil && !w.job.TTY {
		return refusal.New(refusal.BadArgument, "the signed request is for a program without a terminal")
	}
	return nil
}

// terminal is the one to run on: what was signed with TTY always has one.
func (w *worker) terminal(pty *session.PTY) *session.PTY {
	if pty == nil && w.job.TTY {
		return &session.PTY{Term: "dumb"}
	}
	return pty
}

func (w *worker) start(pty *session.PTY, sshAgent string) (*process.Process, error) {
	spec := w.command()
	spec.Dir, spec.Alone = string(w.job.Dir), true
	term := ""
	if pty != nil {
		term = pty.Term
		spec.Terminal = &process.Terminal{Size: size(pty.Size)}
		for _, m := range pty.Modes {
			spec.Terminal.Modes = append(spec.Terminal.Modes, process.Mode{Op: m.Op, Value: m.Value})
		}
	}
	var err error
	env := pair.Variables(w.job.Env)
	if sshAgent != "" {
		env = append(env, process.Variable{Name: "SSH_AUTH_SOCK", Value: sshAgent})
	}
	if w.job.PAM {
		env = process.Underlay(env, os.Environ())
	}
	if spec.Env, err = process.Environment(w.job.Account, term, env); err != nil {
		return nil, err
	}
	return process.Start(spec)
}

// command is the program that was signed, or the user's shell, if need be with the
// command line that was signed.
func (w *worker) command() process.Spec {
	var argv []string
	for _, a := range w.job.Argv {
		argv = append(argv, string(a))
	}
	if w.job.Action == wire.Shell {
		return process.LoginShell(w.job.Account, argv)
	}
	return process.Spec{File: w.job.File, Argv: argv}
}

func size(s session.Size) process.Size {
	return process.Size{Columns: int(s.Columns), Rows: int(s.Rows)}
}

// run moves bytes and requests until the program has ended and all its output is
// delivered, or nobody is there to take it.
func (g *program) run(ctx context.Context) error {
	whole := ctx
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer g.end(whole) // wakes a copier whose other end some orphan of the program holds
	defer cancel()
	defer g.ch.Close() // wakes the copiers of a channel that is given up
	wg.Go(g.copyInput)
	wg.Go(func() { g.obey(ctx) })
	output := make(chan struct{})
	wg.Go(func() {
		defer close(output)
		g.copyOutput()
	})
	select {
	case <-output: // after the program's end and no earlier
	case <-g.ch.Gone():
	case <-ctx.Done():
	}
	e, delivered := g.finish(whole, output)
	_ = g.w.pair.SendJSON(pair.FrameExited, e)
	if !delivered {
		return context.Cause(ctx)
	}
	done, stop := context.WithTimeout(ctx, exitLimit)
	defer stop()
	return g.ch.Exit(done, session.Exit{Status: uint32(e.Code), Signal: session.Signal(e.Signal), CoreDumped: e.Core})
}

// finish collects how the program ended. When its output was not waited for, the
// program is ended first.
func (g *program) finish(ctx context.Context, output <-chan struct{}) (e pair.Exited, delivered bool) {
	select {
	case <-output:
		select {
		case <-g.ch.Gone():
		default:
			delivered = true
		}
	default:
	}
	if !delivered {
		g.end(ctx)
	}
	x := g.p.Wait()
	return pair.Exited{Code: x.Code, Signal: x.Signal, Core: x.Core, BytesIn: g.input.Load(), BytesOut: g.p.OutputBytes()}, delivered
}

// end ends the program and what it started, but for what was meant to stay and may: the
// supervisor is asked only when there is something. One that ends the session, or is
// gone, lets nothing stay.
func (g *program) end(ctx context.Context) {
	if g.p.Stays() {
		if _, err := g.w.may(ctx, wire.Action(policy.Background), ""); err == nil {
			g.p.Leave()
		}
	}
	g.p.End()
}

func (g *program) copyInput() {
	defer g.p.Stdin().Close()
	in := io.TeeReader(g.ch.Stdin(), touching{g})
	_, _ = io.CopyBuffer(onlyWriter{g.p.Stdin()}, in, make([]byte, copyBuffer))
}

// touching counts input and keeps the session from being idle.
type touching struct{ g *program }

// Write counts what went to the program. It never fails.
func (t touching) Write(b []byte) (int, error) {
	t.g.input.Add(int64(len(b)))
	t.g.w.idle.touch()
	return len(b), nil
}

// onlyWriter hides ReadFrom, which would bypass the buffer.
type onlyWriter struct{ io.Writer }

// copyOutput returns when both streams have ended and the program with them.
func (g *program) copyOutput() {
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.CopyBuffer(g.ch.Stdout(), onlyReader{g.p.Stdout()}, make([]byte, copyBuffer))
	})
	if stderr := g.p.Stderr(); stderr != nil {
		_, _ = io.CopyBuffer(g.ch.Stderr(), onlyReader{stderr}, make([]byte, copyBuffer))
	}
	wg.Wait()
	select {
	case <-g.p.Exited():
	case <-g.ch.Gone():
	}
}

type onlyReader struct{ io.Reader }

// obey handles what the operator asks while the program runs.
func (g *program) obey(ctx context.Context) {
	for {
		r, err := g.ch.NextRequest(ctx)
		if err != nil {
			return
		}
		g.w.idle.touch()
		switch r := r.(type) {
		case session.WindowChange:
			_ = g.p.Resize(size(r.Size))
		case session.SignalRequest:
			_ = g.p.Signal(string(r.Signal))
		}
	}
}
