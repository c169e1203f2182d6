package relay

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/relay/guard"
	"github.com/tucdesk/tucdesk/relay/hop"
)

// Limits of the HTTP server on the TLS address; our choice. A request that becomes
// a WebSocket has some 500 bytes.
const (
	maxRequest    = 8 << 10 // bytes of a request's head
	requestWithin = guard.FirstFrameTimeout
)

// WebSocket returns the handler that upgrades requests and serves the relay's
// frames on them (protocol 6.5). It is for an HTTPS server beside the relay, which
// mounts it at hop.WebSocketPath; the connections take places as all others do.
// The server's own key is what clients pin. Requests come from programs only: one
// with an Origin comes from a web page, and is refused.
func (s *Server) WebSocket() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
			return
		}
		leave, ok := s.gate.Enter(from.Addr())
		if !ok {
			s.drops.Count(guard.TooManyConns)
			http.Error(w, "too many connections", http.StatusServiceUnavailable)
			return
		}
		defer leave()
		s.upgrade(w, r)
	})
}

// upgrade is WebSocket for a connection that has a place.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	conn, err := hop.AcceptWebSocket(w, r)
	if err != nil {
		s.metrics.count(evUpgrade)
		return
	}
	_ = s.serveStream(conn)
}

// onlyUpgrade is the whole of what the TLS address answers.
func (s *Server) onlyUpgrade(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.RequestURI != hop.WebSocketPath: // as it was sent: an escaped path is another one
		http.NotFound(w, r)
	case r.Method != http.MethodGet:
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
	default:
		s.upgrade(w, r)
	}
}

// web is the HTTP server on the TLS address: one path, nothing else.
type web struct {
	http.Server
	queue connQueue
}

func newWeb(s *Server) *web {
	w := &web{Server: http.Server{
		Handler:           http.HandlerFunc(s.onlyUpgrade),
		ReadHeaderTimeout: requestWithin,
		ReadTimeout:       requestWithin,
		WriteTimeout:      requestWithin,
		IdleTimeout:       time.Second,
		MaxHeaderBytes:    maxRequest,
		ErrorLog:          log.New(io.Discard, "", 0), // what strangers send
	}}
	w.SetKeepAlivesEnabled(false) // nobody has a second request
	w.queue = connQueue{conns: make(chan net.Conn), done: make(chan struct{}), addr: s.tls.Addr()}
	return w
}

func (s *Server) serveWeb() { _ = s.web.Serve(&s.web.queue) }

// take hands a connection to the HTTP server.
func (w *web) take(conn net.Conn) {
	select {
	case w.queue.conns <- conn:
	case <-w.queue.done:
		conn.Close()
	}
}

// Close ends the server and every connection that is no WebSocket yet.
func (w *web) Close() error {
	_ = w.queue.Close()
	return w.Server.Close()
}

// connQueue is a listener whose connections come from another one.
type connQueue struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	addr  net.Addr
}

// Accept returns the next connection.
func (q *connQueue) Accept() (net.Conn, error) {
	select {
	case conn := <-q.conns:
		return conn, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept. It may be called more than once.
func (q *connQueue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr returns the address of the other listener.
func (q *connQueue) Addr() net.Addr { return q.addr }
