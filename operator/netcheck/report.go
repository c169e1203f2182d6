package netcheck

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/probe"
	"github.com/tucdesk/tucdesk/internal/proxies"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// schemaVersion is that of the report as JSON. A field may be added to it, none
// changes or goes.
const schemaVersion = 1

// report is the answer of netcheck.
type report struct {
	Schema int       `json:"schemaVersion"`
	At     time.Time `json:"at"`
	Server server    `json:"server"`
	IPv4   family    `json:"ipv4"`
	IPv6   family    `json:"ipv6"`
	Ways   []way     `json:"ways"` // by relay, then in the order in which sessions try them
}

// server is the team's server as reached from here.
type server struct {
	URL         string  `json:"url"`
	Reachable   bool    `json:"reachable"`
	RTTMillis   float64 `json:"rttMillis"`
	SkewSeconds int     `json:"clockSkewSeconds"` // of this machine's clock: above zero it is ahead; the server tells whole seconds
	Error       string  `json:"error"`            // "" when all is well
	Proxy       string  `json:"proxy"`            // "host:port" of the proxy before it, without its password; "" is none
	ProxyFrom   string  `json:"proxyFrom"`        // the variable of the environment that names it
}

// family is what is known of IPv4 or IPv6.
type family struct {
	Own     []netip.Addr     `json:"own"`     // of this machine's interfaces, without loopback and link-local ones
	Tried   bool             `json:"tried"`   // some relay has an address of the family
	Works   bool             `json:"works"`   // some relay answered over UDP
	Mapped  []netip.AddrPort `json:"mapped"`  // where relays see our UDP socket, each address once
	Mapping Mapping          `json:"mapping"` // RFC 4787, section 4.1
}

// way is one transport to one relay.
type way struct {
	Relay     int       `json:"relay"` // 1 is the first that sessions use
	Kind      link.Kind `json:"kind"`
	Address   string    `json:"address"`
	Works     bool      `json:"works"`
	Leg       probe.Leg `json:"leg"`           // where it ended; "" when it works
	Error     string    `json:"error"`         // why
	Connect   float64   `json:"connectMillis"` // until the connection stood; 0 for UDP
	RTTMillis float64   `json:"rttMillis"`
	Mapped    string    `json:"mapped"` // where the relay saw us; "" if it did not say
	Proxy     string    `json:"proxy"`  // as of the server; "" for UDP and DTLS, which ask none

	end   wire.RelayEndpoint
	place *probe.Place
	seen  seen
}

func millis(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

func newReport(now time.Time) report {
	r := report{Schema: schemaVersion, At: now.UTC(), Ways: []way{}}
	r.IPv4, r.IPv6 = ownAddresses()
	return r
}

// skew compares clocks: the server's second began up to one second before it was
// told.
func (s *server) skew(server, here time.Time) {
	d := here.Sub(server)
	switch {
	case d < 0:
		s.SkewSeconds = int((d - time.Second/2) / time.Second)
	case d > time.Second:
		s.SkewSeconds = int((d - time.Second/2) / time.Second)
	}
}

// throughProxies notes which proxy is before the server and before each relay. What
// cannot be read is told by the ways themselves, which then do not work.
func (r *report) throughProxies(p proxies.Settings) {
	if u, err := url.Parse(r.Server.URL); err == nil {
		r.Server.Proxy, _ = p.For(u.Host)
	}
	used := r.Server.Proxy != ""
	for i := range r.Ways {
		if w := &r.Ways[i]; w.Kind != link.RelayUDP && w.Kind != link.RelayDTLS {
			w.Proxy, _ = p.For(w.Address)
			used = used || w.Proxy != ""
		}
	}
	if used {
		r.Server.ProxyFrom = p.From
	}
}

func ownAddresses() (v4, v6 family) {
	v4, v6 = family{Own: []netip.Addr{}, Mapped: []netip.AddrPort{}, Mapping: MappingUnknown}, family{Own: []netip.Addr{}, Mapped: []netip.AddrPort{}, Mapping: MappingUnknown}
	list, _ := net.InterfaceAddrs() // none are what a machine without network has, too
	for _, a := range list {
		p, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(p.IP)
		if ip = ip.Unmap(); !ok || ip.IsLoopback() || ip.IsLinkLocalUnicast() {
			continue
		}
		f := &v6
		if ip.Is4() {
			f = &v4
		}
		f.Own = append(f.Own, ip)
	}
	return v4, v6
}

// ways lists what is to be tried. A relay's name is looked up for UDP, so that
// both families are; who cannot look it up tries it as it stands and says so.
func ways(ctx context.Context, endpoints []wire.RelayEndpoint) []way {
	list := []way{}
	for i, e := range endpoints[:min(len(endpoints), wire.MaxRelayEndpoints)] {
		place := probe.NewPlace()
		for _, at := range addresses(ctx, e.UDP) {
			list = append(list, way{Relay: i + 1, Kind: link.RelayUDP, Address: at, end: e, place: place})
		}
		for _, w := range []way{{Kind: link.RelayTCP, Address: e.TCP}, {Kind: link.RelayTLS, Address: e.TLS}, {Kind: link.RelayDTLS, Address: e.DTLS}, {Kind: link.RelayWebSocket, Address: e.WebSocket}} {
			if w.Address != "" {
				w.Relay, w.end, w.place = i+1, e, place
				list = append(list, w)
			}
		}
	}
	return list
}

// addresses are "host:port" by the first address of each family.
func addresses(ctx context.Context, name string) []string {
	host, port, err := net.SplitHostPort(name)
	if err != nil {
		return slices.DeleteFunc([]string{name}, func(s string) bool { return s == "" })
	}
	ctx, cancel := context.WithTimeout(ctx, wayWithin)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return []string{name}
	}
	var list []string
	for _, want4 := range []bool{true, false} {
		if i := slices.IndexFunc(ips, func(a netip.Addr) bool { return a.Unmap().Is4() == want4 }); i >= 0 {
			list = append(list, net.JoinHostPort(ips[i].Unmap().String(), port))
		}
	}
	return list
}

