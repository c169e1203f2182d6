package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/tucdesk/tucdesk/agent/membership"
)

// JoinOptions is what a person may choose about joining.
type JoinOptions = membership.Options

// Join makes this machine an agent of the team that joinString names and leaves
// its state in dir; see membership.Join.
func Join(ctx context.Context, dir, joinString string, opts JoinOptions) error {
	return membership.Join(ctx, dir, joinString, opts)
}

// FinishJoin goes on with an attempt to join that broke off after the server may
// have heard of it, until it is settled or ctx ends. Where none was begun it
// returns nil at once.
func FinishJoin(ctx context.Context, dir string, cfg Config) error {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	for n := 0; ; n++ {
		settled, err := membership.Finish(ctx, dir, membership.Options{Version: cfg.Version})
		if settled {
			return err
		}
		d := wait(n, err)
		log.Warn("joining is not finished", "err", err, "again_in", d.Round(time.Millisecond).String())
		if !pause(ctx, d, nil) {
			return err
		}
	}
}
