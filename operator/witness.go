package operator

import (
	"context"
	"time"

	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/witness"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// witness opens the memory of the team's log: everybody who sees checkpoints
// remembers the last one, so a server cannot show two logs for long (protocol 5.3).
func (a *account) witness() (*witness.Witness, error) {
	server, err := a.state.Server(a.member.Access)
	if err != nil {
		return nil, err
	}
	return witness.Open(a.home.path(auditSeenFile), checkpoint.Origin(server.Name, a.member.Team))
}

// gossip asks for the newest checkpoint and the proof that it extends the one
// seen last, and cosigns it if it is new here. The cosignature is for others; a
// server that does not take it is no reason to end a command.
func (a *account) gossip(ctx context.Context) error {
	w, err := a.witness()
	if err != nil {
		return err
	}
	news, err := a.server.Checkpoint(ctx, a.cred, uint64(w.Size()))
	if err != nil {
		return err
	}
	server, err := a.state.Server(a.member.Access)
	if err != nil {
		return err
	}
	before := w.Size()
	if err := w.Update(news, server.Keys.Audit); err != nil || w.Size() == before {
		return err
	}
	k, err := witness.Cosign(w, a.key, time.Now())
	if err != nil {
		return err
	}
	if err := a.server.Cosign(ctx, a.cred, k); err != nil {
		return ctx.Err()
	}
	return nil
}

// trusted refuses to go on with a server that showed two logs.
func (a *account) trusted() error {
	w, err := a.witness()
	if err == nil {
		err = w.Err()
	}
	if err != nil && refusal.Of(err) == "" {
		return refusal.New(refusal.AuditFork, "%v", err)
	}
	return err
}
