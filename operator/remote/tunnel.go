package remote

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/forward"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// Pauses between two tries to have a session again; our choice.
const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second
)

// tunnel is the session of a client's forwards. When it ends, because a policy
// bounds it or the agent was restarted, it is asked for again.
type tunnel struct {
	options *verb.Options
	io      *cli.IO // its talk: approvals, warnings
	want    want
	set     *forward.Set

	// What happens; each may be nil. stands is called for every session, with what
	// could not be listened at.
	stands func(*opened, error)
	path   func(session.PathState)
	waits  func(format string, args ...any) // prints a line about a way that is lost, or there again
	lost   func(err error, again time.Duration)
}

// forwardWant is what a session for forwards is asked for with.
func forwardWant(host, user string) want {
	return want{host: host, action: wire.Forward, params: wire.Params{User: user, Argv: []wire.Bytes{}, Env: []wire.EnvVar{}}}
}

// run keeps a session until ctx ends, which is no error, or one is refused. The
// first has to come; later ones are waited for.
func (t *tunnel) run(ctx context.Context) error {
	stood := false
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		up, err := t.once(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case !up && (!stood || !passing(err)):
			return err
		case up:
			stood, pause = true, retryFirst
		}
		if t.lost != nil {
			t.lost(err, pause)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// passing reports an error that may be gone in a while.
func passing(err error) bool {
	switch refusal.Of(err) {
	case refusal.Offline, refusal.Unreachable, refusal.Unavailable, refusal.AgentStopped, refusal.RelayFailed, refusal.RateLimited, refusal.TooMany, refusal.HandshakeFailed:
		return true
	}
	return errors.Is(err, context.DeadlineExceeded)
}

// once has one session from its beginning to its end. up tells that it stood.
func (t *tunnel) once(ctx context.Context) (up bool, err error) {
	err = t.options.WithAccount(ctx, t.io, func(a *account.Account) error {
		conn, err := connect(ctx, a, t.io, t.want)
		if err != nil {
			return err
		}
		up = true
		defer conn.Close()
		defer conn.list(a, t.want)()
		leave := conn.renew.keep(func(text string) { t.io.Say("warning: %s", text) })
		defer leave()
		return t.serve(ctx, conn)
	})
	return up, err
}

func (t *tunnel) serve(ctx context.Context, conn *opened) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Conn.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	if t.path != nil {
		wg.Go(func() { conn.tellWays(ctx, t.path) })
	}
	if t.waits != nil {
		wg.Go(func() { conn.tellLoss(ctx, t.want.host, t.waits) })
	}
	wg.Go(func() { t.set.Serve(conn.Conn) })
	bad := t.set.Ask(ctx, conn.Conn)
	if t.stands != nil {
		t.stands(conn, bad)
	}
	<-conn.Done()
	return conn.Err()
}

// tellWays tells each change of the session's way until it or ctx ends, and the
// first one as soon as it is known.
func (o *opened) tellWays(ctx context.Context, tell func(session.PathState)) {
	var last session.PathState
	for {
		changed, now := o.PathChanged(), o.Path()
		if now.Lost != last.Lost || now.Kind != last.Kind || now.Name != last.Name {
			tell(now)
			last = now
		}
		select {
		case <-changed:
		case <-o.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// wayText is a way for people.
func wayText(way session.PathState, host string) string {
	if way.Lost || way.Kind == "" {
		return "no way to " + terminal.Escape(host) + "; what is sent is kept"
	}
	return "path " + way.Kind + " " + terminal.Escape(way.Name)
}
