package link

import (
	"context"
	"time"

	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
)

// When a credential is renewed, as parts of its life; our choice. With an hour
// that is 40 minutes in, every 150 seconds from then on, and people hear of it
// when ten minutes are left.
const (
	renewAfter = 3  // asked for with a third left
	renewAgain = 24 // every 24th, until it works
	renewWarn  = 6  // told with a sixth left
)

// renewLimit bounds one attempt; our choice.
const renewLimit = 20 * time.Second

// Keep sees to it that a credential is renewed in time. It calls renew, which
// gets the next credential into use and returns the lease of that, until ctx
// ends, until the session may not go on (a lease without a ticket), or until the
// credential has run out. While renew keeps failing, failing is called once for
// that credential, before it has run out, with how much time is left. The caller
// joins Keep like any child.
func Keep(ctx context.Context, lease wire.Lease, renew func(context.Context, wire.Lease) (wire.Lease, error), failing func(left time.Duration, err error)) {
	for arrived := time.Now(); lease.Ticket != nil; {
		life := clamp(time.Duration(lease.Lifetime) * time.Millisecond)
		end := arrived.Add(life)
		next, told := end.Add(-life/renewAfter), false
		for renewed := false; !renewed; {
			if !sleep(ctx, min(time.Until(next), time.Until(end))) || !time.Now().Before(end) {
				return
			}
			next = time.Now().Add(life / renewAgain)
			began := time.Now()
			fresh, err := renewOnce(ctx, end, lease, renew)
			left := time.Until(end)
			switch {
			case err == nil:
				lease, arrived, renewed = fresh, began, true
			case ctx.Err() == nil && !told && left <= life/renewWarn:
				told = true
				failing(max(left, 0), err)
			}
		}
	}
}

// clamp keeps a server from making us spin, or from being asked never.
func clamp(life time.Duration) time.Duration {
	return min(max(life, time.Second), credential.MaxLifetime)
}

func renewOnce(ctx context.Context, end time.Time, lease wire.Lease, renew func(context.Context, wire.Lease) (wire.Lease, error)) (wire.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, min(renewLimit, time.Until(end)))
	defer cancel()
	return renew(ctx, lease)
}

// sleep reports false when ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
