// Package probe tries one way to one relay at a time and says whether it works,
// how long it takes and, if not, at which leg it ends. It is for diagnosis: a
// session's own ways are package link's, which goes on where this reports.
//
// One probe is two questions, behind a connection where the kind has one:
//
//	Allocate                 -> 401 with a nonce    measures the round trip
//	Allocate, signed         -> success             the relay takes the credential, and says where it sees us
//	Refresh, lifetime 0      -> (not waited for)    gives the place back
//
// No answer is shown to anything before relay/guard has passed it, and only the
// signed one is believed.
package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/carrier"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/proxies"
	"github.com/tucdesk/tucdesk/internal/udp"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// Leg is the part of the way to a relay at which a probe ended.
type Leg string

// The legs, in the order in which they are passed.
const (
	LegProxy     = Leg(carrier.LegProxy)     // finding, reaching or asking the proxy
	LegConnect   = Leg(carrier.LegConnect)   // name, route, port; over UDP any answer at all
	LegHandshake = Leg(carrier.LegHandshake) // TLS or DTLS, the key among it
	LegUpgrade   = Leg(carrier.LegUpgrade)   // HTTP to WebSocket
	LegAllocate  = Leg("allocation")         // the relay is reached and does not give a place
)

// Error is why a way to a relay does not work.
type Error struct {
	Leg Leg
	Err error
}

// Error names the leg first.
func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Leg, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Way is what to try.
type Way struct {
	Kind link.Kind
	Addr string   // "host:port" of the relay for this kind
	Key  key.Hash // what is pinned for TLS, DTLS and WebSocket
	// Place is shared by all ways to one relay that are tried at once with one
	// credential, or nil. A relay has one place for a credential, and closes the
	// connection of whoever had it before (protocol 6.2).
	Place *Place
}

// Place lets ways take a relay's place one after the other.
type Place struct{ taken chan struct{} }

// NewPlace returns a free one.
func NewPlace() *Place { return &Place{make(chan struct{}, 1)} }

func (p *Place) take(ctx context.Context) (leave func(), err error) {
	if p == nil {
		return func() {}, nil
	}
	select {
	case p.taken <- struct{}{}:
		return func() { <-p.taken }, nil
	case <-ctx.Done():
		return nil, errSilent // who has it gets no answer either
	}
}

// Result is a way to a relay that works.
type Result struct {
	Connect time.Duration  // until a connection stood, with all handshakes; 0 for UDP
	RTT     time.Duration  // one question and its answer
	Mapped  netip.AddrPort // where the relay sees us: behind a proxy, the proxy
}

// Prober tries ways to relays, for diagnosis, with a place on the relay that is
// given back at once. All that it tries over UDP leaves from one socket for each
// family of addresses, as a link's does: so what two relays see tells what a NAT
// does. Probe may be called from any goroutine.
type Prober struct {
	stats guard.Stats
	socks [2]*udp.Conn // IPv4, IPv6; nil where the machine has none
	wg    sync.WaitGroup

	mu    sync.Mutex
	asked map[[12]byte]asked // guarded by mu
}

// asked is a question under way.
type asked struct {
	of   *speaker
	sent time.Time
}

// speaker is one relay by one kind of way.
type speaker struct {
	from  netip.AddrPort // of its answers over UDP; zero on a connection
	lossy bool           // what is lost is sent again
	send  func([]byte) error
	realm []byte     // of the relay's last challenge; owned by who asks
	nonce []byte     // likewise
	came  chan reply // cap maxReplies; what does not fit is lost
	ended chan error // cap 1: the connection broke
}

type reply struct {
	frame []byte
	rtt   time.Duration
}

// Limits of one probe; our choice.
const (
	maxReplies  = 8 // answers that wait to be looked at
	maxTries    = 3 // signed requests: the first nonce may be too old at once
	resendFirst = 500 * time.Millisecond
	resendMost  = 4 * time.Second
)

// staleNonce asks for another try with the nonce beside it (RFC 8489, section 9.2.5).
const staleNonce = 438

// NewProber opens the sockets. It fails only if there is none to be had.
func NewProber() (*Prober, error) {
	p := &Prober{asked: map[[12]byte]asked{}}
	var errs []error
	for i, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		sock, err := udp.Listen(netip.AddrPortFrom(any, 0), udp.Options{NoOffload: true, OneFamily: true})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.socks[i] = sock
		p.wg.Go(func() { p.read(sock) })
	}
	if len(errs) == len(p.socks) {
		return nil, errors.Join(errs...)
	}
	return p, nil
}

