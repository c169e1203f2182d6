package worker

import (
	"context"
	"encoding/json"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/session"
)

func TestA14AlarmReachesTheSupervisorAndDoesNotFloodIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		w, supervisor := &worker{pair: pair.Worker(theirs)}, pair.Supervisor(ours)
		var got []uint64
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				typ, body, err := supervisor.Receive()
				if err != nil {
					return
				}
				var f pair.Forged
				if typ != pair.FrameForged || json.Unmarshal(body, &f) != nil {
					t.Errorf("frame %d: %q", typ, body)
				}
				got = append(got, f.Count)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		count := uint64(1)
		w.watchForgery(ctx, func() session.Stats { // a million datagrams in a second
			count += 5e6
			return session.Stats{Stats: seal.Stats{OpenFailed: count, Alarm: count >= seal.FailedAlarm}}
		})
		_ = ours.Close()
		wg.Wait()
		if len(got) < 3 || len(got) > 8 || got[0] < seal.FailedAlarm {
			t.Errorf("in a day it reports %d", got)
		}
	})
}
