package link

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/internal/wire"
)

// Limits of knowing relays; our choice.
const (
	maxAddrs    = 16                                        // of one name
	maxPlaces   = 4 * wire.MaxRelayEndpoints * 5 * maxAddrs // over all lists of a link's life
	lookupLimit = 5 * time.Second
)

// places are the addresses where relays listen, by every kind and all addresses
// of their names. The other end may call one of them its own: then what is sent
// there "directly" would reach a relay from a socket that it knows, and our own
// servers would be what a hostile peer has us probe.
type places struct {
	known atomic.Pointer[map[netip.AddrPort]bool]
	mu    sync.Mutex // serialises changes of known
}

func (p *places) has(a netip.AddrPort) bool {
	known := p.known.Load()
	return known != nil && (*known)[a]
}

func (p *places) add(list []netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := make(map[netip.AddrPort]bool)
	if old := p.known.Load(); old != nil && len(*old)+len(list) <= maxPlaces {
		for a := range *old {
			next[a] = true
		}
	}
	for _, a := range list {
		next[a] = true
	}
	p.known.Store(&next)
}

// IsRelay reports whether a relay of the list, or of an earlier one, listens at a.
// Names are resolved in the background, so one that is new is known a little later.
func (l *Link) IsRelay(a netip.AddrPort) bool { return l.places.has(a) }

// locate learns where the relays of a list are.
func (l *Link) locate(endpoints []wire.RelayEndpoint) {
	ports := map[string][]uint16{} // by name
	var literal []netip.AddrPort
	for _, e := range endpoints {
		for _, addr := range []string{e.UDP, e.TCP, e.TLS, e.DTLS, e.WebSocket} {
			host, text, err := net.SplitHostPort(addr)
			port, bad := strconv.ParseUint(text, 10, 16)
			if err != nil || bad != nil {
				continue
			}
			if ip, err := netip.ParseAddr(host); err == nil {
				literal = append(literal, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
			} else if !slices.Contains(ports[host], uint16(port)) {
				ports[host] = append(ports[host], uint16(port))
			}
		}
	}
	l.places.add(literal)
	for host, list := range ports {
		l.wg.Go(func() { l.places.add(lookup(l.ctx, host, list)) })
	}
}

// lookup returns all ports at all addresses of a name; none when it has none.
func lookup(ctx context.Context, host string, ports []uint16) (list []netip.AddrPort) {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	ips, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", host) // the race will say why
	for _, ip := range ips[:min(len(ips), maxAddrs)] {
		for _, port := range ports {
			list = append(list, netip.AddrPortFrom(ip.Unmap(), port))
		}
	}
	return list
}
