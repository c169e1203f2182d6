package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/internal/udp"
	"github.com/tucdesk/tucdesk/relay/guard"
	"github.com/tucdesk/tucdesk/relay/hop"
)

const (
	// maxQueued is how many bytes wait for one stream; what comes on top is
	// dropped, like in a network. Our choice: some 200 full datagrams, 20 ms at
	// 100 Mbit/s. More would only add delay.
	maxQueued = 256 << 10
	// keepQueued is the size above which an idle stream's buffer is given back.
	keepQueued = 16 << 10
	// writeTimeout ends a stream whose client does not read.
	writeTimeout = 10 * time.Second
)

// framed is a connection that carries one client's frames: *guard.Conn where they
// follow each other in a stream, *guard.Datagrams where each has a datagram.
type framed interface {
	net.Conn
	// Next waits for a frame, which is valid until the next call.
	Next() ([]byte, error)
	// Pending reports that Next would not wait.
	Pending() bool
}

// stream is one client that is not on plain UDP, its pion instance and its writer.
// Write of its conn takes whole frames, padded to four bytes.
type stream struct {
	s     *Server
	conn  framed
	from  netip.AddrPort
	front *front
	alloc atomic.Pointer[allocation]

	wake chan struct{} // buffered; the queue is no longer empty
	gone chan struct{}
	once sync.Once

	mu    sync.Mutex
	queue []byte // guarded by mu; whole frames
}

// acceptPlain serves the TCP listener.
func (s *Server) acceptPlain() {
	for {
		conn, err := s.plain.AcceptBare()
		if err != nil {
			return // closed: the guard's listener returns nothing else
		}
		s.conns.Go(func() { _ = s.serveStream(conn) })
	}
}

// acceptTLS serves the TLS listener.
func (s *Server) acceptTLS() {
	for {
		conn, err := s.tls.AcceptBare()
		if err != nil {
			return
		}
		s.conns.Go(func() { s.serveTLS(conn) })
	}
}

// serveTLS runs a handshake, within the time for a first frame, and passes the
// connection to who speaks the protocol that the client has named.
func (s *Server) serveTLS(plain net.Conn) {
	ctx, cancel := context.WithTimeout(s.life, guard.FirstFrameTimeout)
	defer cancel()
	conn := tls.Server(plain, s.tlsCfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		s.metrics.count(evHandshake)
		plain.Close()
		return
	}
	if s.web != nil && conn.ConnectionState().NegotiatedProtocol == hop.ProtoHTTP {
		s.web.take(abrupt{conn, plain})
		return
	}
	_ = s.serveStream(abrupt{conn, plain})
}

// abrupt ends a TLS connection without a farewell, for which the library would wait
// while the client does not read.
type abrupt struct {
	*tls.Conn
	plain net.Conn
}

// Close closes the connection below.
func (c abrupt) Close() error { return c.plain.Close() }

// serveDTLS serves the DTLS listener.
func (s *Server) serveDTLS() {
	s.dtls.Serve(func(conn *hop.Conn) {
		defer conn.Close()
		framed, err := guard.NewDatagrams(conn, guard.Options{Side: guard.Server, Stats: &s.drops})
		if err == nil {
			_ = s.serveFrames(framed)
		}
	})
}

// serveStream serves one stream that carries TURN frames, until either end closes
// it or the relay does. The remote address must be an IP address and a port.
func (s *Server) serveStream(conn net.Conn) error {
	framed, err := guard.NewConn(conn, guard.Options{Side: guard.Server, Stats: &s.drops})
	if err != nil {
		conn.Close()
		return err
	}
	return s.serveFrames(framed)
}

func (s *Server) serveFrames(conn framed) error {
	defer conn.Close()
	from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return fmt.Errorf("serving relay stream: remote address is no IP address and port: %v", err)
	}
	st := &stream{
		s: s, conn: conn, from: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()),
		wake: make(chan struct{}, 1), gone: make(chan struct{}),
	}
	if !s.enter(st) {
		return errors.New("serving relay stream: relay is closed")
	}
	defer s.leave(st)
	return st.run()
}

