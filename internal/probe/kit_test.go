package probe

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
	"github.com/tucdesk/tucdesk/relay/hop"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second // bounds every wait of a test

type testRelay struct {
	server *relay.Server
	secret credential.Secret
	ways   map[link.Kind]Way
}

func startRelay(t *testing.T) *testRelay {
	t.Helper()
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	secret := credential.NewSecret()
	id, err := hop.New()
	if err != nil {
		t.Fatal(err)
	}
	s, err := relay.Start(t.Context(), relay.Config{
		UDP: loopback, TCP: loopback, TLS: loopback, DTLS: loopback, Identity: id, WebSocket: true, Secret: secret, Limits: relay.Limits{ControlPerSecond: 1 << 20, ControlTotal: 1 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("relay: %v", err)
		}
	})
	a, pin := s.Addrs(), key.Hash(id.Pin())
	r := &testRelay{server: s, secret: secret, ways: map[link.Kind]Way{}}
	for k, at := range map[link.Kind]netip.AddrPort{link.RelayUDP: a.UDP, link.RelayTCP: a.TCP, link.RelayTLS: a.TLS, link.RelayDTLS: a.DTLS, link.RelayWebSocket: a.TLS} {
		r.ways[k] = Way{Kind: k, Addr: at.String(), Key: pin}
	}
	return r
}

func (r *testRelay) credential() wire.Relay {
	o, _ := credential.MintPair(r.secret, time.Now(), time.Minute)
	return wire.Relay{Username: o.Username, Password: o.Password}
}

// between puts a network before the relay that may change or lose what the relay
// sends, and returns its address.
func between(t *testing.T, relay string, edit func(guard.Type, []byte) bool) string {
	t.Helper()
	near, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	far, err := net.Dial("udp4", relay)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var client net.Addr // guarded by mu
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := near.ReadFrom(buf)
			if err != nil {
				return
			}
			mu.Lock()
			client = from
			mu.Unlock()
			_, _ = far.Write(buf[:n])
		}
	})
	wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, err := far.Read(buf)
			if err != nil {
				return
			}
			mu.Lock()
			to := client
			mu.Unlock()
			if edit(guard.TypeOf(buf[:n]), buf[:n]) {
				_, _ = near.WriteTo(buf[:n], to)
			}
		}
	})
	t.Cleanup(func() { near.Close(); far.Close(); wg.Wait() })
	return near.LocalAddr().String()
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick, end := time.NewTicker(time.Millisecond), time.After(patience)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
