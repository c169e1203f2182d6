package remote

import (
	"context"
	"net"
	"os"
	"sync"

	"github.com/tucdesk/tucdesk/internal/join"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
)

// agentSocket is where this computer's SSH agent listens; "" is none.
func agentSocket() string { return os.Getenv("SSH_AUTH_SOCK") }

// lend joins what a program of the machine's connects to with the SSH agent at
// socket, until the session ends, and waits for all of them. Only the program that
// it was lent to gets there.
func lend(ctx context.Context, conn *session.Conn, program uint64, socket string) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		a, err := conn.AcceptPipe(ctx)
		if err != nil {
			return
		}
		if a.Kind != session.AgentSocket || a.Of != program {
			a.Refuse(refusal.New(refusal.BadRequest, "nothing of that kind was lent"))
			continue
		}
		wg.Go(func() { lendOnce(ctx, a, socket) })
	}
}

func lendOnce(ctx context.Context, a *session.Asked, socket string) {
	var d net.Dialer
	agent, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		a.Refuse(refusal.New(refusal.Unreachable, "the operator's SSH agent does not answer"))
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = agent.Close() })
	defer stop()
	pipe, err := a.Accept(0)
	if err != nil {
		_ = agent.Close()
		return
	}
	join.Both(pipe, agent.(join.Conn))
}
