package rendezvous

import (
	"crypto/rand"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
)

// checkLifetime of a credential for checking relays; our choice: a check takes
// seconds, and a stolen one is worth nothing soon.
const checkLifetime = 2 * time.Minute

// checkRelays gives a credential with which one end can find out which relays and
// transports it reaches (protocol 6.2). It is of a fresh pair whose other side
// nobody ever gets, so nothing can be sent to anybody with it. A check costs the
// relays what a session does, and counts as one.
func (s *Server) checkRelays(c *gate.Call) (any, error) {
	if !s.sessions.Allow(c.Who.Operator, c.Now) {
		return nil, refusal.New(refusal.RateLimited, "too many checks and sessions with this key; wait a moment")
	}
	var pair credential.Pair
	rand.Read(pair[:])
	s.metrics.Count("relay_check")
	s.log.Info("a credential to check relays", "operator", c.Who.Operator.String(), "request", c.ID)
	return wire.RelayChecked{Relay: s.relayOf(credential.Mint(s.relay, pair, credential.Operator, c.Now, checkLifetime))}, nil
}
