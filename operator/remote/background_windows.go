package remote

import (
	"context"
	"errors"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
)

// toBackground is not possible here.
func toBackground(context.Context, *cli.IO, bool) error {
	return usage("start /b tucdesk ssh -N ...", "-f: Windows has no background of this kind")
}

func inBackground() {}

// startMaster is not possible here.
func startMaster(context.Context, string, time.Duration) error { return errors.New("no master here") }
