package worker

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/tucdesk/tucdesk/agent/files"
	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// sftp is the subsystem that OpenSSH's tools ask for; filecopy.Subsystem is ours.
const sftp = "sftp"

// copying serves the one channel of a session for files to its end.
func (w *worker) copying(ctx context.Context, ch *session.ServerChannel) error {
	defer ch.Close()
	own, write, err := w.wanted(ctx, ch)
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
	if own {
		err = w.copyFiles(ctx, ch, home)
	} else {
		err = files.Serve(idling{ch.Stdin(), w.idle}, ch.Stdout(), files.Config{Home: home, Write: write})
	}
	if err != nil {
		exit.Status = 1
	}
	late, cancel := context.WithTimeout(ctx, exitLimit)
	defer cancel()
	return ch.Exit(late, exit)
}

// wanted reads requests up to the one for files. Our own protocol asks later, when
// it knows which way they go. With SFTP, who may write has to be let read as well: it
// cannot write without looking.
func (w *worker) wanted(ctx context.Context, ch *session.ServerChannel) (own, write bool, err error) {
	first, cancel := context.WithTimeout(ctx, firstChannel)
	defer cancel()
	r, err := ch.NextRequest(first)
	if err != nil {
		return false, false, err
	}
	asked, _ := r.(session.SubsystemRequest)
	switch asked.Name {
	case filecopy.Subsystem:
		return true, false, nil
	case sftp:
	default:
		return false, false, refusal.New(refusal.BadArgument, "the signed request is for files: the channel's first request is the subsystem %q or %q", sftp, filecopy.Subsystem)
	}
	if _, err := w.may(ctx, wire.Action(policy.CopyRead), ""); err != nil {
		return false, false, err
	}
	_, err = w.may(ctx, wire.Action(policy.CopyWrite), "")
	if ctx.Err() != nil {
		return false, false, context.Cause(ctx)
	}
	return false, err == nil, nil
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
