package worker

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/tucdesk/tucdesk/agent/files"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// subsystem is the only one there is.
const subsystem = "sftp"

// copying serves the one channel of a session for files to its end.
func (w *worker) copying(ctx context.Context, ch *session.ServerChannel) error {
	defer ch.Close()
	write, err := w.wanted(ctx, ch)
	if err != nil {
		e := &refusal.Error{Code: refusal.Unavailable, Detail: "files cannot be served"}
		errors.As(err, &e)
		late, cancel := context.WithTimeout(ctx, exitLimit)
		defer cancel()
		_ = ch.Refuse(late, e)
		return nil
	}
	if err := ch.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = ch.Close() })
	defer stop()
	var rest sync.WaitGroup
	defer rest.Wait()
	defer ch.Close()
	rest.Go(func() { ignoreRequests(ctx, ch) })
	home := w.job.Account.Home
	if home == "" {
		home = "/"
	}
	exit := session.Exit{}
	if files.Serve(idling{ch.Stdin(), w.idle}, ch.Stdout(), files.Config{Home: home, Write: write}) != nil {
		exit.Status = 1
	}
	late, cancel := context.WithTimeout(ctx, exitLimit)
	defer cancel()
	return ch.Exit(late, exit)
}

// wanted reads requests up to the one for files, and asks what may be done with
// them. Who may write has to be let read as well: the protocol cannot write without
// looking.
func (w *worker) wanted(ctx context.Context, ch *session.ServerChannel) (write bool, err error) {
	first, cancel := context.WithTimeout(ctx, firstChannel)
	defer cancel()
	r, err := ch.NextRequest(first)
	if err != nil {
		return false, err
	}
	if s, ok := r.(session.SubsystemRequest); !ok || s.Name != subsystem {
		return false, refusal.New(refusal.BadArgument, "the signed request is for files: the channel's first request is the subsystem %q", subsystem)
	}
	if _, err := w.may(ctx, wire.Action(policy.CopyRead), ""); err != nil {
		return false, err
	}
	_, err = w.may(ctx, wire.Action(policy.CopyWrite), "")
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return err == nil, nil
}

// ignoreRequests takes what has no meaning for files, so that nothing waits for it.
func ignoreRequests(ctx context.Context, ch *session.ServerChannel) {
	for {
		if _, err := ch.NextRequest(ctx); err != nil {
			return
		}
	}
}

// idling keeps the session from being idle while the operator sends.
type idling struct {
	r    io.Reader
	idle *idleTimer
}

func (i idling) Read(b []byte) (int, error) {
	n, err := i.r.Read(b)
	if n > 0 {
		i.idle.touch()
	}
	return n, err
}
