package remote

import (
	"context"
	"slices"
	"sync"

	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/proxies"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
)

// relaysFile keeps the relays of the last session. They are a hint: the way to
// them takes up to four round trips, as many as asking the server for a session,
// so the two go on at the same time. A relay that the answer does not name gets
// nothing of the session (link.Begin).
const (
	relaysFile    = "relays.json"
	maxRelaysFile = 16 << 10
)

// lastRelays returns none for a file that is missing or damaged.
func lastRelays(home account.Home) []wire.RelayEndpoint {
	var list []wire.RelayEndpoint
	if home.ReadJSON(relaysFile, maxRelaysFile, &list) != nil || len(list) > wire.MaxRelayEndpoints {
		return nil
	}
	return list
}

// keepRelays writes only what is new.
func keepRelays(home account.Home, list []wire.RelayEndpoint) {
	if !slices.Equal(list, lastRelays(home)) {
		_ = home.WriteJSON(relaysFile, list) // a hint that is lost is learnt again
	}
}

// dialAhead begins the link of a session that is about to be asked for.
func dialAhead(a *account.Account, w want) *link.Link {
	return link.Begin(link.Config{
		Relay: wire.Relay{Endpoints: lastRelays(a.Home)}, Direct: true, Map: !w.noMap, Proxy: proxies.Environment().Choose(), Remember: networksIn(a.Home),
	})
}

// dialThrough opens the session as soon as a relay has been asked for a place. So
// the grant and the machine's answer take one round trip together, and a refusal
// of the relays ends the wait for the machine. It takes ways and the keys over.
func dialThrough(ctx context.Context, ways *link.Link, relay wire.Relay, cfg session.DialConfig) (*session.Conn, error) {
	if err := ways.Use(ctx, relay); err != nil {
		cfg.Keys.Erase()
		_ = ways.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var proof sync.WaitGroup
	proof.Go(func() {
		if err := ways.Proven(ctx); err != nil {
			cancel(err)
		}
	})
	cfg.Link = ways
	conn, err := session.Dial(ctx, cfg)
	refused := context.Cause(ctx)
	cancel(nil)
	proof.Wait()
	if err != nil && refusal.Of(refused) == refusal.RelayFailed {
		return nil, refused
	}
	return conn, err
}
