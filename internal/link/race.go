package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/carrier"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Times of a race; our choice.
const (
	// headStart is between the starts of two ways. Where UDP is blocked the last
	// of five is on its way after a tenth of a second; where it is not, a nearby
	// relay has answered before the second way is tried.
	headStart = 25 * time.Millisecond
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
// An allocation is made by a signed request, and there can be one only: so
// whoever has got as far as the relay's challenge passes a gate, one at a time,
// and allocates behind it.
type race struct {
	slot *slot
	cred wire.Relay
	key  wire.RelayEndpoint
	gate chan struct{} // cap 1: full while somebody is behind it

	lookup func() ([]netip.AddrPort, error) // of the UDP address
}

type finish struct {
	way        way
	allocation *allocation
	err        error
}

func (s *slot) race(ctx context.Context, e wire.RelayEndpoint, list []way) (*allocation, error) {
	ctx, cancel := context.WithTimeout(ctx, perRelay)
	defer cancel()
	r := &race{slot: s, cred: s.link.credential(), key: e, gate: make(chan struct{}, 1)}
	r.lookup = sync.OnceValues(func() ([]netip.AddrPort, error) { return resolve(ctx, e.UDP) })
	results := make(chan finish, len(list))
	next := time.NewTimer(0)
	defer next.Stop()
	var won *allocation
	var failed []string
	for running := 0; running > 0 || len(list) > 0; {
		select {
		case <-next.C:
			if len(list) > 0 && len(r.gate) == 0 {
				w := list[0]
				list = list[1:]
				running++
				go func() { results <- r.run(ctx, w) }()
			}
			if len(list) > 0 {
				next.Reset(headStart)
			}
		case f := <-results:
			running--
			switch {
			case f.err != nil:
				failed = append(failed, fmt.Sprintf("%v: %v", f.way, plain(f.err)))
				next.Reset(0)
			case won == nil:
				won, list = f.allocation, nil
				cancel()
			default:
				f.allocation.close()
			}
		}
	}
	if won == nil {
		return nil, errors.New(strings.Join(failed, "; "))
	}
	return won, nil
}

// plain puts the commonest reason into words.
func plain(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer")
	}
	return err
}

// run goes one way to its end.
func (r *race) run(ctx context.Context, w way) finish {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := newAllocation(r.slot.link, r.slot.via, w.kind, w.addr)
	a.gate = func() error {
		select {
		case r.gate <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		time.AfterFunc(perPass, cancel)
		return nil
	}
	err := r.reach(ctx, a, w)
	if err != nil {
		return finish{w, nil, err}
	}
	if err = a.establish(ctx, r.cred); err == nil {
		return finish{w, a, nil}
	}
	a.close()
	if a.passed.Load() {
		<-r.gate
	}
	return finish{w, nil, err}
}

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
