package link

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"

	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// Headroom is the room in bytes that the link needs in front of every datagram
// it is to send: a ChannelData header (RFC 8656, section 12.4).
const Headroom = guard.ChannelHeaderSize

// Kind says how a relay is reached; part of what status shows.
type Kind string

// The kinds, in the order in which they are tried.
const (
	RelayUDP       Kind = "relay-udp"  // on the socket that direct paths use too
	RelayTCP       Kind = "relay-tcp"  // a connection of its own, as the next three
	RelayTLS       Kind = "relay-tls"  // by the relay's pinned key
	RelayDTLS      Kind = "relay-dtls" // likewise, over UDP
	RelayWebSocket Kind = "relay-ws"   // likewise, on an HTTPS port
)

// Config of Open.
type Config struct {
	// Relay is credential and endpoints, from the grant or the answer to the
	// operator; of Begin, endpoints to begin with.
	Relay wire.Relay
	// Logger gets what went wrong on the way; nil discards it.
	Logger *slog.Logger
	// Direct lets datagrams come from, and go to, other addresses than relays,
	// and makes Candidates say where this end may be reached.
	Direct bool
	// Ports bounds where the sockets of direct paths listen; the zero value is any port.
	// When all of them are taken the link goes without, by any port.
	Ports Ports
	// Public are addresses at which an administrator lets Ports through to this machine,
	// each with the number that it has here. They are offered while a socket is at one.
	Public []netip.Addr
	// Loopback offers loopback addresses too. Without it they are offered only by
	// a machine that has no others.
	Loopback bool
	// Map asks the router to forward a port to the direct socket, some time after
	// the link stands, and again in networks that it comes to. Only with Direct.
	Map bool
	// Remember keeps, per network, by which kind a relay was reached last; nil
	// forgets.
	Remember Memory
	// Proxy is asked for the way to relays over streams, as http.Transport.Proxy
	// is; nil means that there is none.
	Proxy func(*http.Request) (*url.URL, error)
}

// Datagram is one datagram from the other end, or from whoever says so.
type Datagram struct {
	Via path.Via // how it came
	B   []byte
}

// RelayState is one relay of the credential and how we reach it.
type RelayState struct {
	Via  path.Via
	Kind Kind   // in use, or last used; "" before the first success
	Name string // "host:port" of that kind, or the first of the endpoint
	Up   bool   // datagrams can be sent; whether the other end is there nobody knows
	Err  error  // why it is not up; nil if it is, or was never tried
}

