package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/internal/harden"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Arg is the argument by which a program that embeds the agent is asked
// to call Main.
const Arg = "session"

// firstChannel is how long after CONFIRM the operator may take to say what the
// session is for; our choice.
const firstChannel = 30 * time.Second

// Main is the whole life of a session process and returns its exit
// status. Call it first thing in main, before anything is opened.
func Main() int {
	if err := errors.Join(harden.Process(), process.SealDescriptors()); err != nil {
		fmt.Fprintln(os.Stderr, "tucdesk-agent session:", err)
		return 1
	}
	rw, err := pair.Inherited()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tucdesk-agent session:", err)
		return 1
	}
	process.ForgetStarter()
	TuneMemory()
	w := &worker{pair: pair.Worker(rw), replies: make(chan pair.Frame, 1), relays: make(chan wire.Relay, 1)}
	if err := w.run(); err != nil {
		return 1
	}
	return 0
}

// worker is one session process.
type worker struct {
	pair    *pair.Conn
	job     pair.Job
	replies chan pair.Frame  // answers to CONFIRM
	relays  chan wire.Relay  // the newest credential that the link does not have yet
	asks    asks             // what the supervisor was asked
	idle    *idleTimer       // set by confirm
	keep    *pair.KeepAnswer // set by confirm
	cancel  context.CancelCauseFunc
}

