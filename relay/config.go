package relay

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/hop"
)

// Config is what a relay needs to run. Fields without a remark may be left zero.
type Config struct {
	// UDP, TCP, TLS (over TCP) and DTLS (over UDP) are the addresses to listen
	// on; the zero AddrPort leaves that transport off. One of them is required.
	// On a machine with several addresses name the one that clients are told, so
	// that answers leave with it. Ports 3478 and, protected, 5349 are TURN's.
	UDP, TCP, TLS, DTLS netip.AddrPort

	// Identity is the key of TLS and DTLS. Required with either.
	Identity *hop.Identity

	// WebSocket also serves WebSockets on the TLS address, at hop.WebSocketPath.
	// For those of another HTTPS server see Server.WebSocket.
	WebSocket bool

	// Secret is shared with the rendezvous that mints the credentials. Required.
	Secret credential.Secret

	// PreviousSecret is still accepted, for the hour after a rotation.
	PreviousSecret credential.Secret

	// Realm is sent to clients and enters their key. Default "tucdesk"; at most
	// 64 bytes of printable ASCII.
	Realm string

	// Limits bound what clients may take. Zero fields get their defaults.
	Limits Limits

	// Lab, if not nil, replaces paired mode by real relay sockets, for tests
	// with foreign tools.
	Lab *Lab

	// Logger receives what an operator of the relay should know. User names are
	// escaped and cut. Default: no log.
	Logger *slog.Logger
}

// Limits bound what clients may take. All defaults are our choice.
type Limits struct {
	// Allocations in total. Default 20,000 (10,000 sessions).
	Allocations int
	// AllocationsPerSource is for one IPv4 /24 or IPv6 /56, which may be a whole
	// site behind one address translator. Default 1,024.
	AllocationsPerSource int
	// ControlPerSecond is the rate of messages other than ChannelData from one
	// IPv4 address or IPv6 /56, without those of clients that have an allocation:
	// each of these has a fifth of it for itself. Four times as many as the rate
	// may come at once, from either. It is taken before anything is parsed.
	// Default 100.
	ControlPerSecond int
	// ControlTotal is that rate for all sources together, and once more for all
	// allocations. Default 20,000.
	ControlTotal int
	// Connections caps open connections of all transports but UDP. Default 20,000.
	Connections int
	// ConnectionsPerSource is for one IPv4 address or IPv6 /56. Default 256.
	ConnectionsPerSource int
	// BytesPerAllocation is how many payload bytes, padding included, one side may send over the
	// life of its credential; then its data is dropped. Default 0: no quota.
	BytesPerAllocation uint64
	// BytesPerSecond is how many payload bytes one side may send in a second; ten
	// times as many may come at once, and what is over is dropped. Default 0: no
	// limit.
	BytesPerSecond uint64
	// Idle ends an allocation that has carried no data for so long, even if it
	// is refreshed. Default 10 minutes: endpoints send path checks far more
	// often.
	Idle time.Duration
}

// Lab is the configuration of lab mode, in which allocations are not paired and
// a credential may have several, answers to strangers are not held to what they
// sent, and End does not know the allocations of a pair.
type Lab struct {
	// AllowPeers are the networks that relay sockets may exchange datagrams
	// with; everything else is denied on the socket. Required. Multicast,
	// broadcast and unspecified addresses are denied even if listed.
	AllowPeers []netip.Prefix
	// RelayIP is the address on which relay sockets are opened. Required.
	RelayIP netip.Addr
	// PublicBind must be set to run lab mode on addresses other than loopback.
	PublicBind bool
}

const (
	defaultRealm = "tucdesk"
	maxRealm     = 64 // bytes; keeps the first answer within guard.FirstRequestSize * 1.5
)

// ErrPublicLab refuses lab mode on an address that others can reach, without
// Lab.PublicBind: a forgotten one must not become an open proxy.
var ErrPublicLab = errors.New("relay configuration: lab mode on an address that is not loopback")

// withDefaults returns cfg with its zero fields filled, or says what is wrong.
func (cfg Config) withDefaults() (Config, error) {
	switch protected := cfg.TLS.IsValid() || cfg.DTLS.IsValid(); {
	case !cfg.UDP.IsValid() && !cfg.TCP.IsValid() && !protected:
		return cfg, errors.New("relay configuration: no address to listen on; set UDP, TCP, TLS or DTLS")
	case protected && cfg.Identity == nil:
		return cfg, errors.New("relay configuration: TLS or DTLS without a key")
	case cfg.WebSocket && !cfg.TLS.IsValid():
		return cfg, errors.New("relay configuration: WebSockets need a TLS address")
	}
	if cfg.Secret.IsZero() {
		return cfg, errors.New("relay configuration: no secret; it must be the one of the rendezvous server")
	}
	if cfg.Realm == "" {
		cfg.Realm = defaultRealm
	}
	if err := checkRealm(cfg.Realm); err != nil {
		return cfg, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Limits.setDefaults()
	if cfg.Lab != nil {
		return cfg, cfg.Lab.check(cfg.UDP, cfg.TCP, cfg.TLS, cfg.DTLS)
	}
	return cfg, nil
}

func checkRealm(realm string) error {
	if len(realm) > maxRealm {
		return fmt.Errorf("relay configuration: realm of %d bytes, at most %d", len(realm), maxRealm)
	}
	for _, c := range []byte(realm) {
		if c <= ' ' || c > '~' || c == '"' || c == '\\' || c == ':' {
			return fmt.Errorf("relay configuration: realm %q has a character other than plain printable ASCII", realm)
		}
	}
	return nil
}

func (l *Limits) setDefaults() {
	for _, d := range []struct {
		v   *int
		def int
	}{
		{&l.Allocations, 20000}, {&l.AllocationsPerSource, 1024},
		{&l.ControlPerSecond, 100}, {&l.ControlTotal, 20000},
		{&l.Connections, 20000}, {&l.ConnectionsPerSource, 256},
	} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	if l.Idle <= 0 {
		l.Idle = 10 * time.Minute
	}
}

func (l *Lab) check(listen ...netip.AddrPort) error {
	if len(l.AllowPeers) == 0 {
		return errors.New("relay configuration: lab mode without allowed peers")
	}
	if !l.RelayIP.IsValid() || l.RelayIP.IsUnspecified() {
		return errors.New("relay configuration: lab mode without a relay address")
	}
	for _, a := range listen {
		if a.IsValid() && !a.Addr().Unmap().IsLoopback() && !l.PublicBind {
			return fmt.Errorf("%w: %v", ErrPublicLab, a)
		}
	}
	return nil
}
