package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/carrier"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Times of a race; our choice.
const (
	// headStart is between the starts of two ways where one is known to work: a
	// nearby relay has answered by it before the second is tried.
	headStart = 25 * time.Millisecond
	// shortStart is the same where nothing is known. The last of five kinds takes
	// three round trips more than the first, so it must not begin late as well.
	shortStart = 5 * time.Millisecond
	// perRelay bounds a race.
	perRelay = 5 * time.Second
	// perPass bounds what the way in front may take once its relay has answered,
	// while the others wait behind it.
	perPass = 2 * time.Second
)

// way is one way to reach one relay.
type way struct {
	kind   Kind
	addr   string // "host:port"
	second bool   // UDP: to the address of the other family
}

func (w way) String() string {
	s := strings.TrimPrefix(string(w.kind), "relay-") + " " + w.addr
	if w.second {
		s += " (other family)"
	}
	return s
}

// order is what the kinds are tried in: the first is the best one, the last passes
// where nothing else does.
var order = [...]Kind{RelayUDP, RelayTCP, RelayTLS, RelayDTLS, RelayWebSocket}

// ways lists how e can be reached, in the order of trying, with the one that
// worked last in this network in front.
func ways(e wire.RelayEndpoint, last Kind) (list []way) {
	for _, w := range []way{
		{RelayUDP, e.UDP, false}, {RelayTCP, e.TCP, false}, {RelayTLS, e.TLS, false},
		{RelayDTLS, e.DTLS, false}, {RelayWebSocket, e.WebSocket, false},
	} {
		switch {
		case w.addr == "":
			continue
		case w.kind == last:
			list = append([]way{w}, list...)
		default:
			list = append(list, w)
		}
		if w.kind == RelayUDP && !isLiteral(w.addr) {
			list = append(list, way{RelayUDP, w.addr, true})
		}
	}
	return list
}

func isLiteral(addr string) bool {
	_, err := netip.ParseAddrPort(addr)
	return err == nil
}

// race tries all ways side by side, each with a head start before the next, and
// returns the allocation of the first whose relay answers. Everything else has
// ended when it returns.
//
// It may begin before there is a credential. Then all ways stop in front of the
// gate, and the time that a race may take begins anew when it opens.
type race struct {
	slot  *slot
	key   wire.RelayEndpoint
	gate  gate
	lead  time.Duration // between two ways
	limit *time.Timer   // ends the race
	stop  func()        // does so at once

	list   []way       // not started yet; run only, as the rest
	signed bool        // there was a credential before the time was up
	won    *allocation // the first
	failed []string

	lookup func() ([]netip.AddrPort, error) // of the UDP address
}

type finish struct {
	way        way
	allocation *allocation
	err        error
}

// errAhead ends a race in whose time no credential came: it says nothing of the
// relay, which was not asked for anything.
var errAhead = errors.New("there was no credential yet")

func (s *slot) race(ctx context.Context, e wire.RelayEndpoint, list []way, lead time.Duration) (*allocation, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := time.AfterFunc(perRelay, func() { cancel(context.DeadlineExceeded) })
	defer limit.Stop()
	r := &race{slot: s, key: e, lead: lead, limit: limit, stop: func() { cancel(nil) }, list: list, signed: s.link.isEntitled()}
	r.lookup = sync.OnceValues(func() ([]netip.AddrPort, error) { return resolve(ctx, e.UDP) })
	r.run(ctx)
	if r.won == nil && !r.signed {
		return nil, errAhead
	}
	if r.won == nil {
		return nil, errors.New(strings.Join(r.failed, "; "))
	}
	return r.won, nil
}

// run starts the ways one after the other until one has won, and waits for all.
func (r *race) run(ctx context.Context) {
	results := make(chan finish, len(r.list))
	next := time.NewTimer(0)
	defer next.Stop()
	entitled, changed := r.slot.link.entitled, r.slot.link.progress()
	for running := 0; running > 0 || len(r.list) > 0; {
		select {
		case <-next.C:
			if len(r.list) > 0 && !r.gate.reached() {
				w := r.list[0]
				r.list = r.list[1:]
				running++
				go func() { results <- r.try(ctx, w) }()
			}
			next.Reset(r.lead)
		case <-entitled:
			entitled = nil
			r.signed = r.limit.Reset(perRelay) || r.signed // or it has ended before, and winds down
			r.gate.unlock()
		case <-changed:
			changed = r.slot.link.progress()
			if r.slot.relay() != r.key {
				r.list = nil
				r.stop()
			}
		case f := <-results:
			running--
			if r.finished(ctx, f) {
				next.Reset(0)
			}
		}
	}
}

