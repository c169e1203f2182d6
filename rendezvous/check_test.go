package rendezvous

import (
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/rendezvous/lease"
)

func TestCredentialForCheckingRelaysReachesNobody(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	c := found(t, n)
	seen := map[credential.Pair]bool{}
	for range 3 {
		r, err := c.api.CheckRelays(t.Context(), c.cred(policy.Viewer))
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		name, err := credential.Check(r.Relay.Username, now)
		if err != nil || name.Role != credential.Operator || name.Expires.Sub(now) > lease.CheckLifetime || seen[name.Pair] {
			t.Errorf("%v, %v, seen %v", name, err, seen[name.Pair])
		}
		if string(credential.Password(n.relay, r.Relay.Username)) != string(r.Relay.Password) || len(r.Relay.Endpoints) != len(n.cfg.Endpoints) {
			t.Error("not a credential that relays take")
		}
		seen[name.Pair] = true
	}
	if got := n.Snapshot()["relay_check"]; got != 3 {
		t.Errorf("counted %d", got)
	}
}

func TestK10ChecksOfRelaysHaveARate(t *testing.T) {
	t.Parallel()
	c := found(t, startNodeWith(t, nil, fewSessions))
	var err error
	for range int(few.Burst) + 1 {
		if _, err = c.api.CheckRelays(t.Context(), c.cred(policy.Viewer)); err != nil {
			break
		}
	}
	if refusal.Of(err) != refusal.RateLimited {
		t.Errorf("a flood ended with %v", err)
	}
	if _, err := c.api.CheckRelays(t.Context(), c.cred(policy.Admin)); err != nil {
		t.Errorf("somebody else: %v", err)
	}
}

func TestServerTellsTheTimeToWhoeverAsks(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	server, here, err := found(t, n).api.Clock(t.Context())
	if err != nil || here.Sub(server).Abs() > time.Minute {
		t.Errorf("%v and %v, %v", server, here, err)
	}
}
