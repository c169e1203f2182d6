package rendezvous

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/rendezvous/sessions"
)

func (c *crew) ping(p *person, h *host) wire.SessionOpen {
	return c.request(p, h, func(r *wire.Request) { r.Action = wire.Ping })
}

// TestB18PingsHaveARateOfTheirOwn: they need no approval, so they must not be a way
// to keep agents and relays busy; and they cost nobody a session.
func TestB18PingsHaveARateOfTheirOwn(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, n *node) {
		c := found(t, n)
		n.sessions.Pings = rate.New[key.ID](rate.Rate{PerSecond: 0.001, Burst: 3})
		h := c.newHost("web-1").accepting()
		op, other := c.people[policy.Operator], c.people[policy.Admin]
		for range 3 {
			reply := must(c.api.OpenSession(t.Context(), op.cred, c.ping(op, h)))
			if left := time.Until(reply.Relay.ExpiresAt.Time()); left > sessions.PingLife || reply.Lease.Ticket != nil {
				t.Errorf("a ping has a relay for %v, and a ticket of %d bytes", left, len(reply.Lease.Ticket))
			}
		}
		_, err := c.api.OpenSession(t.Context(), op.cred, c.ping(op, h))
		wantCode(t, err, refusal.RateLimited)
		wantStatus(t, err, 429)
		must(c.api.OpenSession(t.Context(), op.cred, c.request(op, h, nil)))
		must(c.api.OpenSession(t.Context(), other.cred, c.ping(other, h)))
	})
}

// TestN9DeniedSessionsFillNoLog: whoever is in the roster can be denied as often as he
// likes, and the log is kept. What an entry about that holds is bounded, and so is how
// many there are.
func TestN9DeniedSessionsFillNoLog(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	c.node.sessions.Denials = rate.New[key.ID](rate.Rate{PerSecond: 0.001, Burst: 3})
	vault := c.newHost("vault-1", "vault")
	vault.dial()
	op := c.people[policy.Operator]
	for range 6 {
		_, err := c.api.OpenSession(t.Context(), op.cred, c.request(op, vault, func(r *wire.Request) {
			r.Params.Argv = append(r.Params.Argv, bytes.Repeat([]byte("x"), 30<<10))
		}))
		wantCode(t, err, refusal.PolicyDenied)
	}
	noted := 0
	for _, e := range c.entries() {
		if e.Type != entry.SessionDeny {
			continue
		}
		noted++
		size := 0
		for _, a := range e.Command.Argv {
			size += len(a)
		}
		if size > 2<<10 || size == 0 || !e.Command.Cut {
			t.Errorf("an entry holds %d bytes of arguments, cut: %v", size, e.Command.Cut)
		}
	}
	if noted != 3 {
		t.Errorf("%d of 6 are in the log", noted)
	}
}

// TestH8PingsAtOnceAreBounded: an operator's pings that agents leave unanswered.
func TestH8PingsAtOnceAreBounded(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1").accepting()
	quiet := c.newHost("web-2") // it is connected and says nothing
	quiet.dial()
	op := c.people[policy.Operator]
	var waiting sync.WaitGroup
	for range sessions.MaxPinging {
		waiting.Go(func() {
			_, _ = c.api.OpenSession(t.Context(), op.cred, c.ping(op, quiet))
		})
	}
	eventually(t, "all are under way", func() bool {
		leave, ok := c.node.sessions.Pinging.Enter(op.key.ID())
		if ok {
			leave()
		}
		return !ok
	})
	_, err := c.api.OpenSession(t.Context(), op.cred, c.ping(op, h))
	wantCode(t, err, refusal.TooMany)
	must(c.api.OpenSession(t.Context(), op.cred, c.request(op, h, nil)))
	quiet.ctl.Close() // which answers for it
	waiting.Wait()
	must(c.api.OpenSession(t.Context(), op.cred, c.ping(op, h)))
}
