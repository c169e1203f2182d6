package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/internal/udp"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
	"github.com/tucdesk/tucdesk/relay/hop"
)

// sweepEvery is how often expired and idle allocations are looked for. A
// credential may therefore be used that much past its expiry; our choice.
const sweepEvery = 2 * time.Second

// socketBuffer is what we ask the system for, in bytes: at 10 Gbit/s some
// milliseconds of pause. Our choice.
const socketBuffer = 4 << 20

// Server is one relay. Start makes it, Run serves until it is told to end.
type Server struct {
	cfg     Config
	secrets atomic.Pointer[[2]credential.Secret] // current, previous
	table   *table
	nonces  nonces
	sources *sources
	metrics metrics
	drops   guard.Stats
	ports   atomic.Uint32 // synthetic ports handed out

	sock   *udp.Conn       // nil without UDP
	front  *front          // of sock
	gate   *guard.Gate     // places for connections, of all transports but UDP
	plain  *guard.Listener // nil without TCP
	tls    *guard.Listener // nil without TLS
	tlsCfg *tls.Config
	web    *web          // nil without WebSockets on the TLS address
	dtls   *hop.Listener // nil without DTLS
	shaken hop.Stats     // of dtls

	life   context.Context // ends with closed
	stop   context.CancelFunc
	closed chan struct{}
	once   sync.Once

	mu      sync.Mutex           // guards streams and stopped
	streams map[*stream]struct{} // open stream connections
	stopped bool                 // no further streams
	conns   sync.WaitGroup       // their goroutines
}

// Start checks cfg and binds its addresses; ctx bounds that work only. Nothing
// is served before Run.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, table: newTable(cfg.Limits), nonces: newNonces(), sources: newSources(cfg.Limits),
		gate:   guard.NewGate(cfg.Limits.Connections, cfg.Limits.ConnectionsPerSource),
		closed: make(chan struct{}), streams: make(map[*stream]struct{}),
	}
	s.secrets.Store(&[2]credential.Secret{cfg.Secret, cfg.PreviousSecret})
	s.life, s.stop = context.WithCancel(context.Background())
	if err := s.listen(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("starting relay: %w", err)
	}
	return s, nil
}

func (s *Server) listen(ctx context.Context) (err error) {
	cfg := &s.cfg
	if cfg.UDP.IsValid() {
		if s.sock, err = listenUDP(cfg.UDP); err != nil {
			return err
		}
		s.front = newFront(s, net.UDPAddrFromAddrPort(s.sock.LocalAddr()), nil)
	}
	if cfg.TCP.IsValid() {
		if s.plain, err = s.listenTCP(ctx, cfg.TCP); err != nil {
			return err
		}
	}
	if cfg.TLS.IsValid() {
		if s.tls, err = s.listenTCP(ctx, cfg.TLS); err != nil {
			return err
		}
		s.tlsCfg = cfg.Identity.ServerTLS(hop.ProtoTURN)
		if cfg.WebSocket {
			s.tlsCfg = cfg.Identity.ServerTLS(hop.ProtoTURN, hop.ProtoHTTP)
			s.web = newWeb(s)
		}
	}
	if cfg.DTLS.IsValid() {
		sock, err := listenUDP(cfg.DTLS)
		if err != nil {
			return err
		}
		if s.dtls, err = hop.Listen(sock, hop.ListenerOptions{Identity: cfg.Identity, Enter: s.gate.Enter, Take: s.takeHello, Stats: &s.shaken}); err != nil {
			return errors.Join(err, sock.Close())
		}
	}
	return nil
}

func listenUDP(addr netip.AddrPort) (*udp.Conn, error) {
	return udp.Listen(addr, udp.Options{ReadBuffer: socketBuffer, WriteBuffer: socketBuffer})
}