// Close ends what is under way over UDP and returns when the goroutines are gone.
func (p *Prober) Close() {
	for _, s := range p.socks {
		if s != nil {
			_ = s.Close()
		}
	}
	p.wg.Wait()
}

// Port is what the socket for an address of this family sends from; 0 where there
// is none.
func (p *Prober) Port(family netip.Addr) uint16 {
	if s := p.sock(family); s != nil {
		return s.LocalAddr().Port()
	}
	return 0
}

func (p *Prober) sock(a netip.Addr) *udp.Conn {
	if a.Is4() {
		return p.socks[0]
	}
	return p.socks[1]
}

// Probe goes one way to one relay, which must take cred. Over UDP only the first
// address of a name is tried. ctx bounds it. It fails with an *Error.
func (p *Prober) Probe(ctx context.Context, cred wire.Relay, w Way) (Result, error) {
	if w.Kind == link.RelayUDP {
		return p.overUDP(ctx, cred, w)
	}
	began := time.Now()
	conn, err := p.connect(ctx, w)
	if err != nil {
		return Result{}, legOf(err)
	}
	took := time.Since(began)
	s := newSpeaker(w.Kind == link.RelayDTLS, func(b []byte) error { _, err := conn.Write(b); return err })
	var reader sync.WaitGroup
	reader.Go(func() { s.ended <- p.listen(conn, s) })
	defer reader.Wait()
	defer conn.Close()
	got, err := p.allocate(ctx, cred, s, w.Place)
	got.Connect = took
	return got, err
}

// frames reads a connection frame by frame, behind the guard.
type frames interface {
	Next() ([]byte, error)
	net.Conn
}

func (p *Prober) connect(ctx context.Context, w Way) (frames, error) {
	kinds := map[link.Kind]carrier.Kind{
		link.RelayTCP: carrier.TCP, link.RelayTLS: carrier.TLS, link.RelayDTLS: carrier.DTLS, link.RelayWebSocket: carrier.WebSocket,
	}
	kind, ok := kinds[w.Kind]
	if !ok {
		return nil, fmt.Errorf("there is no way %q", w.Kind)
	}
	raw, err := carrier.Dial(ctx, carrier.Target{Kind: kind, Addr: w.Addr, Pin: w.Key, Proxy: proxies.Environment().Choose()})
	if err != nil {
		return nil, err
	}
	opt := guard.Options{Side: guard.Client, Stats: &p.stats}
	var conn frames
	if kind.Stream() {
		conn, err = guard.NewConn(raw, opt)
	} else {
		conn, err = guard.NewDatagrams(raw, opt)
	}
	if err != nil {
		_ = raw.Close()
	}
	return conn, err
}

func newSpeaker(lossy bool, send func([]byte) error) *speaker {
	return &speaker{lossy: lossy, send: send, came: make(chan reply, maxReplies), ended: make(chan error, 1)}
}

func legOf(err error) error {
	var c *carrier.Error
	if errors.As(err, &c) {
		return &Error{Leg(c.Leg), c.Err}
	}
	return &Error{LegConnect, err}
}

func (p *Prober) overUDP(ctx context.Context, cred wire.Relay, w Way) (Result, error) {
	to, err := resolve(ctx, w.Addr)
	if err != nil {
		return Result{}, &Error{LegConnect, err}
	}
	sock := p.sock(to.Addr())
	if sock == nil {
		return Result{}, &Error{LegConnect, errors.New("this machine has no socket of that family of addresses")}
	}
	s := newSpeaker(true, func(b []byte) error { return sock.WriteTo(b, to) })
	s.from = to
	got, err := p.allocate(ctx, cred, s, w.Place)
	var failed *Error
	if errors.As(err, &failed) && s.nonce == nil {
		failed.Leg = LegConnect // not a word came back: that is what a blocked way looks like
	}
	return got, err
}

// resolve takes the first address of a name.
func resolve(ctx context.Context, addr string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, errors.New("address is not host:port")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return netip.AddrPort{}, errors.New("port is not a number from 1 to 65535")
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(ips) == 0 {
		return netip.AddrPort{}, errors.New("name has no address")
	}
	return netip.AddrPortFrom(ips[0].Unmap(), uint16(n)), nil
}