// enter takes st among those that Close ends and Run waits for.
func (s *Server) enter(st *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.streams[st] = struct{}{}
	s.conns.Add(1)
	return true
}

func (s *Server) leave(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
	s.conns.Done()
}

func (s *Server) openConns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

func (s *Server) closeStreams() {
	s.mu.Lock()
	s.stopped = true
	all := slices.Collect(maps.Keys(s.streams))
	s.mu.Unlock()
	var closing sync.WaitGroup // a WebSocket of another server may take its time
	for _, st := range all {
		closing.Go(st.close)
	}
	closing.Wait()
}

// run reads frames until the stream ends. Nothing is made for a connection
// before its first whole frame: most of a flood never sends one.
func (st *stream) run() error {
	first, err := st.conn.Next()
	if err != nil {
		return err
	}
	// pion wants a local address to tell clients apart; here is only this one.
	st.front = newFront(st.s, net.TCPAddrFromAddrPort(st.from), st)
	if err := st.front.serve(); err != nil {
		return err
	}
	var writer sync.WaitGroup
	writer.Go(st.write)
	defer writer.Wait()
	defer st.close()
	defer func() {
		// First pion's loop, then the allocation (relayed.end).
		st.front.Close()
		<-st.front.left
		if a := st.alloc.Load(); a != nil {
			_ = a.relayed.end()
		}
	}()
	return st.read(first)
}

func (st *stream) read(frame []byte) error {
	var out *udp.Coalescer
	if st.s.sock != nil {
		out = udp.NewCoalescer(st.s.sock, func(int, error) { st.s.metrics.count(evSendFailed) })
	}
	for {
		if !st.handle(frame, out) {
			return net.ErrClosed
		}
		if out != nil && !st.conn.Pending() {
			out.Flush()
		}
		var err error
		if frame, err = st.conn.Next(); err != nil {
			return err
		}
	}
}

// handle reports false when the stream has been closed meanwhile.
func (st *stream) handle(frame []byte, out *udp.Coalescer) bool {
	now := time.Now()
	a := st.alloc.Load()
	if st.s.isFast(frame, a, now) {
		st.s.forward(a, frame, 0, out, now)
		return true
	}
	if st.s.cfg.Lab == nil && guard.IsChannelData(frame) {
		st.s.metrics.count(evNotBound)
		return true
	}
	if frame = st.s.control(frame, st.from, a, now); frame == nil {
		return true
	}
	select {
	case st.front.in <- packet{frame, st.from}:
		return true
	case <-st.gone:
		return false
	}
}

// send queues one frame for the client, padded as a stream wants it.
func (st *stream) send(frame []byte) {
	st.mu.Lock()
	full := len(st.queue)+len(frame)+3 > maxQueued
	if !full {
		st.queue = append(st.queue, frame...)
		for range -len(frame) & 3 {
			st.queue = append(st.queue, 0)
		}
	}
	st.mu.Unlock()
	if full {
		st.s.metrics.count(evQueueFull)
		return
	}
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// write is the one writer of the connection. It swaps the queue for an empty
// one and writes it whole.
func (st *stream) write() {
	var spare []byte
	for {
		select {
		case <-st.wake:
		case <-st.gone:
			return
		}
		st.mu.Lock()
		batch := st.queue
		st.queue = spare[:0]
		st.mu.Unlock()
		st.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := st.conn.Write(batch); err != nil {
			st.close()
			return
		}
		spare = batch
		if cap(spare) > keepQueued {
			spare = nil
		}
	}
}

// close ends reader and writer. It may be called more than once.
func (st *stream) close() {
	st.once.Do(func() {
		close(st.gone)
		st.conn.Close()
	})
}
