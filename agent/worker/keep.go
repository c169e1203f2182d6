package worker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"

	"github.com/tucdesk/tucdesk/agent/kept"
	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
)

// hold is the life of a holder: a process like a session's, without session and
// without any key.
func (w *worker) hold(ctx context.Context) error {
	given := pair.Given()
	door, err := kept.OpenDoor(given)
	_ = given.Close()
	if err != nil {
		return err
	}
	h := kept.Holder{
		Start: func(at kept.Terminal) (*process.Process, error) { return w.start(ptyOf(at), "") },
		Started: func(p *process.Process) {
			_ = w.pair.SendJSON(pair.FrameStarted, pair.Started{PID: p.Pid()})
		},
		Failed: func(e *refusal.Error) {
			_ = w.pair.SendJSON(pair.FrameExited, pair.Exited{Code: 126, Refusal: string(e.Code)})
		},
		Exited: func(e kept.Exit, in, out int64) {
			_ = w.pair.SendJSON(pair.FrameExited, pair.Exited{Code: e.Code, Signal: e.Signal, Core: e.Core, BytesIn: in, BytesOut: out})
		},
	}
	h.Run(ctx, door)
	return nil
}

func ptyOf(at kept.Terminal) *session.PTY {
	pty := &session.PTY{Term: at.Term, Size: session.Size{Columns: uint16(at.Size.Columns), Rows: uint16(at.Size.Rows)}}
	for _, m := range at.Modes {
		pty.Modes = append(pty.Modes, session.Mode{Op: m.Op, Value: m.Value})
	}
	return pty
}

func terminalOf(pty *session.PTY) kept.Terminal {
	at := kept.Terminal{Term: pty.Term, Size: size(pty.Size).Clamp()}
	for _, m := range pty.Modes {
		at.Modes = append(at.Modes, process.Mode{Op: m.Op, Value: m.Value})
	}
	return at
}

// kept serves the one channel of a session that is about kept shells. The supervisor
// has done, before it gave the keys, whatever was to be done.
func (w *worker) kept(ctx context.Context, ch *session.ServerChannel) error {
	defer ch.Close()
	asked, err := w.asked(ctx, ch)
	switch {
	case err != nil:
	case w.keep == nil:
		err = refusal.New(refusal.Unavailable, "the agent said nothing of kept shells")
	case w.keep.Code != "":
		err = &refusal.Error{Code: refusal.Plain(w.keep.Code), Detail: w.keep.Detail}
	case w.job.Keep.Runs():
		return w.joined(ctx, ch, asked.pty)
	}
	if err != nil {
		return w.denied(ctx, ch, err)
	}
	if err := ch.Start(); err != nil {
		return err
	}
	if w.keep.Shells != nil {
		if err := json.NewEncoder(ch.Stdout()).Encode(w.keep.Shells); err != nil {
			return err
		}
	}
	late, cancel := context.WithTimeout(ctx, exitLimit)
	defer cancel()
	return ch.Exit(late, session.Exit{})
}

// denied tells the operator why not.
func (w *worker) denied(ctx context.Context, ch *session.ServerChannel, err error) error {
	e := &refusal.Error{Code: refusal.Unavailable, Detail: "the shell cannot be had"}
	errors.As(err, &e)
	late, cancel := context.WithTimeout(ctx, exitLimit)
	defer cancel()
	_ = ch.Refuse(late, e)
	return nil
}

// joined joins the channel to a kept shell until one of them ends. The shell runs on
// whatever ends here.
func (w *worker) joined(ctx context.Context, ch *session.ServerChannel, pty *session.PTY) error {
	j, err := kept.Join(pair.Given(), terminalOf(pty))
	if err != nil {
		return w.denied(ctx, ch, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer ch.Close()
	defer j.Close()
	if err := ch.Start(); err != nil {
		return err
	}
	wg.Go(func() {
		_, _ = io.CopyBuffer(onlyWriter{j}, onlyReader{idling{ch.Stdin(), w.idle}}, make([]byte, copyBuffer))
	})
	wg.Go(func() { w.pass(ctx, ch, j) })
	output := make(chan error, 1)
	wg.Go(func() {
		_, err := io.CopyBuffer(onlyWriter{ch.Stdout()}, onlyReader{j}, make([]byte, copyBuffer))
		output <- err
	})
	select {
	case err = <-output:
	case <-ch.Gone():
		return context.Cause(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	exit, ended := exitOf(err)
	if !ended {
		return err
	}
	late, stop := context.WithTimeout(ctx, exitLimit)
	defer stop()
	return ch.Exit(late, exit)
}

// exitOf is what the operator is told of the end of a stream.
func exitOf(err error) (session.Exit, bool) {
	var e kept.Ended
	if errors.As(err, &e) {
		return session.Exit{Status: uint32(e.Exit.Code), Signal: session.Signal(e.Exit.Signal), CoreDumped: e.Exit.Core}, true
	}
	var no *refusal.Error
	if errors.As(err, &no) && (no.Code == refusal.TakenOver || no.Code == refusal.Unavailable) {
		return session.Exit{Refusal: no}, true
	}
	return session.Exit{}, false
}

// pass hands requests of the operator on.
func (w *worker) pass(ctx context.Context, ch *session.ServerChannel, j *kept.Joined) {
	for {
		r, err := ch.NextRequest(ctx)
		if err != nil {
			return
		}
		w.idle.touch()
		switch r := r.(type) {
		case session.WindowChange:
			err = j.Resize(size(r.Size))
		case session.SignalRequest:
			err = j.Signal(string(r.Signal))
		}
		if err != nil {
			return
		}
	}
}
