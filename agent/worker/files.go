package worker

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/tucdesk/tucdesk/agent/files"
	"github.com/tucdesk/tucdesk/internal/confine"
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
	own, err := w.wanted(ctx, ch)
	cfg := files.Config{}
	if err == nil && !own {
		cfg, err = w.trees(ctx)
	}
	defer cfg.Read.Close()
	defer cfg.Write.Close()
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
		cfg.Home = home
		err = files.Serve(idling{ch.Stdin(), w.idle}, ch.Stdout(), cfg)
	}
	if err != nil {
		exit.Status = 1
	}
	late, cancel := context.WithTimeout(ctx, exitLimit)
	defer cancel()
	return ch.Exit(late, exit)
}

// wanted reads the request for files. Our own protocol asks the policy later, when it
// knows which way they go.
func (w *worker) wanted(ctx context.Context, ch *session.ServerChannel) (own bool, err error) {
	first, cancel := context.WithTimeout(ctx, firstChannel)
	defer cancel()
	r, err := ch.NextRequest(first)
	if err != nil {
		return false, err
	}
	asked, _ := r.(session.SubsystemRequest)
	switch asked.Name {
	case filecopy.Subsystem:
		return true, nil
	case sftp:
		return false, nil
	}
	return false, refusal.New(refusal.BadArgument, "the signed request is for files: the channel's first request is the subsystem %q or %q", sftp, filecopy.Subsystem)
}

// trees opens what SFTP may read and what it may change, either of which may be
// nothing. Without both, why there is nothing to read is the better answer.
func (w *worker) trees(ctx context.Context) (files.Config, error) {
	read, err := w.tree(ctx, policy.CopyRead)
	write, unwritten := w.tree(ctx, policy.CopyWrite)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	} else if unwritten == nil {
		err = nil
	}
	if err != nil {
		read.Close()
		write.Close()
		return files.Config{}, err
	}
	return files.Config{Read: read, Write: write}, nil
}

// tree opens what copies in one direction may touch. With an error it is nil, or one
// that holds nothing and still keeps the policy's folders in their places.
func (w *worker) tree(ctx context.Context, action policy.Action) (*confine.Tree, error) {
	yes, err := w.may(ctx, wire.Action(action), "")
	if err != nil {
		return nil, err
	}
	return confine.Open(yes.Roots, yes.Sockets...)
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

// Read reads, and notes that the operator sent something.
func (i idling) Read(b []byte) (int, error) {
	n, err := i.r.Read(b)
	if n > 0 {
		i.idle.touch()
	}
	return n, err
}