// Link is every way to the other end. WriteSegments may be called from any
// goroutine, ReadBatch from one at a time, everything else from any.
type Link struct {
	cfg   Config
	stats guard.Stats

	full chan *batch
	held *batch      // by the caller of ReadBatch
	live atomic.Bool // somebody reads: readers wait for ReadBatch
	poke chan struct{}

	socks   [2]*socket // IPv4, IPv6
	network *network
	places  places
	mapped  atomic.Pointer[netip.AddrPort] // what a router forwards; nil or zero: nothing
	remap   chan struct{}                  // cap 1: ask again
	slots   [wire.MaxRelayEndpoints]*slot
	order   atomic.Pointer[[]*slot] // all of them: those of the list's relays in its order, then the others
	listing sync.Mutex              // serialises changes of the list
	kick    chan struct{}           // cap 1: look again who is wanted

	mu   sync.Mutex
	cred wire.Relay    // guarded by mu; the newest, its endpoints are not used
	step chan struct{} // guarded by mu; closed, and replaced, when something has changed

	entitled chan struct{} // closed when there is a credential
	once     sync.Once     // closes it

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newLink(cfg Config) *Link {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Link{
		cfg: cfg, entitled: make(chan struct{}), step: make(chan struct{}),
		full: make(chan *batch, maxBatches), poke: make(chan struct{}, 1), kick: make(chan struct{}, 1), remap: make(chan struct{}, 1),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.network = newNetwork(cfg.Loopback)
	for i := range l.socks {
		l.socks[i] = newSocket(l, uint8(i))
	}
	for i := range l.slots {
		l.slots[i] = newSlot(l, uint8(i+1))
		if i < len(cfg.Relay.Endpoints) {
			l.slots[i].endpoint = cfg.Relay.Endpoints[i]
		}
	}
	order := l.slots[:]
	l.order.Store(&order)
	return l
}

func (l *Link) start() {
	for _, s := range l.socks {
		if s.open() == nil {
			l.wg.Go(s.read)
		}
	}
	for _, s := range l.slots {
		l.wg.Go(s.keep)
	}
	l.wg.Go(l.tend)
	l.wg.Go(l.watch)
	if l.cfg.Map && l.cfg.Direct && l.socks[0].port() != 0 {
		l.wg.Go(l.keepMapped)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// WriteSegments sends b by one way: segments of size bytes, the last one maybe
// shorter, each Headroom bytes and a datagram behind them. The length of every
// segment is a multiple of four, so that a stream needs no padding; all of ours
// are. Segments longer than a relay's frame go to addresses only, at most path.Large.
// The link may overwrite all of b, which is the caller's again on return. A
// datagram that is lost on the way out is no error, nor is a way that does not
// exist or is down; net.ErrClosed after Close is.
func (l *Link) WriteSegments(v path.Via, b []byte, size int) error {
	most := guard.MaxFrame
	if !v.Relayed() {
		most = path.Large + Headroom
	}
	if size <= Headroom || size > most || size%4 != 0 || len(b)%size%4 != 0 || len(b)%size != 0 && len(b)%size <= Headroom {
		return fmt.Errorf("sending on the link: segments of %d bytes in %d", size, len(b))
	}
	if l.ctx.Err() != nil {
		return net.ErrClosed
	}
	if v.Relayed() {
		if int(v.Relay) <= len(l.slots) {
			l.slots[v.Relay-1].write(b, size)
		}
		return nil
	}
	if l.cfg.Direct && int(v.Socket) < len(l.socks) {
		l.socks[v.Socket].direct(b, size, v.Addr)
	}
	return nil
}

// WriteWhole sends one datagram behind its headroom by one way, whole or not at all; see
// udp.Conn.WriteWhole. It is lost where nobody can promise that. How a relay sends it on
// is the relay's matter.
func (l *Link) WriteWhole(v path.Via, b []byte) {
	switch {
	case len(b) <= Headroom || len(b)%4 != 0:
	case v.Relayed():
		if int(v.Relay) <= len(l.slots) && len(b) <= guard.MaxFrame {
			l.slots[v.Relay-1].whole(b)
		}
	case l.cfg.Direct && int(v.Socket) < len(l.socks) && len(b) <= path.Large+Headroom:
		l.socks[v.Socket].whole(b[Headroom:], v.Addr)
	}
}

// ReadBatch waits for datagrams from the other end, or from whoever says so.
// They stay valid until the next call; the caller may overwrite them. It fails
// with the context's error, and with net.ErrClosed after Close.
func (l *Link) ReadBatch(ctx context.Context) ([]Datagram, error) {
	if l.held != nil {
		l.held.release()
		l.held = nil
	}
	select {
	case b := <-l.full:
		l.held = b
		return b.data, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Relays lists the relays of the credential in its order.
func (l *Link) Relays() []RelayState {
	var list []RelayState
	for _, s := range *l.order.Load() {
		if state, used := s.state(); used {
			list = append(list, state)
		}
	}
	return list
}

// Changed gets a value when what Relays or Candidates return has changed, or the
// system's addresses have. It holds at most one.
func (l *Link) Changed() <-chan struct{} { return l.poke }

// Recheck asks a relay at once whether our place there still is, and dials again
// where it is not: for a path that has fallen silent, or a machine that has slept.
// It may be called as often as one likes.
func (l *Link) Recheck(v path.Via) {
	if !v.Relayed() || int(v.Relay) > len(l.slots) {
		return
	}
	if a := l.slots[v.Relay-1].current.Load(); a != nil {
		poke(a.urgent)
	} else {
		poke(l.slots[v.Relay-1].wake)
	}
}

// Close frees the allocations and closes the sockets. It returns when the link's
// goroutines are gone and may be called more than once.
func (l *Link) Close() error {
	// 1. No more data, no more dialling; the slots take leave of their relays.
	l.cancel()
	for _, s := range l.slots {
		<-s.gone
	}
	// 2. Wake the readers.
	for _, s := range l.socks {
		s.close()
	}
	// 3. Wait for them.
	l.wg.Wait()
	return nil
}
