package link

import (
	"context"
	"errors"
	"time"
)

// Times of asking a relay whether it still has our allocation; our choice.
const (
	// askLeast and askMost bound the pause before the question is sent again,
	// which is two round trips, or one where that is longer than askMost; then twice as
	// long.
	askLeast = 100 * time.Millisecond
	askMost  = 500 * time.Millisecond
	// askPauses is how many such pauses the relay may take in all: the question is
	// sent at 0, 1 and 3. What has not been answered by then is lost: the relay is
	// gone, or no longer knows us because our address has changed.
	askPauses = 5
	// doubtFirst and doubtMost are the pause after an answer; it doubles while
	// the other end stays silent, which is no fault of the relay.
	doubtFirst = 2 * time.Second
	doubtMost  = 30 * time.Second
	// urgentAfter is the shortest pause, whoever asks.
	urgentAfter = 500 * time.Millisecond
)

var errSilent = errors.New("the relay does not answer any more")

// answerDoubts asks the relay when data goes out and nothing comes back, and ends
// the allocation when it does not answer. Nothing else would tell: a UDP socket
// hears neither of a relay that was killed nor of a NAT that forgot us.
func (a *allocation) answerDoubts() {
	for pause := doubtFirst; ; {
		select {
		case <-a.doubt:
		case <-a.urgent:
		case <-a.done:
			return
		}
		asked := time.Now()
		if err := a.ask(); err != nil {
			a.fail(err)
			return
		}
		a.waiting.Store(0)
		poke(a.rebind) // it has the allocation; that it has the channel it does not say
		select {
		case <-a.doubt: // of before
		default:
		}
		if !a.sleep(urgentAfter) || !a.rest(pause-urgentAfter, asked) {
			return
		}
		if pause = min(2*pause, doubtMost); a.arrived.Load() > asked.UnixNano() {
			pause = doubtFirst
		}
	}
}

// ask is a Refresh: its answer proves that the allocation is there. Data that
// arrives meanwhile proves as much.
func (a *allocation) ask() error {
	cred, err := a.credential()
	if err != nil {
		return err
	}
	again := a.again()
	ctx, cancel := context.WithTimeout(context.Background(), askPauses*again)
	defer cancel()
	asked := time.Now()
	err = a.settle(ctx, cred, allocationLife, again)
	if err == nil || a.arrived.Load() > asked.UnixNano() {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errSilent
	}
	return err
}

// again is the pause before a question is sent a second time.
func (a *allocation) again() time.Duration { return min(max(2*a.trip, askLeast), max(askMost, a.trip)) }

// rest waits after a question that was answered: the other end is silent, and the
// relay is not to be asked about that all the time. When data has come since, a
// doubt is a new one and ends the rest. It reports false when the allocation has
// ended.
func (a *allocation) rest(d time.Duration, asked time.Time) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return true
		case <-a.doubt:
			if a.arrived.Load() > asked.UnixNano() {
				poke(a.doubt)
				return true
			}
		case <-a.urgent:
			poke(a.urgent)
			return true
		case <-a.done:
			return false
		}
	}
}
