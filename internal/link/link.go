package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// Headroom is the room in bytes that the link needs in front of every datagram
// it is to send: a ChannelData header (RFC 8656, section 12.4).
const Headroom = guard.ChannelHeaderSize

// MaxDatagram is the longest datagram, in bytes. A path's own limit may be
// smaller; whoever sends stays below 1,248 (design 4.2).
const MaxDatagram = guard.MaxPayload

// warm is how many relays of the list are kept ready; the next ones are asked when
// one of these cannot be had. Both ends count from the front, so they meet. Our
// choice.
const warm = 2

// Kind says what kind of path is in use; part of what status shows.
type Kind string

// The kinds of way to a relay.
const (
	RelayUDP       Kind = "relay-udp"
	RelayTCP       Kind = "relay-tcp"
	RelayTLS       Kind = "relay-tls"
	RelayDTLS      Kind = "relay-dtls"
	RelayWebSocket Kind = "relay-ws"
)

// Config of Open.
type Config struct {
	Relay wire.Relay // credential and endpoints, from the grant or the answer to the operator
	// Direct opens the link to datagrams from anywhere, as direct paths need.
	Direct bool
	// Fixed are addresses at which an administrator says this end can be reached.
	Fixed []netip.AddrPort
	// Remember may be nil.
	Remember Memory
	// Logger gets what went wrong on the way; nil discards it.
	Logger *slog.Logger
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

// Link is all ways to the other end. WriteSegments may be called from any
// goroutine, ReadBatch from one at a time.
type Link struct {
	cfg     Config
	log     *slog.Logger
	stats   guard.Stats
	in      inbox
	held    *batch   // by the caller of ReadBatch
	hosts   [2]*host // IPv4, IPv6; nil where the machine has none
	changed chan struct{}
	network network

	ctx  context.Context
	stop context.CancelFunc
	once sync.Once
	wg   sync.WaitGroup

	mu     sync.Mutex
	cred   wire.Relay // guarded by mu
	relays []*slot    // guarded by mu; grows only
}

// Open opens the sockets and returns when the first relay can be used; the others
// follow, and whatever is lost is dialled again, for the life of the link.
//
// Refusal: RelayFailed, which names every relay and what did not answer.
func Open(ctx context.Context, cfg Config) (*Link, error) {
	if n := len(cfg.Relay.Endpoints); n == 0 || n > wire.MaxRelayEndpoints {
		return nil, refusal.New(refusal.RelayFailed, "the credential names %d relays; want 1 to %d", n, wire.MaxRelayEndpoints)
	}
	l := &Link{cfg: cfg, log: cfg.Logger, cred: cfg.Relay, changed: make(chan struct{}, 1)}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.in = inbox{full: make(chan *batch, batches), done: make(chan struct{})}
	l.ctx, l.stop = context.WithCancel(context.Background())
	if err := l.listen(); err != nil {
		_ = l.Close()
		return nil, refusal.New(refusal.RelayFailed, "%v", err)
	}
	l.network.read()
	l.grow(cfg.Relay.Endpoints)
	l.wg.Go(l.watch)
	if err := l.firstRelay(ctx); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Link) listen() error {
	var errs []error
	for i, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		h, err := listen(uint8(i), any, l.cfg.Direct, &l.in, &l.stats)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l.hosts[i] = h
		l.wg.Go(h.read)
	}
	if len(errs) == len(l.hosts) {
		return errors.Join(errs...)
	}
	return nil
}

// host is the socket for an address, nil if there is none.
func (l *Link) host(a netip.Addr) *host {
	if a.Is4() {
		return l.hosts[0]
	}
	return l.hosts[1]
}

// grow starts relays that the list has beyond those there are, and updates the
// addresses of these.
func (l *Link) grow(list []wire.RelayEndpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, e := range list {
		if i < len(l.relays) {
			r := l.relays[i]
			r.mu.Lock()
			r.end = e
			r.mu.Unlock()
			continue
		}
		r := &slot{link: l, via: path.Via{Relay: uint8(i + 1)}, end: e, wake: make(chan struct{}, 1)}
		l.relays = append(l.relays, r)
		l.wg.Go(func() {
			if l.needed(i) {
				r.run(l.ctx)
			}
		})
	}
}

