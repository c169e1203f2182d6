package carrier

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/relay/hop"
)

// within bounds one Dial, whatever the caller's context allows: the handshake of
// every kind takes four round trips at most. Our choice.
const within = 10 * time.Second

// readBuffer of a DTLS socket in bytes: what a fast sender delivers while we are
// not scheduled. The system may grant less. Our choice.
const readBuffer = 4 << 20

// Kind is a way to carry frames to a relay.
type Kind uint8

// The kinds, in the order in which they are preferred: the first three need a
// port of their own, WebSocket passes where only HTTPS does.
const (
	DTLS      Kind = iota + 1 // over UDP, each frame a datagram of its own
	TCP                       // plain: what is in the frames is sealed anyway
	TLS                       // over TCP, with the relay's pinned key
	WebSocket                 // in HTTPS, likewise
)

// String returns the kind's name: "dtls", "tcp", "tls" or "ws".
func (k Kind) String() string {
	switch k {
	case DTLS:
		return "dtls"
	case TCP:
		return "tcp"
	case TLS:
		return "tls"
	case WebSocket:
		return "ws"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Stream reports whether frames follow each other in a stream of bytes, so that
// guard.NewConn reads them; otherwise every Read returns one frame and every Write
// takes one.
func (k Kind) Stream() bool { return k != DTLS }

// Target is where Dial goes and how.
type Target struct {
	Kind Kind
	// Addr is the relay's "host:port" for this kind.
	Addr string
	// Pin is the SHA-256 of the relay's SubjectPublicKeyInfo. Required, except for
	// TCP, which has no key.
	Pin key.Hash
	// Proxy names the proxy for a request to https://Addr/, or nil for none, as
	// http.Transport.Proxy does; package proxies has one. Its errors are shown, so they
	// hold no password. nil means no proxy. DTLS asks nobody.
	Proxy func(*http.Request) (*url.URL, error)
}

// Leg is the part of the way at which a Dial failed.
type Leg string

// The legs, in the order in which they are passed.
const (
	LegProxy     Leg = "proxy"     // finding, reaching or asking the proxy
	LegConnect   Leg = "connect"   // reaching the relay: name, route, port
	LegHandshake Leg = "handshake" // TLS or DTLS, the key among it
	LegUpgrade   Leg = "upgrade"   // HTTP to WebSocket
)

// Error is why a Dial failed.
type Error struct {
	Kind Kind
	Addr string // of the relay
	Leg  Leg
	Err  error // matches refusal.PinMismatch when the key is not the pinned one
}

// Error says what was tried, then where it ended.
func (e *Error) Error() string {
	return fmt.Sprintf("reaching relay %q over %v: %s: %v", e.Addr, e.Kind, e.Leg, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Dial reaches a relay. The connection outlives ctx, which bounds the dialling
// only. It fails with an *Error. The caller closes what it gets.
func Dial(ctx context.Context, to Target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	conn, leg, err := to.dial(ctx)
	if err == nil {
		return conn, nil
	}
	if cause := over(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%v: %w", err, cause) // the library's text hides that time was up
	}
	return nil, &Error{to.Kind, to.Addr, leg, err}
}

// over returns why ctx has ended, also in the moment in which a deadline has passed
// and only a socket knows it.
func over(ctx context.Context) error {
	if end, ok := ctx.Deadline(); ok && !time.Now().Before(end) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

func (t Target) dial(ctx context.Context) (net.Conn, Leg, error) {
	if t.Kind != TCP && t.Pin.IsZero() {
		return nil, LegHandshake, errors.New("no key is pinned")
	}
	switch t.Kind {
	case TCP:
		return t.stream(ctx)
	case TLS:
		return t.secure(ctx, hop.ProtoTURN)
	case DTLS:
		return t.datagrams(ctx)
	case WebSocket:
		return t.webSocket(ctx)
	}
	return nil, LegConnect, errors.New("unknown kind")
}

// stream reaches the relay's port, through a proxy if one is named. There is no
// keep-alive of TCP: the layers above have their own, and the relay a time limit.
func (t Target) stream(ctx context.Context) (net.Conn, Leg, error) {
	proxy, err := t.proxy()
	if err != nil {
		return nil, LegProxy, err
	}
	if proxy != nil {
		conn, err := throughProxy(ctx, proxy, t.Addr)
		return conn, LegProxy, err
	}
	conn, err := dialer().DialContext(ctx, "tcp", t.Addr)
	return conn, LegConnect, err
}

func dialer() *net.Dialer { return &net.Dialer{KeepAlive: -1} }

// secure adds TLS to the key that is pinned.
func (t Target) secure(ctx context.Context, proto string) (net.Conn, Leg, error) {
	plain, leg, err := t.stream(ctx)
	if err != nil {
		return nil, leg, err
	}
	conn := tls.Client(plain, hop.ClientTLS(hop.Pin(t.Pin), proto))
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = plain.Close()
		return nil, LegHandshake, err
	}
	return conn, "", nil
}

// datagrams has a socket of its own: one that answers only the relay's address.
func (t Target) datagrams(ctx context.Context) (net.Conn, Leg, error) {
	sock, err := dialer().DialContext(ctx, "udp", t.Addr)
	if err != nil {
		return nil, LegConnect, err
	}
	if u, ok := sock.(*net.UDPConn); ok {
		_ = u.SetReadBuffer(readBuffer) // only a hint
	}
	conn, err := hop.ClientDTLS(ctx, sock, hop.Pin(t.Pin))
	if err != nil {
		return nil, LegHandshake, err
	}
	return conn, "", nil
}
