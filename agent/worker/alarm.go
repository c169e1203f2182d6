package worker

import (
	"context"
	"time"

	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/internal/session"
)

// Reports of forged datagrams; our choices. Nobody need hurry: not one of them is
// believed, and the session goes on.
const (
	alarmEvery = 5 * time.Second
	alarmStep  = 16 // times as many as were reported last
)

// watchForgery tells the supervisor when the seal raises its alarm, and again when
// it has become much worse, until ctx ends (attack A14). Here nobody would hear it.
func (w *worker) watchForgery(ctx context.Context, stats func() session.Stats) {
	tick := time.NewTicker(alarmEvery)
	defer tick.Stop()
	for next := uint64(0); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if s := stats(); s.Alarm && s.OpenFailed >= next {
			if w.pair.SendJSON(pair.FrameForged, pair.Forged{Count: s.OpenFailed}) != nil {
				return // the pair's end ends the session
			}
			next = s.OpenFailed * alarmStep
		}
	}
}