// needed waits until the relay of that place in the list is wanted: at once for
// the first ones, else when one before it has failed.
func (l *Link) needed(place int) bool {
	const look = time.Second
	for place >= warm {
		failed := 0
		for _, r := range l.list()[:place] {
			r.mu.Lock()
			if r.tried && r.a == nil {
				failed++
			}
			r.mu.Unlock()
		}
		if failed > place-warm {
			break
		}
		if !sleep(l.ctx, look) {
			return false
		}
	}
	return l.ctx.Err() == nil
}

func (l *Link) list() []*slot {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.relays[:len(l.relays):len(l.relays)]
}

func (l *Link) credential() wire.Relay {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cred
}

// firstRelay waits until one relay is up or all have failed once.
func (l *Link) firstRelay(ctx context.Context) error {
	for {
		states := l.Relays()
		tried := 0
		for i, s := range states {
			if s.Up {
				l.poke() // whoever opened the link has not looked yet
				return nil
			}
			if s.Err != nil || i >= warm && !l.list()[i].wasTried() {
				tried++
			}
		}
		if tried == len(states) {
			return failure(states)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.changed:
		}
	}
}

func (r *slot) wasTried() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tried
}

// WriteSegments sends b by one way: segments of size bytes, the last one maybe
// shorter, each Headroom bytes that belong to the link and a datagram behind them.
// The length of every datagram is a multiple of four, so that a stream needs no
// padding; all of ours are. All of b may be overwritten; it is the caller's again
// on return. A datagram that is lost on the way out is no error, nor is a way that
// is no more: only the link's end is, net.ErrClosed.
func (l *Link) WriteSegments(v path.Via, b []byte, size int) error {
	if size <= Headroom || size > guard.MaxFrame || size%4 != 0 || len(b)%size%4 != 0 {
		return fmt.Errorf("sending on the link: segments of %d bytes in %d", size, len(b))
	}
	if l.ctx.Err() != nil {
		return net.ErrClosed
	}
	if !v.Relayed() {
		if int(v.Socket) < len(l.hosts) && l.hosts[v.Socket] != nil && l.cfg.Direct {
			l.hosts[v.Socket].write(b, size, v.Addr)
		}
		return nil
	}
	if a := l.allocation(v); a != nil {
		if err := a.write(b, size); err != nil {
			a.fail(err)
		}
	}
	return nil
}

func (l *Link) allocation(v path.Via) *allocation {
	relays := l.list()
	if int(v.Relay) > len(relays) {
		return nil
	}
	return relays[v.Relay-1].get()
}

// ReadBatch waits for datagrams from the other end, or from whoever says so. They
// stay valid until the next call; the caller may overwrite them. It returns the
// context's error or, after Close, net.ErrClosed.
func (l *Link) ReadBatch(ctx context.Context) ([]Datagram, error) {
	l.in.open.Store(true)
	if l.held != nil {
		l.held.home <- l.held // never blocks: there is room for all
		l.held = nil
	}
	select {
	case b := <-l.in.full:
		l.held = b
		return b.data, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.in.done:
		return nil, net.ErrClosed
	}
}

// Relays lists the relays of the credential, in its order.
func (l *Link) Relays() []RelayState {
	var out []RelayState
	for _, r := range l.list() {
		out = append(out, r.state())
	}
	return out
}

// Changed gets a value when Relays or Candidates may say something else. It is
// for one reader.
func (l *Link) Changed() <-chan struct{} { return l.changed }

func (l *Link) poke() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// Recheck asks a relay whether our place there still is, and dials at once where
// it is not: for a path that has fallen silent, or a machine that slept.
func (l *Link) Recheck(v path.Via) {
	for _, r := range l.list() {
		if r.via == v {
			select {
			case r.wake <- struct{}{}:
			default:
			}
		}
	}
}

// Drops returns how many frames and datagrams were refused before anything looked
// into them, by reason.
func (l *Link) Drops() map[string]uint64 { return l.stats.Snapshot() }

// Close frees the allocations and closes the sockets. It returns when the link's
// goroutines are gone and may be called more than once.
func (l *Link) Close() error {
	l.once.Do(func() {
		// 1. No more reading and writing; readers that wait to hand over wake.
		l.stop()
		close(l.in.done)
		// 2. The relays: they tell theirs, over sockets that are still open.
		for _, r := range l.list() {
			if a := r.get(); a != nil {
				a.close()
			}
		}
		// 3. The sockets, and with them their readers.
		for _, h := range l.hosts {
			if h != nil {
				_ = h.conn.Close()
			}
		}
		// 4. Wait.
		l.wg.Wait()
	})
	l.wg.Wait()
	return nil
}

var errDone = net.ErrClosed
