package remote

import (
	"context"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// When the server is asked whether a session that no way leads to has ended at its
// machine; our choice. Most losses are over before that, and most others are a
// network that no server can be reached by either.
const (
	askEndAfter = 5 * time.Second
	askEndMost  = time.Minute      // between two questions; the first pauses are shorter
	askEndLimit = 20 * time.Second // for one
)

// watchEnd asks, for as long as nothing gets through, whether the machine has ended
// the session, and ends it here then. A session process that was killed, or a
// machine that lost its power, could not say so inside the session, and a person
// would wait a day for it.
func (r *renewal) watchEnd(ctx context.Context) {
	pause := askEndAfter
	var due time.Time // of the next question; zero while there is a way
	for {
		changed, way := r.conn.PathChanged(), r.conn.Path()
		var ask <-chan time.Time
		switch {
		case !way.Lost:
			due, pause = time.Time{}, askEndAfter
		case due.IsZero():
			due = time.Now().Add(pause)
			fallthrough
		default:
			ask = time.After(time.Until(due))
		}
		select {
		case <-ctx.Done():
			return
		case <-r.conn.Done():
			return
		case <-changed:
			continue
		case <-ask:
		}
		if code := r.askEnd(ctx); code != "" {
			_ = r.conn.CloseWith(code)
			return
		}
		pause = min(2*pause, askEndMost)
		due = time.Now().Add(pause)
	}
}

// askEnd returns why the session is over at the machine, "" if nobody can say that
// it is. That it ended in order is Gone too: how its program ended was lost on the
// way, so it must not look like success.
func (r *renewal) askEnd(ctx context.Context) refusal.Code {
	r.one.Lock()
	defer r.one.Unlock()
	ctx, cancel := context.WithTimeout(ctx, askEndLimit)
	defer cancel()
	if r.account.SignIn(ctx) != nil {
		return ""
	}
	ended, err := r.account.Server.SessionEnd(ctx, r.account.Credentials, r.session, r.machine.ID())
	if err != nil || ended.Entry == nil {
		return ""
	}
	return r.over(ended.Entry, r.conn.Ready().AuditSeq)
}

// over is what an entry of a log says about the end of the session. Only the machine
// can have signed it, so a server that lies gains nothing by it: it can withhold the
// entry. One up to ready, which the machine named in READY, says nothing about this
// session; an agent that has begun to run since then has none of those that it had.
func (r *renewal) over(s statement.Signed, ready uint64) refusal.Code {
	e, _, err := statement.Open[entry.Entry](s, func(kid key.ID) (statement.Verifier, error) {
		if kid != r.machine.ID() {
			return nil, refusal.New(refusal.UnknownKey, "log entry of another signer")
		}
		return r.machine, nil
	})
	if err != nil || e.Team != r.account.Member.Team || e.Seq <= ready {
		return ""
	}
	switch {
	case e.Type == entry.SessionEnd && e.Session == r.session && e.Actor.Kid == r.account.Key.ID() && e.Refusal != "":
		return refusal.Plain(e.Refusal)
	case e.Type == entry.SessionEnd && e.Session == r.session && e.Actor.Kid == r.account.Key.ID(), e.Type == entry.AgentStart:
		return refusal.Gone
	}
	return ""
}

// ending is what watchEnd has to know of a session.
type ending struct {
	session wire.SessionID
	machine key.Public[key.Agent] // by the certificate that was verified here
}