// read is a socket's reader.
func (p *Prober) read(sock *udp.Conn) {
	msgs := []udp.Message{{Buf: make([]byte, udp.MaxBatch)}}
	for {
		_, err := sock.ReadBatch(msgs)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // of one datagram
		}
		for frame := range msgs[0].Segments() {
			p.deliver(nil, msgs[0].Addr, frame)
		}
	}
}

// listen is a connection's reader.
func (p *Prober) listen(conn frames, s *speaker) error {
	for {
		frame, err := conn.Next()
		if err != nil {
			return err
		}
		p.deliver(s, netip.AddrPort{}, frame)
	}
}

// deliver takes an answer that came by connection s, or by UDP where s is nil. The
// guard looks at it first, and only whom we asked can answer.
func (p *Prober) deliver(s *speaker, from netip.AddrPort, frame []byte) {
	if guard.Client.Check(frame) != nil || guard.IsChannelData(frame) {
		return
	}
	p.mu.Lock()
	q, ok := p.asked[guard.Transaction(frame)]
	p.mu.Unlock()
	if !ok || s != nil && q.of != s || s == nil && (!q.of.from.IsValid() || q.of.from != from) {
		return
	}
	select {
	case q.of.came <- reply{bytes.Clone(frame), time.Since(q.sent)}:
	default:
	}
}

// ask sends what next makes until something comes back. On a lossy way each try
// that is a question of its own tells its own round trip.
func (p *Prober) ask(ctx context.Context, s *speaker, next func() []byte) (reply, error) {
	var ids [][12]byte
	defer func() { p.forget(ids) }()
	again := time.NewTimer(0)
	defer again.Stop()
	for wait := resendFirst; ; {
		select {
		case <-again.C:
			if len(ids) > 0 && !s.lossy {
				continue
			}
			frame := next()
			ids = append(ids, guard.Transaction(frame))
			p.remember(guard.Transaction(frame), s)
			if err := s.send(frame); err != nil {
				return reply{}, err
			}
			again.Reset(wait)
			wait = min(2*wait, resendMost)
		case r := <-s.came:
			if slices.Contains(ids, guard.Transaction(r.frame)) { // not one more answer to the question before
				s.learn(r.frame)
				return r, nil
			}
		case err := <-s.ended:
			return reply{}, fmt.Errorf("the connection broke: %v", err)
		case <-ctx.Done():
			return reply{}, errSilent
		}
	}
}

var errSilent = errors.New("no answer from the relay")

func (p *Prober) remember(id [12]byte, s *speaker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[id] = asked{s, time.Now()}
}

func (p *Prober) forget(ids [][12]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		delete(p.asked, id)
	}
}

// allocate asks without credential, which measures the round trip, and with it,
// which shows that the relay takes it, and gives the place back.
func (p *Prober) allocate(ctx context.Context, cred wire.Relay, s *speaker, place *Place) (Result, error) {
	first, err := p.ask(ctx, s, func() []byte { return guard.PadRequest(allocateRequest()) })
	if err != nil {
		return Result{}, &Error{LegAllocate, err}
	}
	leave, err := place.take(ctx)
	if err != nil {
		return Result{}, &Error{LegAllocate, err}
	}
	defer leave()
	got := Result{RTT: first.rtt}
	for range maxTries {
		request, key := s.sign(allocateRequest(), cred)
		if len(request) > guard.MaxFrame {
			return Result{}, &Error{LegAllocate, errors.New("the relay's challenge is too long")}
		}
		r, err := p.ask(ctx, s, func() []byte { return request })
		switch {
		case err != nil:
			return Result{}, &Error{LegAllocate, err}
		case guard.TypeOf(r.frame) == guard.AllocateSuccess:
			if !signedBy(r.frame, key) {
				return Result{}, &Error{LegAllocate, errors.New("the relay's answer was not made by the relay")}
			}
			got.Mapped = mapped(r.frame)
			s.leave(cred)
			return got, nil
		case errorCode(r.frame) != staleNonce:
			return Result{}, &Error{LegAllocate, fmt.Errorf("the relay refused it with error %d", errorCode(r.frame))}
		}
	}
	return Result{}, &Error{LegAllocate, errors.New("the relay takes no nonce of its own")}
}
