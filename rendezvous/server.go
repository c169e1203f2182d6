package rendezvous

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/rendezvous/agents"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/client"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/identity"
	"github.com/tucdesk/tucdesk/rendezvous/lease"
	"github.com/tucdesk/tucdesk/rendezvous/logview"
	"github.com/tucdesk/tucdesk/rendezvous/metrics"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
	"github.com/tucdesk/tucdesk/rendezvous/requests"
	"github.com/tucdesk/tucdesk/rendezvous/rosters"
	"github.com/tucdesk/tucdesk/rendezvous/sessions"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// Deadlines and sizes of HTTP (attacks K1, K2, K4); our choice.
const (
	headerWithin  = 5 * time.Second  // TLS handshake and header
	requestWithin = 60 * time.Second // header and body
	replyWithin   = 60 * time.Second // handler and answer; above the longest wait
	idleWithin    = 90 * time.Second // a kept connection without calls
	stopWithin    = 10 * time.Second // calls under way, when the server stops
	maxHeader     = 32 << 10         // bytes
)

// Server is one rendezvous process.
type Server struct {
	cfg      Config
	log      *slog.Logger
	keys     *identity.Keys
	relay    credential.Secret
	audience string // what proofs must be made out to
	issuer   *principal.Issuer
	store    *store.Store
	bus      *bus.Bus
	gate     gate.Gate
	listener net.Listener
	http     *http.Server

	metrics  metrics.Counters
	teams    team.Teams
	leases   lease.Desk
	requests requests.Queue
	sessions sessions.Desk
	agents   agents.Desk
	rosters  rosters.Desk
	logs     logview.Desk

	base    context.Context // ends when the server closes; channels live in it
	stop    context.CancelCauseFunc
	calls   context.Context // ends when calls under way get no more time; each lives in it
	hurry   context.CancelFunc
	grace   time.Duration // stopWithin
	closing chan struct{} // closed first: waiting calls answer now
	close   sync.Once
	closed  error
	running sync.WaitGroup // whatever uses the database: calls, control channels, the sweep

	holding sync.Mutex // guards the start of what runs against Close
}

// Open loads the keys that Create made, opens the database and begins to listen.
// Run serves. After an error nothing is left open.
func Open(ctx context.Context, cfg Config) (*Server, error) {
	cfg = cfg.WithDefaults()
	s, err := prepare(cfg)
	if err != nil {
		return nil, err
	}
	if s.store, err = store.Open(ctx, cfg.Database); err != nil {
		return nil, err
	}
	s.compose()
	if err := s.listen(ctx); err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	if err := s.teams.List(ctx); err != nil {
		return nil, errors.Join(err, s.listener.Close(), s.store.Close())
	}
	return s, nil
}

// prepare makes a server of what is on the disk.
func prepare(cfg Config) (*Server, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	host, err := cfg.hostPort()
	if err != nil {
		return nil, err
	}
	k, err := identity.Load(cfg.State)
	if err != nil {
		return nil, err
	}
	secret, err := LoadRelaySecret(cfg.Relay.Secret)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, keys: k, relay: secret,
		audience: client.Audience(k.Access.ID(), host), issuer: principal.NewIssuer(k.Access), bus: bus.New(),
		grace: stopWithin, closing: make(chan struct{}),
	}
	s.base, s.stop = context.WithCancelCause(context.Background())
	s.calls, s.hurry = context.WithCancel(context.Background())
	s.http = s.newHTTP()
	return s, nil
}

// compose puts the parts of the server together, once there is a database.
func (s *Server) compose() {
	s.teams = team.Teams{Store: s.store, Keys: s.keys, Bus: s.bus, Metrics: &s.metrics, Log: s.log, Announce: s.agents.Announce}
	s.leases = lease.Desk{
		Store: s.store, Teams: &s.teams, Keys: s.keys, Metrics: &s.metrics, Log: s.log,
		Secret: s.relay, Endpoints: s.cfg.endpoints(), Lifetime: s.cfg.Relay.lifetime(), Sessions: rate.New[key.ID](rateSessions),
	}
	s.requests = requests.Queue{Store: s.store, Teams: &s.teams, Log: s.log, Closing: s.closing, Room: requests.MaxList}
	s.sessions = sessions.Desk{
		Store: s.store, Teams: &s.teams, Bus: s.bus, Keys: s.keys, Leases: &s.leases, Log: s.log,
		Denials: rate.New[key.ID](rateDenied), Pings: rate.New[key.ID](ratePings), Pinging: rate.NewPlaces[key.ID](sessions.MaxPinging),
	}
	s.agents = agents.Desk{
		Store: s.store, Teams: &s.teams, Bus: s.bus, Keys: s.keys, Leases: &s.leases, Metrics: &s.metrics, Log: s.log, Life: s.base,
		Arrivals: rate.New[key.ID](rateArrivals), Alarms: rate.New[key.ID](rateAlarms), Entries: rate.New[key.ID](rateEntries),
	}
	s.rosters = rosters.Desk{Store: s.store, Teams: &s.teams, Keys: s.keys, Offers: rate.New[rosters.Visit](rateOffers)}
	s.logs = logview.Desk{Store: s.store, Bus: s.bus, Log: s.log, Exports: make(chan struct{}, logview.MaxExports), Within: logview.CosignWithin}
	s.gate = gate.Gate{
		Routes: s.routes(), Store: s.store, Teams: &s.teams, Issuer: s.issuer, Audience: s.audience, Metrics: &s.metrics, Log: s.log, Hold: s.hold,
		Sources: rate.New[netip.Prefix](rateSource), Larges: rate.New[netip.Prefix](rateLarge),
		Rates: gate.Rates{
			Failures: rate.New[netip.Prefix](rateFailures), Tokens: rate.New[gate.Shown](rateReads), Readers: rate.New[gate.Reader](rateReaders),
			Operators: rate.New[key.ID](rateOperator), Logouts: rate.New[key.ID](rateLogouts),
		},
		Refusals: rate.New[key.ID](rateRefused), Large: make(chan struct{}, gate.MaxLarge),
		Rosters: rate.NewRoom[key.ID](gate.MaxProven, gate.MaxProvenEach), Bodies: rate.NewRoom[key.ID](gate.MaxProven, gate.MaxProvenEach),
	}
}

