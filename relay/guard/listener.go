package guard

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Caps on open stream connections. Our choice: at most some 2 KiB are held for a
// connection that has not sent a frame.
const (
	DefaultMaxConns     = 20000 // in total
	DefaultMaxPerSource = 256   // of one IPv4 address or one IPv6 /64
)

// Waits after an error of the listener below, so that one without descriptors costs
// neither the accept loop nor a core. Our choice.
const (
	minBackoff = time.Millisecond
	maxBackoff = time.Second
)

// Gate counts the open connections of each source and in total. Listeners that
// share one share its caps. It may be used from any goroutine.
type Gate struct {
	maxConns, maxPerSource int

	mu    sync.Mutex
	total int                  // guarded by mu
	count map[netip.Prefix]int // guarded by mu; open connections by SourceKey
}

// NewGate returns an empty Gate; caps that are not positive get their defaults.
func NewGate(maxConns, maxPerSource int) *Gate {
	setDefault(&maxConns, DefaultMaxConns)
	setDefault(&maxPerSource, DefaultMaxPerSource)
	return &Gate{maxConns: maxConns, maxPerSource: maxPerSource, count: make(map[netip.Prefix]int)}
}

// Enter takes a place for a connection from an address. leave gives it back; it
// may be called more than once. With ok false there is no place, and no leave.
func (g *Gate) Enter(from netip.Addr) (leave func(), ok bool) {
	src := SourceKey(from)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total >= g.maxConns || g.count[src] >= g.maxPerSource {
		return nil, false
	}
	g.total++
	g.count[src]++
	return sync.OnceFunc(func() { g.leave(src) }), true
}

func (g *Gate) leave(src netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	if g.count[src]--; g.count[src] == 0 {
		delete(g.count, src)
	}
}

// Open returns the number of places taken.
func (g *Gate) Open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.total
}

// ListenerOptions of NewListener. Zero values mean the package's defaults.
type ListenerOptions struct {
	// MaxConns caps the open connections of this listener.
	MaxConns int
	// MaxPerSource caps those of one IPv4 address or one IPv6 /64.
	MaxPerSource int
	// Gate, if not nil, holds the caps instead, for several listeners.
	Gate *Gate
	// FirstFrame and Idle replace FirstFrameTimeout and IdleTimeout.
	FirstFrame, Idle time.Duration
	// Stats receives the counts of refused connections and frames. May be nil.
	Stats *Stats
}

// Listener is a net.Listener that survives every temporary error of the one
// below (a TURN server of pion's stops listening for good at the first one),
// holds the caps, and returns a *Conn of side Server from Accept.
type Listener struct {
	net.Listener
	opt    ListenerOptions
	closed chan struct{}
	once   sync.Once
}

// NewListener puts the guard in front of l, which it owns from then on.
func NewListener(l net.Listener, opt ListenerOptions) *Listener {
	if opt.Gate == nil {
		opt.Gate = NewGate(opt.MaxConns, opt.MaxPerSource)
	}
	setDefault(&opt.FirstFrame, FirstFrameTimeout)
	setDefault(&opt.Idle, IdleTimeout)
	return &Listener{Listener: l, opt: opt, closed: make(chan struct{})}
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Accept returns the next connection within the caps, as a *Conn. It fails only
// when the listener is closed. A connection over a cap is closed at once and
// counted.
func (l *Listener) Accept() (net.Conn, error) {
	conn, err := l.AcceptBare()
	if err != nil {
		return nil, err
	}
	return l.Guard(conn), nil
}

// Guard puts the guard in front of a stream that AcceptBare has returned, or of
// another layer above it.
func (l *Listener) Guard(conn net.Conn) *Conn {
	return newConn(conn, Options{Side: Server, Stats: l.opt.Stats}, l.opt.FirstFrame, l.opt.Idle)
}

// AcceptBare is Accept without the guard: TLS comes first on some connections.
func (l *Listener) AcceptBare() (net.Conn, error) {
	wait := minBackoff
	for {
		conn, err := l.Listener.Accept()
		if err == nil {
			wait = minBackoff
			if c := l.admit(conn); c != nil {
				return c, nil
			}
			continue
		}
		if errors.Is(err, net.ErrClosed) || !l.pause(wait) {
			return nil, net.ErrClosed
		}
		wait = min(2*wait, maxBackoff)
	}
}

func (l *Listener) admit(conn net.Conn) net.Conn {
	leave, ok := l.opt.Gate.Enter(remote(conn))
	if !ok {
		l.opt.Stats.Count(TooManyConns)
		conn.Close()
		return nil
	}
	return &countedConn{Conn: conn, release: leave}
}

// remote returns the address of the other end; where there is none it is invalid, and
// all such connections count as one source.
func remote(conn net.Conn) netip.Addr {
	to, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return to.AddrPort().Addr()
}

// Open returns the number of open connections, of all listeners with its Gate.
func (l *Listener) Open() int { return l.opt.Gate.Open() }

func (l *Listener) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-l.closed:
		return false
	case <-t.C:
		return true
	}
}

// Close ends Accept. Connections already accepted stay open. It may be called
// more than once.
func (l *Listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		close(l.closed)
		err = l.Listener.Close()
	})
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// countedConn gives its place under the caps back when it is closed.
type countedConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// SourceKey returns the network that counts as one source for rate limits and
// caps: an IPv4 address, or an IPv6 /56, which is what one customer has. It
// returns the zero Prefix for an invalid address.
func SourceKey(a netip.Addr) netip.Prefix { return Network(a, 32) }

// Network returns the network of an address that is counted together: so many bits
// of IPv4, or an IPv6 /56. It returns the zero Prefix for an invalid address.
func Network(a netip.Addr, bits int) netip.Prefix {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		bits = 56
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
