package rendezvous

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

var testPin = strings.Repeat("5c", 32)

// Both ends of a session, and each of their renewals, are told of the same relays in
// the same order: they meet where both have allocated, and begin with the first.
func TestBothEndsAreToldOfTheSameRelays(t *testing.T) {
	t.Parallel()
	relays := []External{
		{UDP: "r2.example:3478", TCP: "r2.example:3478", TLS: "r2.example:5349", DTLS: "r2.example:5349", WebSocket: "r2.example:443", Key: testPin},
		{UDP: "r1.example:3478"},
		{WebSocket: "r3.example:443", Key: testPin},
	}
	c := found(t, startNodeWith(t, func(cfg *Config) { cfg.Endpoints = relays }))
	var want []wire.RelayEndpoint
	pin := must(key.ParseID(testPin))
	want = append(want, wire.RelayEndpoint{UDP: "r2.example:3478", TCP: "r2.example:3478", TLS: "r2.example:5349", DTLS: "r2.example:5349", WebSocket: "r2.example:443", Key: pin},
		wire.RelayEndpoint{UDP: "r1.example:3478"}, wire.RelayEndpoint{WebSocket: "r3.example:443", Key: pin})
	for range 3 {
		g := c.granted("web-" + wire.NewSessionID().String()[:8])
		grant, _, err := statement.Open[wire.Grant](g.offer.Grant, c.state.FindGrant)
		if err != nil {
			t.Fatal(err)
		}
		for name, got := range map[string][]wire.RelayEndpoint{"agent": grant.Relay.Endpoints, "operator": g.reply.Relay.Endpoints,
			"agent later": must(g.renewAs(g.host, g.offer.Lease.Ticket)).Relay.Endpoints, "operator later": must(g.renew()).Relay.Endpoints} {
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v", name, got)
			}
		}
	}
}

func TestRelaysThatCannotBeMeantAreRefused(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]External{
		"nothing":       {},
		"a key alone":   {Key: testPin},
		"no port":       {UDP: "r.example"},
		"no key":        {TLS: "r.example:5349"},
		"no key either": {UDP: "r.example:1", WebSocket: "r.example:443"},
		"short key":     {DTLS: "r.example:5349", Key: testPin[2:]},
		"no hex":        {DTLS: "r.example:5349", Key: "x" + testPin[1:]},
	} {
		cfg := Config{Name: "rv1", URL: "https://rv.example", State: t.TempDir(), Relay: Relay{External: []External{x}}}
		if err := cfg.Check(); refusal.Of(err) != refusal.BadRequest || !strings.Contains(err.Error(), "relay.external 1") {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := make([]External, wire.MaxRelayEndpoints+1)
	for i := range many {
		many[i].UDP = "r.example:1"
	}
	cfg := Config{Name: "rv1", URL: "https://rv.example", State: t.TempDir(), Relay: Relay{External: many}}
	wantCode(t, cfg.Check(), refusal.TooMany)
	for secure, ok := range map[string]bool{"": true, "off": true, ":5349": true, "5349": false, "on": false} {
		cfg.Relay = Relay{Secure: secure}
		if err := cfg.Check(); (err == nil) != ok {
			t.Errorf("secure %q: %v", secure, err)
		}
	}
}

// The relay's path on this server's port is that path and no other spelling of it.
func TestD9RelayPathIsExact(t *testing.T) {
	t.Parallel()
	n := startNodeWith(t, func(cfg *Config) {
		cfg.RelayWeb = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	})
	a := attack(t, n)
	for target, status := range map[string]int{relayPath: 418, "/relay/": 404, "/%72elay": 400, "//relay": 400, "/RELAY": 404, "/relay;x": 400, "/./relay": 400} {
		if got := a.send(forged{method: "GET", target: target}); got.status != status {
			t.Errorf("%s: %d, want %d", target, got.status, status)
		}
	}
}