// run takes the job, serves it and says how it ended.
func (w *worker) run() error {
	defer w.pair.Close()
	t, body, err := w.pair.Receive()
	if err != nil {
		return err
	}
	if t != pair.FrameJob || json.Unmarshal(body, &w.job) != nil {
		return errors.New("the supervisor sent no job")
	}
	if w.job.Action == wire.Ping { // before a byte of the operator's is read
		if err := process.SealPrograms(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	w.cancel = cancel
	var listener sync.WaitGroup
	listener.Go(w.listen)
	if w.job.Hold {
		err = w.hold(ctx)
	} else {
		err = w.session(ctx)
	}
	cancel(nil)
	_ = w.pair.SendJSON(pair.FrameClosed, pair.Closed{Refusal: string(refusal.Of(err))})
	w.pair.Close()
	listener.Wait()
	return err
}

// listen hears the supervisor until the pair ends, which ends the session: a
// supervisor that was killed leaves nobody to answer for it (attack H2).
func (w *worker) listen() {
	for {
		t, body, err := w.pair.Receive()
		if err != nil {
			w.cancel(refusal.New(refusal.AgentStopped, "the agent is gone"))
			return
		}
		switch t {
		case pair.FrameKeys, pair.FrameRejected:
			select {
			case w.replies <- pair.Frame{Type: t, Body: body}:
			default: // an answer to nothing; the supervisor does not do that
				clear(body)
			}
		case pair.FrameRelay:
			w.renewed(body)
		case pair.FrameAnswer:
			w.asks.answered(body)
		case pair.FrameEnd:
			w.cancel(&refusal.Error{Code: refusal.Plain(refusal.Code(body))})
		}
	}
}

// session opens the link, waits for the operator and serves it.
func (w *worker) session(ctx context.Context) error {
	l, err := link.Open(ctx, link.Config{
		Relay: w.job.Relay, Direct: true, Map: w.job.Map, Proxy: w.job.Proxies.Choose(), Remember: w.ways(),
		Ports: link.Ports{First: w.job.Direct.First, Last: w.job.Direct.Last}, Public: w.job.Direct.Public,
	})
	if err != nil {
		return w.cause(ctx, err)
	}
	leave := w.keepRelay(ctx, l)
	defer leave()
	conn, err := session.Accept(ctx, session.AcceptConfig{
		Link: l, Index: w.job.Index, Many: w.job.Action == wire.Forward,
		Confirm: func(m3 []byte) (*handshake.Keys, session.Ready, error) { return w.confirm(ctx, m3) },
	})
	if err != nil {
		return w.cause(ctx, err)
	}
	defer w.idle.stop()
	cut := context.AfterFunc(ctx, func() { _ = conn.CloseWith(refusal.Of(context.Cause(ctx))) })
	defer cut()
	watch, leaveWatch := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() { w.watchForgery(watch, conn.Stats) })
	defer watcher.Wait()
	defer leaveWatch()
	switch w.job.Action {
	case wire.Ping:
		err = refuseAll(ctx, conn)
	case wire.Forward:
		roomForMany()
		err = w.tunnels(ctx, conn)
	default:
		err = w.channels(ctx, conn)
	}
	_ = conn.CloseWith(refusal.Of(err))
	return w.cause(ctx, err)
}

// cause prefers why the session had to end over what that did to a call.
func (w *worker) cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// confirm has the supervisor look at a CONFIRM.
func (w *worker) confirm(ctx context.Context, m3 []byte) (*handshake.Keys, session.Ready, error) {
	if err := w.pair.Send(pair.FrameConfirm, m3); err != nil {
		return nil, session.Ready{}, err
	}
	var f pair.Frame
	select {
	case f = <-w.replies:
	case <-ctx.Done():
		return nil, session.Ready{}, context.Cause(ctx)
	}
	defer clear(f.Body)
	if f.Type == pair.FrameRejected {
		return nil, session.Ready{}, refusal.New(refusal.HandshakeFailed, "not the CONFIRM of this session")
	}
	exported, r, err := pair.SplitKeys(f.Body)
	if err != nil {
		return nil, session.Ready{}, err
	}
	keys, err := handshake.ImportKeys(exported)
	if err != nil {
		return nil, session.Ready{}, err
	}
	w.keep = r.Keep
	w.idle = newIdleTimer(r.MaxIdle, func() {
		w.cancel(refusal.New(refusal.Expired, "no input for longer than the policy allows"))
	})
	return keys, session.Ready{
		Rule: r.Rule, Policy: r.Policy, MaxDuration: r.MaxDuration, MaxIdle: r.MaxIdle, MaxResume: r.MaxResume, AuditSeq: r.AuditSeq, AuditHead: r.AuditHead,
	}, nil
}

// channels serves the one channel of the session and refuses others by name
// meanwhile: a signed request is for one program.
func (w *worker) channels(ctx context.Context, conn *session.Conn) error {
	first, cancel := context.WithTimeout(ctx, firstChannel)
	defer cancel()
	ch, err := conn.AcceptChannel(first)
	if err != nil {
		return err
	}
	others, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { refuseChannels(others, conn) })
	defer wg.Wait()
	defer stop()
	if w.job.Action == wire.Copy {
		return w.copying(ctx, ch)
	}
	if w.job.Keep != nil {
		return w.kept(ctx, ch)
	}
	return w.serve(ctx, conn, ch)
}

// refuseAll serves a ping: paths are found and kept, and nothing can be opened. It
// returns when the session has ended.
func refuseAll(ctx context.Context, conn *session.Conn) error {
	for {
		ch, err := conn.AcceptChannel(ctx)
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		late, cancel := context.WithTimeout(ctx, firstChannel)
		_ = ch.Refuse(late, refusal.New(refusal.BadArgument, "the signed request is for a ping"))
		cancel()
		_ = ch.Close()
	}
}

func refuseChannels(ctx context.Context, conn *session.Conn) {
	for {
		ch, err := conn.AcceptChannel(ctx)
		if err != nil {
			return
		}
		refuseChannel(ctx, ch)
	}
}

func refuseChannel(ctx context.Context, ch *session.ServerChannel) {
	ctx, cancel := context.WithTimeout(ctx, firstChannel)
	defer cancel()
	defer ch.Close()
	for {
		r, err := ch.NextRequest(ctx)
		if err != nil {
			return
		}
		switch r.(type) {
		case session.ShellRequest, session.ExecRequest, session.SubsystemRequest:
			_ = ch.Refuse(ctx, refusal.New(refusal.TooMany, "this session was opened for one program, which is another channel's"))
			return
		}
	}
}
