package worker

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/tucdesk/tucdesk/agent/reach"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// lend makes the socket at which the program finds the operator's SSH agent, and
// returns its path and what removes it. Where that may not be, there is a note for
// the person, and the program runs without, as with sshd.
func (w *worker) lend(ctx context.Context, conn *session.Conn, ch *session.ServerChannel) (l lent) {
	path, leave, err := w.lendAt(ctx, conn, ch.ID())
	if err != nil {
		return lent{note: fmt.Sprintf("tucdesk: the SSH agent is not lent: %v\r\n", err), leave: func() {}}
	}
	return lent{path: path, leave: leave}
}

// lent is an SSH agent at a path of this machine, or why there is none. The note can
// be written when the program has started: before that nobody reads.
type lent struct {
	path, note string
	leave      func()
}

func (w *worker) lendAt(ctx context.Context, conn *session.Conn, program uint64) (path string, leave func(), err error) {
	if _, err := w.may(ctx, wire.Action(policy.ForwardAgent), ""); err != nil {
		return "", nil, err
	}
	if runtime.GOOS == "windows" {
		return "", nil, refusal.New(refusal.Unavailable, "programs on Windows find an SSH agent at a named pipe, which this version does not make")
	}
	dir, err := os.MkdirTemp("", "tucdesk-") // of this user alone
	if err != nil {
		return "", nil, refusal.New(refusal.Unavailable, "there is no room for a socket")
	}
	path = filepath.Join(dir, "agent.sock")
	l, err := reach.ListenSocket(ctx, path, true)
	if err != nil {
		_ = os.Remove(dir)
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		accept(ctx, l, func(c net.Conn) {
			w.forwarded(ctx, conn, c, session.Opening{Kind: session.AgentSocket, Of: program})
		})
	})
	return path, func() {
		_ = l.Close()
		cancel()
		accepting.Wait()
		_ = os.Remove(dir)
	}, nil
}