// finished takes a result and reports whether the next way may start at once.
func (r *race) finished(ctx context.Context, f finish) bool {
	switch {
	case f.err != nil:
		r.failed = append(r.failed, fmt.Sprintf("%v: %v", f.way, plain(ctx, f.err)))
		return true
	case r.won == nil:
		r.won, r.list = f.allocation, nil
		r.stop()
	default:
		f.allocation.close()
	}
	return false
}

// plain puts the commonest reason into words.
func plain(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || context.Cause(ctx) == context.DeadlineExceeded && errors.Is(err, context.Canceled) {
		return errNoAnswer
	}
	return err
}

var errStale = errors.New("the relay is not in the list any more")

// try goes one way to its end.
func (r *race) try(ctx context.Context, w way) finish {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a := newAllocation(r.slot.link, r.slot.via, w.kind, w.addr)
	a.at = r.key
	passed := false
	a.gate = func() (wire.Relay, error) {
		if err := r.gate.pass(ctx, rank(w.kind)); err != nil {
			return wire.Relay{}, err
		}
		passed = true
		patience := time.AfterFunc(perPass, func() { cancel(context.DeadlineExceeded) })
		context.AfterFunc(ctx, func() { patience.Stop() })
		return a.credential()
	}
	a.asked = func() { r.slot.offer(a) }
	if err := r.reach(ctx, a, w); err != nil {
		return finish{w, nil, err}
	}
	err := a.establish(ctx)
	if err == nil {
		return finish{w, a, nil}
	}
	r.slot.withdraw(a)
	a.close()
	if passed {
		r.gate.leave()
	}
	return finish{w, nil, plain(ctx, err)}
}

// rank says which of several kinds that wait with a relay's answer in hand is to
// be taken.
func rank(k Kind) int { return slices.Index(order[:], k) }

// reach gives a its leg.
func (r *race) reach(ctx context.Context, a *allocation, w way) error {
	if w.kind == RelayUDP {
		return r.overSocket(a, w)
	}
	conn, err := carrier.Dial(ctx, carrier.Target{Kind: carriers[w.kind], Addr: w.addr, Pin: r.key.Key, Proxy: a.link.cfg.Proxy})
	if err != nil {
		return err
	}
	c, err := newConnLeg(conn, carriers[w.kind], &a.link.stats)
	if err != nil {
		return err
	}
	a.leg, a.local = c, addrOf(conn.LocalAddr()).Addr()
	a.remote = addrOf(conn.RemoteAddr())
	a.wg.Go(func() { a.read(c) })
	a.wg.Go(func() { c.write(a) })
	return nil
}

var carriers = map[Kind]carrier.Kind{
	RelayTCP: carrier.TCP, RelayTLS: carrier.TLS, RelayDTLS: carrier.DTLS, RelayWebSocket: carrier.WebSocket,
}

func (r *race) overSocket(a *allocation, w way) error {
	list, err := r.lookup()
	if err != nil {
		return err
	}
	relay := list[0]
	if w.second {
		if len(list) == 1 {
			return errors.New("the name has no such address")
		}
		relay = list[1]
	}
	sock := a.link.family(relay.Addr())
	a.leg = &relayLeg{sock: sock, relay: relay, owner: a}
	a.remote, a.local = relay, source(relay)
	return sock.enter(relay, a)
}

// resolve returns the first address of a name, and the first of the other family.
func resolve(ctx context.Context, addr string) ([]netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, errors.New("address is not host:port")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return nil, errors.New("port is not a number from 1 to 65535")
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var list []netip.AddrPort
	for _, ip := range ips {
		ip = ip.Unmap()
		if len(list) == 0 || len(list) == 1 && ip.Is4() != list[0].Addr().Is4() {
			list = append(list, netip.AddrPortFrom(ip, uint16(n)))
		}
	}
	if len(list) == 0 {
		return nil, errors.New("name has no address")
	}
	return list, nil
}

func addrOf(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	case *net.UDPAddr:
		return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	return netip.AddrPort{}
}
