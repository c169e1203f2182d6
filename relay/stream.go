package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/internal/udp"
	"github.com/tucdesk/tucdesk/relay/guard"
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

// stream is one stream connection: a client, its pion instance, its writer.
type stream struct {
	s     *Server
	conn  *guard.Conn
	from  netip.AddrPort
	front *front
	alloc atomic.Pointer[allocation]

	wake chan struct{} // buffered; the queue is no longer empty
	gone chan struct{}
	once sync.Once

	mu    sync.Mutex
	queue []byte // guarded by mu; whole frames
}

// acceptStreams serves the TCP listener.
func (s *Server) acceptStreams() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return // closed: the guard's listener returns nothing else
		}
		s.conns.Go(func() { s.ServeConn(conn) })
	}
}

// ServeConn serves one stream that carries TURN frames, until either end closes
// it or the relay does. It is for streams that were accepted elsewhere: TLS,
// WebSocket. They share nothing with others but the total cap of connections.
// The remote address must be an IP address and a port. It returns why the stream
// ended.
func (s *Server) ServeConn(conn net.Conn) error {
	defer conn.Close()
	from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return fmt.Errorf("serving relay stream: remote address is no IP address and port: %v", err)
	}
	gc, ok := conn.(*guard.Conn)
	if !ok {
		if gc, err = guard.NewConn(conn, guard.Options{Side: guard.Server, Stats: &s.drops}); err != nil {
			return err
		}
	}
	st := &stream{
		s: s, conn: gc, from: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()),
		wake: make(chan struct{}, 1), gone: make(chan struct{}),
	}
	if !s.enter(st) {
		return errors.New("serving relay stream: relay is full or closed")
	}
	defer s.leave(st)
	return st.run()
}

func (s *Server) enter(st *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || len(s.streams) >= s.cfg.Limits.Connections {
		return false
	}
	s.streams[st] = struct{}{}
	return true
}

func (s *Server) leave(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
}

func (s *Server) openConns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

func (s *Server) closeStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for st := range s.streams {
		st.close()
	}
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
	defer st.front.Close()
	defer func() {
		if a := st.alloc.Load(); a != nil {
			a.relayed.Close()
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