// tryRelays tries all ways at once and sorts out what they tell.
func (r *report) tryRelays(ctx context.Context, p *probe.Prober, cred wire.Relay) {
	r.Ways = ways(ctx, cred.Endpoints)
	r.throughProxies(proxies.Environment())
	var all sync.WaitGroup
	for i := range r.Ways {
		all.Go(func() { r.Ways[i].try(ctx, p, cred) })
	}
	all.Wait()
	r.sum(p)
}

func (w *way) try(ctx context.Context, p *probe.Prober, cred wire.Relay) {
	ctx, cancel := context.WithTimeout(ctx, wayWithin)
	defer cancel()
	got, err := p.Probe(ctx, cred, probe.Way{Kind: w.Kind, Addr: w.Address, Key: w.end.Key, Place: w.place})
	w.took(got, err)
}

func (w *way) took(got probe.Result, err error) {
	var failed *probe.Error
	switch {
	case errors.As(err, &failed):
		w.Leg, w.Error = failed.Leg, failed.Err.Error()
	case err != nil:
		w.Leg, w.Error = probe.LegConnect, err.Error()
	default:
		w.Works, w.Connect, w.RTTMillis = true, millis(got.Connect), millis(got.RTT)
	}
	if got.Mapped.IsValid() {
		w.Mapped = got.Mapped.String()
	}
	if at, err := netip.ParseAddrPort(w.Address); err == nil {
		w.seen = seen{relay: at, mapped: got.Mapped}
	}
}

// sum fills in the families.
func (r *report) sum(p *probe.Prober) {
	for _, f := range []struct {
		*family
		of netip.Addr
	}{{&r.IPv4, netip.IPv4Unspecified()}, {&r.IPv6, netip.IPv6Unspecified()}} {
		var list []seen
		for _, w := range r.Ways {
			if w.Kind != link.RelayUDP || !w.seen.relay.IsValid() || w.seen.relay.Addr().Is4() != f.of.Is4() {
				continue
			}
			f.Tried, f.Works = true, f.Works || w.Works
			if w.seen.mapped.IsValid() {
				list = append(list, w.seen)
				f.Mapped = append(f.Mapped, w.seen.mapped)
			}
		}
		slices.SortFunc(f.Mapped, netip.AddrPort.Compare)
		f.Mapped = slices.Compact(f.Mapped)
		f.Mapping = classify(list, append(slices.Clone(f.Own), loopback...), p.Port(f.of))
	}
}

// loopback addresses are this machine's, too: relays of tests see them.
var loopback = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

func (r *report) works() bool {
	return slices.ContainsFunc(r.Ways, func(w way) bool { return w.Works })
}

// best is the quickest way to a relay that works.
func (r *report) best() (way, bool) {
	works := slices.DeleteFunc(slices.Clone(r.Ways), func(w way) bool { return !w.Works })
	if len(works) == 0 {
		return way{}, false
	}
	return slices.MinFunc(works, func(a, b way) int { return cmp.Compare(a.RTTMillis, b.RTTMillis) }), true
}
