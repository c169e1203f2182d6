package worker

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Renewal in the session process; our choice.
const (
	renewTry   = 30 * time.Second // one attempt
	renewPause = 2 * time.Second  // until the next
)

// renewed takes a credential from the supervisor; the newest one counts.
func (w *worker) renewed(body []byte) {
	var r wire.Relay
	if json.Unmarshal(body, &r) != nil {
		return
	}
	select {
	case <-w.relays:
	default:
	}
	w.relays <- r // has room: only listen puts something in
}

// keepRelay takes new credentials into use until leave is called, which waits.
func (w *worker) keepRelay(ctx context.Context, l *link.Link) (leave func()) {
	ctx, cancel := context.WithCancel(ctx)
	var keeper sync.WaitGroup
	keeper.Go(func() {
		for {
			select {
			case r := <-w.relays:
				w.use(ctx, l, r)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		keeper.Wait()
	}
}

// use shows the relay a credential until it takes it, a newer one has come or the
// session ends.
func (w *worker) use(ctx context.Context, l *link.Link, r wire.Relay) {
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, renewTry)
		err := l.Renew(try, r)
		cancel()
		if err == nil {
			return
		}
		select {
		case r = <-w.relays:
		case <-time.After(renewPause):
		case <-ctx.Done():
		}
	}
}