// listenTCP turns TCP's keep-alive off: every connection has an idle limit.
func (s *Server) listenTCP(ctx context.Context, addr netip.AddrPort) (*guard.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	l, err := lc.Listen(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return guard.NewListener(l, guard.ListenerOptions{Gate: s.gate, Stats: &s.drops}), nil
}

// takeHello judges the rate at which a source begins DTLS handshakes. It earns no
// credit for answers with it: the listener keeps its own account.
func (s *Server) takeHello(from netip.Addr, _ int) bool {
	return s.sources.take(from, 0, time.Now())
}

// Run serves until ctx ends or Close is called, then closes everything and
// returns when its goroutines are gone. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if s.sock != nil {
		if err := s.front.serve(); err != nil {
			s.Close()
			return err
		}
		loops.Go(s.serveDatagrams)
	}
	for _, l := range []struct {
		on   bool
		loop func()
	}{
		{s.plain != nil, s.acceptPlain}, {s.tls != nil, s.acceptTLS}, {s.web != nil, s.serveWeb}, {s.dtls != nil, s.serveDTLS}, {true, s.sweep},
	} {
		if l.on {
			loops.Go(l.loop)
		}
	}
	at := s.Addrs()
	s.cfg.Logger.Info("relay serving", "udp", shown(at.UDP), "tcp", shown(at.TCP), "tls", shown(at.TLS), "dtls", shown(at.DTLS),
		"websocket_on_tls", s.web != nil, "lab", s.cfg.Lab != nil)
	<-s.closed
	err := s.Close() // waits for the one under way
	loops.Wait()
	s.conns.Wait()
	if s.sock != nil {
		<-s.front.left
	}
	for _, a := range s.table.all() {
		_ = a.relayed.end() // whatever pion has not let go of yet
	}
	return err
}

// Close stops the relay and unblocks Run, which does the waiting. It may be
// called more than once, and without Run.
func (s *Server) Close() error {
	var errs []error
	s.once.Do(func() {
		close(s.closed) // 1. loops see the end
		s.stop()
		for _, l := range []*guard.Listener{s.plain, s.tls} {
			if l != nil {
				errs = append(errs, l.Close()) // 2. no new streams
			}
		}
		if s.web != nil {
			errs = append(errs, s.web.Close())
		}
		if s.dtls != nil {
			errs = append(errs, s.dtls.Close())
		}
		if s.sock != nil {
			errs = append(errs, s.sock.Close()) // 3. no new datagrams
			s.front.Close()                     // 4. pion lets go of its allocations
		}
		s.closeStreams() // 5. each ends its own pion instance
	})
	return errors.Join(errs...)
}

// Addrs are the addresses a relay listens on, the zero AddrPort where it does not.
type Addrs struct{ UDP, TCP, TLS, DTLS netip.AddrPort }

// Addrs returns the addresses the relay listens on.
func (s *Server) Addrs() (a Addrs) {
	if s.sock != nil {
		a.UDP = s.sock.LocalAddr()
	}
	if s.dtls != nil {
		a.DTLS = s.dtls.Addr()
	}
	a.TCP, a.TLS = tcpAddr(s.plain), tcpAddr(s.tls)
	return a
}

func tcpAddr(l *guard.Listener) netip.AddrPort {
	if l == nil {
		return netip.AddrPort{}
	}
	a, _ := l.Addr().(*net.TCPAddr)
	return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
}

// Addr returns the addresses for UDP and TCP; see Addrs.
func (s *Server) Addr() (udpAddr, tcpAddr netip.AddrPort) {
	a := s.Addrs()
	return a.UDP, a.TCP
}

// Rotate makes next the current secret and the current one the previous, and
// reports that. It does nothing if next is the current one. Running allocations
// stay. It panics without a secret.
func (s *Server) Rotate(next credential.Secret) bool {
	if next.IsZero() {
		panic("relay: internal error: rotation to no secret")
	}
	for {
		old := s.secrets.Load()
		if next.Equal(old[0]) {
			return false
		}
		if s.secrets.CompareAndSwap(old, &[2]credential.Secret{next, old[0]}) {
			return true
		}
	}
}

// sweep ends allocations whose credential has expired or that carry no data.
func (s *Server) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.closed:
			return
		case now := <-tick.C:
			expired, lapsed, idle := s.table.sweep(now)
			s.closeAll(expired, evExpired)
			s.closeAll(lapsed, evLapsed)
			s.closeAll(idle, evIdle)
		}
	}
}

func (s *Server) closeAll(list []*allocation, e event) {
	for _, a := range list {
		if s.table.remove(a) {
			s.metrics.count(e)
			s.metrics.count(evEnded)
			a.front.release(a)
		}
	}
}

// refused counts and logs a user name that was not taken. At debug level: a
// stranger can cause any number of them.
func (s *Server) refused(username string, from netip.AddrPort, err error) {
	e := evStaleUser
	if errors.Is(err, credential.ErrMalformed) {
		e = evBadUser
	}
	s.metrics.count(e)
	s.cfg.Logger.Debug("credential refused", "user", escaped(username), "from", from.String(), "reason", err.Error())
}

// shown is an address for the log; "off" where nothing listens.
func shown(a netip.AddrPort) string {
	if !a.IsValid() {
		return "off"
	}
	return a.String()
}
