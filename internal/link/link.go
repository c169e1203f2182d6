package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// Headroom is the room in bytes that the link needs in front of every datagram
// it is to send: a ChannelData header (RFC 8656, section 12.4).
const Headroom = guard.ChannelHeaderSize

// MaxDatagram is the longest datagram, in bytes. The path's own limit may be
// smaller; whoever sends stays below 1,248 (design 4.2).
const MaxDatagram = guard.MaxPayload

// Times; our choice.
const (
	// tcpAfter is how long UDP has a lead: longer than a round trip to a relay
	// worth using, too short for a person to notice.
	tcpAfter = 300 * time.Millisecond
	// perRelay bounds the attempt on one relay.
	perRelay = 5 * time.Second
)

// Kind says what kind of path is in use; part of what status shows.
type Kind string

// The kinds of path.
const (
	RelayUDP Kind = "relay-udp"
	RelayTCP Kind = "relay-tcp"
)

// Info describes the path in use.
type Info struct {
	Kind  Kind
	Relay string // "host:port" from the credential
}

// Config of Dial.
type Config struct {
	Relay wire.Relay // credential and endpoints, from the grant or the answer to the operator
	// Logger gets what went wrong on the way; nil discards it.
	Logger *slog.Logger
}

// Link is one way to the other end. WriteSegments may be called from any
// goroutine, ReadBatch from one at a time.
type Link struct{ path *path }

// Dial opens a link on the first relay that answers, in the order of the
// credential. It returns when datagrams can be sent and received; whether the
// other end is there already nobody knows.
//
// Refusal: RelayFailed, which names the relays that did not answer.
func Dial(ctx context.Context, cfg Config) (*Link, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	n := len(cfg.Relay.Endpoints)
	if n == 0 || n > wire.MaxRelayEndpoints {
		return nil, refusal.New(refusal.RelayFailed, "the credential names %d relays; want 1 to %d", n, wire.MaxRelayEndpoints)
	}
	var tried []string
	for _, e := range cfg.Relay.Endpoints {
		p, err := race(ctx, cfg, e)
		if err == nil {
			return &Link{path: p}, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		cfg.Logger.Info("relay did not answer", "udp", e.UDP, "tcp", e.TCP, "error", err)
		tried = append(tried, names(e)...)
	}
	return nil, refusal.New(refusal.RelayFailed, "no answer from %s", strings.Join(tried, ", "))
}

func names(e wire.RelayEndpoint) (s []string) {
	if e.UDP != "" {
		s = append(s, "udp "+e.UDP)
	}
	if e.TCP != "" {
		s = append(s, "tcp "+e.TCP)
	}
	return s
}

type attempt struct {
	path *path
	err  error
}

// race tries one relay over both transports and returns the first path. All
// attempts have ended when it returns.
func race(ctx context.Context, cfg Config, e wire.RelayEndpoint) (*path, error) {
	ctx, cancel := context.WithTimeout(ctx, perRelay)
	defer cancel()
	results := make(chan attempt, 2)
	running := 0
	start := func(k Kind, addr string) {
		if addr == "" {
			return
		}
		running++
		go func() {
			p, err := open(ctx, cfg, k, addr)
			results <- attempt{p, err}
		}()
	}
	start(RelayUDP, e.UDP)
	lead := time.NewTimer(tcpAfter)
	defer lead.Stop()
	if running == 0 {
		lead.Reset(0)
	}
	var won *path
	errs := []error{}
	for pendingTCP := true; running > 0 || pendingTCP; {
		select {
		case <-lead.C:
			pendingTCP = false
			if won == nil {
				start(RelayTCP, e.TCP)
			}
		case r := <-results:
			running--
			switch {
			case r.err != nil:
				errs = append(errs, r.err)
				if pendingTCP {
					lead.Reset(0)
				}
			case won == nil:
				won, pendingTCP = r.path, false
				cancel()
			default:
				r.path.close()
			}
		}
	}
	if won == nil {
		return nil, errors.Join(errs...)
	}
	return won, nil
}

// open connects and allocates over one transport.
func open(ctx context.Context, cfg Config, k Kind, addr string) (*path, error) {
	sock, err := connect(ctx, k, addr)
	if err != nil {
		return nil, fmt.Errorf("connecting to relay %q by %s: %v", addr, k, err)
	}
	p := newPath(sock, Info{Kind: k, Relay: addr}, cfg.Logger)
	if err := p.establish(ctx, cfg.Relay); err != nil {
		p.close()
		return nil, fmt.Errorf("allocating on relay %q by %s: %v", addr, k, err)
	}
	return p, nil
}

func connect(ctx context.Context, k Kind, addr string) (socket, error) {
	if k == RelayTCP {
		return dialTCP(ctx, addr)
	}
	return dialUDP(ctx, addr)
}

// WriteSegments sends b: segments of size bytes, the last one maybe shorter,
// each Headroom bytes that the link overwrites and a datagram behind them. The
// length of every datagram is a multiple of four, so that a stream needs no
// padding; all of ours are. b is the caller's again on return. A datagram that
// is lost on the way out is no error; a path that has ended is: net.ErrClosed.
func (l *Link) WriteSegments(b []byte, size int) error {
	if size <= Headroom || size > guard.MaxFrame || size%4 != 0 || len(b)%size%4 != 0 {
		return fmt.Errorf("sending on the link: segments of %d bytes in %d", size, len(b))
	}
	return l.path.write(b, size)
}

// ReadBatch waits for datagrams from the other end, or from whoever the relay
// says it is. They stay valid until the next call; the caller may overwrite
// them. It returns the context's error or, when the path has ended, what ended
// it: net.ErrClosed after Close.
func (l *Link) ReadBatch(ctx context.Context) ([][]byte, error) { return l.path.read(ctx) }

// Path describes the path in use.
func (l *Link) Path() Info { return l.path.info }

// Drops returns how many frames from the relay or from strangers were refused
// before anything looked into them, by reason.
func (l *Link) Drops() map[string]uint64 { return l.path.stats.Snapshot() }

// Close frees the allocation and closes the socket. It returns when the link's
// goroutines are gone and may be called more than once.
func (l *Link) Close() error {
	l.path.close()
	return nil
}

var errDone = net.ErrClosed
