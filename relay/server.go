package relay

import (
	"context"
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
	sources *sources
	metrics metrics
	drops   guard.Stats
	ports   atomic.Uint32 // synthetic ports handed out

	sock     *udp.Conn       // nil without UDP
	front    *front          // of sock
	listener *guard.Listener // nil without TCP

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
		cfg: cfg, table: newTable(cfg.Limits), sources: newSources(cfg.Limits),
		closed: make(chan struct{}), streams: make(map[*stream]struct{}),
	}
	s.secrets.Store(&[2]credential.Secret{cfg.Secret, cfg.PreviousSecret})
	if cfg.UDP.IsValid() {
		s.sock, err = udp.Listen(cfg.UDP, udp.Options{ReadBuffer: socketBuffer, WriteBuffer: socketBuffer})
		if err != nil {
			return nil, fmt.Errorf("starting relay: %w", err)
		}
		s.front = newFront(s, net.UDPAddrFromAddrPort(s.sock.LocalAddr()), nil)
	}
	if cfg.TCP.IsValid() {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", cfg.TCP.String())
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("starting relay: %w", err)
		}
		s.listener = guard.NewListener(l, guard.ListenerOptions{
			MaxConns: cfg.Limits.Connections, MaxPerSource: cfg.Limits.ConnectionsPerSource, Stats: &s.drops,
		})
	}
	return s, nil
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
	if s.listener != nil {
		loops.Go(s.acceptStreams)
	}
	loops.Go(s.sweep)
	udpAddr, tcpAddr := s.Addr()
	s.cfg.Logger.Info("relay serving", "udp", udpAddr.String(), "tcp", tcpAddr.String(), "lab", s.cfg.Lab != nil)
	<-s.closed
	loops.Wait()
	s.conns.Wait()
	return nil
}

// Close stops the relay and unblocks Run, which does the waiting. It may be
// called more than once, and without Run.
func (s *Server) Close() error {
	var err error
	s.once.Do(func() {
		close(s.closed) // 1. loops see the end
		if s.listener != nil {
			err = s.listener.Close() // 2. no new streams
		}
		if s.sock != nil {
			err = errors.Join(err, s.sock.Close()) // 3. no new datagrams
			s.front.Close()                        // 4. pion lets go of its allocations
		}
		s.closeStreams() // 5. each ends its own pion instance
		for _, a := range s.table.all() {
			a.relayed.Close() // 6. whatever pion has not let go of yet
		}
	})
	return err
}

// Addr returns the addresses the relay listens on; the zero AddrPort where it
// does not.
func (s *Server) Addr() (udpAddr, tcpAddr netip.AddrPort) {
	if s.sock != nil {
		udpAddr = s.sock.LocalAddr()
	}
	if s.listener != nil {
		if a, ok := s.listener.Addr().(*net.TCPAddr); ok {
			tcpAddr = netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
		}
	}
	return udpAddr, tcpAddr
}

// Rotate makes next the current secret and the current one the previous. Running
// allocations stay.
func (s *Server) Rotate(next credential.Secret) {
	for {
		old := s.secrets.Load()
		if s.secrets.CompareAndSwap(old, &[2]credential.Secret{next, old[0]}) {
			return
		}
	}
}

// End closes both allocations of a session that is over and refuses the pair's
// credentials from then on. It is for a rendezvous in the same process; other
// relays wait for the credentials to expire.
func (s *Server) End(p credential.Pair) {
	for _, a := range s.table.end(p, time.Now()) {
		a.relayed.Close()
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
			expired, idle := s.table.sweep(now)
			s.closeAll(expired, evExpired)
			s.closeAll(idle, evIdle)
		}
	}
}

func (s *Server) closeAll(list []*allocation, e event) {
	for _, a := range list {
		s.metrics.count(e)
		a.relayed.Close()
	}
}

// refused counts and logs a user name that was not taken. At debug level: a
// stranger can cause any number of them.
func (s *Server) refused(username string, from netip.AddrPort, err error) {
	e, reason := evStaleUser, "session has ended"
	if err != nil {
		reason = err.Error()
	}
	if errors.Is(err, credential.ErrMalformed) {
		e = evBadUser
	}
	s.metrics.count(e)
	s.cfg.Logger.Debug("credential refused", "user", escaped(username), "from", from.String(), "reason", reason)
}
