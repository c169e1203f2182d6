package link

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/hop"
)

// fullRelay is a relay with every transport, which can be killed and started
// again.
type fullRelay struct {
	testRelay
	t    testing.TB
	cfg  relay.Config
	all  wire.RelayEndpoint
	kill func()
}

func startFull(t testing.TB, secret credential.Secret) *fullRelay {
	t.Helper()
	id, err := hop.New()
	if err != nil {
		t.Fatal(err)
	}
	any := netip.MustParseAddrPort("127.0.0.1:0")
	r := &fullRelay{t: t, testRelay: testRelay{secret: secret}, cfg: relay.Config{
		UDP: any, TCP: any, TLS: any, DTLS: any, Identity: id, WebSocket: true, Secret: secret,
		Limits: relay.Limits{ControlPerSecond: 1 << 20, ControlTotal: 1 << 20},
	}}
	r.start()
	at := r.server.Addrs()
	r.cfg.UDP, r.cfg.TCP, r.cfg.TLS, r.cfg.DTLS = at.UDP, at.TCP, at.TLS, at.DTLS
	r.udp, r.tcp = at.UDP.String(), at.TCP.String()
	r.all = wire.RelayEndpoint{
		UDP: at.UDP.String(), TCP: at.TCP.String(), TLS: at.TLS.String(), DTLS: at.DTLS.String(),
		WebSocket: at.TLS.String(), Key: key.Hash(id.Pin()),
	}
	t.Cleanup(func() { r.kill() })
	return r
}

// start serves, at the same addresses as before. kill ends it as a crash does
// for the other end: no farewell over UDP.
func (r *fullRelay) start() {
	r.t.Helper()
	s, err := relay.Start(r.t.Context(), r.cfg)
	if r.server != nil { // another program may have got one of the ports meanwhile, for a while
		until(r.t, "the same addresses", func() bool {
			if err != nil {
				s, err = relay.Start(r.t.Context(), r.cfg)
			}
			return err == nil
		})
	}
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r.server = s
	over := false
	r.kill = func() {
		if over {
			return
		}
		over = true
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("relay: %v", err)
		}
	}
}

// only is the endpoint with nothing but one kind.
func (r *fullRelay) only(k Kind) wire.RelayEndpoint {
	e := wire.RelayEndpoint{Key: r.all.Key}
	switch k {
	case RelayUDP:
		e.UDP = r.all.UDP
	case RelayTCP:
		e.TCP = r.all.TCP
	case RelayTLS:
		e.TLS = r.all.TLS
	case RelayDTLS:
		e.DTLS = r.all.DTLS
	case RelayWebSocket:
		e.WebSocket = r.all.WebSocket
	}
	return e
}

// open tries again where a relay had no processor for as long as a race may take, and only
// there.
func open(t testing.TB, cfg Config) *Link {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	l, err := Open(ctx, cfg)
	for err != nil && time.Since(began) >= perRelay && ctx.Err() == nil {
		began = time.Now()
		l, err = Open(ctx, cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// drain reads from a link until the test ends, so that its readers go on, and
// counts what came by which relay.
func drain(t testing.TB, l *Link) *counts {
	c := &counts{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			batch, err := l.ReadBatch(ctx)
			if err != nil {
				return
			}
			for _, d := range batch {
				c.n[d.Via.Relay].Add(1)
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

// slack is what a busy machine may add to what is measured here by the clock. Without what
// these tests are about it would be minutes.
const slack = 20 * time.Second

// writing writes every few milliseconds until something is so.
func writing(t testing.TB, what string, ok func() bool, write func()) time.Duration {
	t.Helper()
	began := time.Now()
	until(t, what, func() bool {
		write()
		<-time.After(5 * time.Millisecond)
		return ok()
	})
	return time.Since(began)
}
