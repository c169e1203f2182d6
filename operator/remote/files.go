package remote

import (
	"context"
	"sync"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// FilesAsk is what a session for files is asked for with.
type FilesAsk struct {
	Host   string // name of the machine
	User   string // "" is the user that the agent runs as
	Reason string // for an approver, and the log
	NoWait bool   // rather than wait for an approval, withdraw the request
	NoMap  bool   // never ask the router to forward a port
}

// WithFiles opens a session for files, waits for the approvals that it needs, starts
// the subsystem on its one channel and runs f. The channel and the session are closed
// when f returns, and when ctx ends.
func WithFiles(ctx context.Context, o *verb.Options, tio *cli.IO, ask FilesAsk, subsystem string, f func(*session.Channel) error) error {
	w := want{host: ask.Host, action: wire.Copy, params: wire.Params{User: ask.User, Argv: []wire.Bytes{}, Env: []wire.EnvVar{}}, reason: ask.Reason, noWait: ask.NoWait, noMap: ask.NoMap}
	return o.WithAccount(ctx, tio, func(a *account.Account) error {
		conn, err := connect(ctx, a, tio, w)
		if err != nil {
			return err
		}
		defer conn.Close()
		defer conn.list(a, w)()
		leave := conn.renew.keep(func(text string) { tio.Say("warning: %s", terminal.Escape(text)) })
		defer leave()
		watch, unwatch := context.WithCancel(ctx)
		var watcher sync.WaitGroup
		defer watcher.Wait()
		defer unwatch()
		watcher.Go(func() { conn.tellLoss(watch, ask.Host, tio.Say) })
		ch, err := conn.OpenSession(ctx)
		if err != nil {
			return err
		}
		defer ch.Close()
		if err := ch.Subsystem(ctx, subsystem); err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { _ = ch.Close() })
		defer stop()
		return f(ch)
	})
}
