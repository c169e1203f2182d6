package account

import (
	"context"
	"time"

	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/witness"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Witness opens the memory of the team's log: everybody who sees checkpoints
// remembers the last one, so a server cannot show two logs for long (protocol 5.3).
func (a *Account) Witness() (*witness.Witness, error) {
	server, err := a.State.Server(a.Member.Access)
	if err != nil {
		return nil, err
	}
	return witness.Open(a.Home.Path(AuditSeenFile), checkpoint.Origin(server.Name, a.Member.Team))
}

// Gossip asks for the newest checkpoint and the proof that it extends the one
// seen last, and cosigns it if it is new here. The cosignature is for others; a
// server that does not take it is no reason to end a command.
func (a *Account) Gossip(ctx context.Context) error {
	return a.gossip(ctx, func(checkpoint.Checkpoint) bool { return true })
}

// GossipOf is Gossip if the newest checkpoint is of that many entries, as right after an
// export of them. With a newer one the export would be called outdated, by nobody's fault
// but that somebody worked meanwhile; the next command asks for that.
func (a *Account) GossipOf(ctx context.Context, entries int64) error {
	return a.gossip(ctx, func(c checkpoint.Checkpoint) bool { return c.Size == entries })
}

// gossip takes the newest checkpoint if it is wanted, which is asked before it is verified.
func (a *Account) gossip(ctx context.Context, wanted func(checkpoint.Checkpoint) bool) error {
	w, err := a.Witness()
	if err != nil {
		return err
	}
	news, err := a.Server.Checkpoint(ctx, a.Credentials, uint64(w.Size()))
	if err != nil {
		return err
	}
	if c, err := checkpoint.Peek(news.Checkpoint); err == nil && !wanted(c) {
		return nil
	}
	server, err := a.State.Server(a.Member.Access)
	if err != nil {
		return err
	}
	before := w.Size()
	if err := w.Update(news, server.Keys.Audit); err != nil || w.Size() == before {
		return err
	}
	k, err := witness.Cosign(w, a.Key, time.Now())
	if err != nil {
		return err
	}
	if err := a.Server.Cosign(ctx, a.Credentials, k); err != nil {
		return ctx.Err()
	}
	return nil
}

// Trusted refuses to go on with a server that showed two logs.
func (a *Account) Trusted() error {
	w, err := a.Witness()
	if err == nil {
		err = w.Err()
	}
	if err != nil && refusal.Of(err) == "" {
		return refusal.New(refusal.AuditFork, "%v", err)
	}
	return err
}