// Snapshot returns the counters since the start of the process: "answered",
// "refused_<code>" for every refusal of ours, "refused_by_agent", "panic", "registered",
// "displaced", "frames", and "connected", the agents there are now.
func (s *Server) Snapshot() map[string]uint64 {
	all := s.metrics.Snapshot()
	all["connected"] = uint64(s.bus.Len())
	return all
}

// newHTTP makes a server of HTTP/1.1 alone. Its callers make a few calls a minute
// or keep one channel open, so HTTP/2 would buy them nothing, and its resets,
// settings, pings and header compression are one more way to make a server work
// for strangers (attack K4).
func (s *Server) newHTTP() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           s,
		BaseContext:       func(net.Listener) context.Context { return s.calls },
		ReadHeaderTimeout: headerWithin,
		ReadTimeout:       requestWithin,
		WriteTimeout:      replyWithin,
		IdleTimeout:       idleWithin,
		MaxHeaderBytes:    maxHeader,
		Protocols:         protocols,
		TLSConfig: &tls.Config{
			MinVersion:             tls.VersionTLS13,
			Certificates:           []tls.Certificate{s.keys.TLS},
			NextProtos:             []string{"http/1.1"},
			SessionTicketsDisabled: true, // nothing to resume: connections are long, and every one proves the key
		},
		ErrorLog: log.New(quiet{s}, "", 0),
	}
}

// relayPath is hop.WebSocketPath: the one path that is not ours.
const relayPath = "/relay"

// ServeHTTP hands a request to the relay beside the server, or to the gate.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.cfg.RelayWeb != nil && r.RequestURI == relayPath { // exactly, as every path here
		s.cfg.RelayWeb.ServeHTTP(w, r) // limits and time are the relay's own
		return
	}
	s.gate.ServeHTTP(w, r)
}

// quiet counts what net/http complains of, which is what strangers send.
type quiet struct{ s *Server }

// Write implements io.Writer.
func (q quiet) Write(p []byte) (int, error) {
	q.s.metrics.Count("http_errors")
	return len(p), nil
}

func (s *Server) listen(ctx context.Context) error {
	s.listener = s.cfg.Listener
	if s.listener != nil {
		return nil
	}
	var err error
	// No TCP keep-alive: calls have deadlines, and control channels a heartbeat.
	tcp := net.ListenConfig{KeepAlive: -1}
	if s.listener, err = tcp.Listen(ctx, "tcp", s.cfg.Listen); err != nil {
		return fmt.Errorf("listening on %q: %w", s.cfg.Listen, err) // a taken port is told apart
	}
	return nil
}

// Addr returns the address the server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Keys returns the public keys that a roster must list for this server.
func (s *Server) Keys() wire.ServerKeys { return s.keys.Public() }

// Run serves until ctx ends, then closes the server. It returns nil after an
// orderly end.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(s.sweepUntilClosed)
	group.Go(func() error {
		err := s.http.ServeTLS(s.listener, "", "")
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serving: %v", err)
	})
	group.Go(func() error {
		<-ctx.Done()
		return s.Close()
	})
	return group.Wait()
}

// Close ends the server, in this order. It may be called more than once; every
// call returns when all is over.
//
//  1. Calls that wait for people answer with what they have.
//  2. Control channels are told and closed, and the sweep ends; agents keep their
//     sessions and dial again. New calls are refused.
//  3. No new connections; calls under way get stopWithin to end. Then their
//     contexts end and their connections are closed.
//  4. The last of all these returns: closing a connection ends no handler, and one
//     that has decided something must find the database to record it in.
//  5. What is still to be stored of agents that have left, with a limit.
//  6. The database, when nobody uses it any more.
func (s *Server) Close() error {
	s.close.Do(func() {
		close(s.closing)
		s.holding.Lock()
		s.stop(errStops)
		s.holding.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), s.grace)
		defer cancel()
		err := s.http.Shutdown(ctx)
		s.hurry()
		if err != nil {
			err = s.http.Close()
		}
		_ = s.listener.Close() // also when it was never served
		s.running.Wait()
		s.agents.Close()
		s.closed = errors.Join(err, s.store.Close())
	})
	return s.closed
}

// errStops is why control channels end with the server; agents are told, and both
// logs have it.
var errStops = refusal.New(refusal.Unavailable, "the server stops")

// hold takes whoever calls it among those that Close waits for, and refuses when
// the server closes.
func (s *Server) hold() (end func(), err error) {
	s.holding.Lock()
	defer s.holding.Unlock()
	if s.base.Err() != nil {
		return nil, refusal.New(refusal.Unavailable, "the server is closing")
	}
	s.running.Add(1)
	return s.running.Done, nil
}

// OpenRelaySecret reads the secret that a relay in the same process shares with
// this server.
func (c Config) OpenRelaySecret() (credential.Secret, error) {
	return LoadRelaySecret(c.WithDefaults().Relay.Secret)
}

// OpenCertificate reads the server's TLS key with its certificate, for the relay
// beside it.
func (c Config) OpenCertificate() (tls.Certificate, error) {
	k, err := identity.Load(c.State)
	if err != nil {
		return tls.Certificate{}, err
	}
	return k.TLS, nil
}
