package link

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/path"
)

// Times of watching the system; our choice.
const (
	// settle is how long after a first change of addresses or routes the others
	// that come with it are waited for.
	settle = 50 * time.Millisecond
	// lookEvery is how often the clocks are compared, and the addresses where the
	// system does not tell.
	lookEvery = 2 * time.Second
	// jump is by how much the wall clock may be ahead before the machine is taken
	// to have slept.
	jump = 3 * time.Second
)

// network is what the system says of its addresses.
type network struct {
	loopback bool // offer them always

	mu    sync.Mutex
	addrs []netip.Addr // guarded by mu; where others may reach this machine
	print string       // guarded by mu; a name for the network it is in
	all   string       // guarded by mu; everything that a change is seen by
}

func newNetwork(loopback bool) *network {
	n := &network{loopback: loopback}
	n.look()
	return n
}

// look reads the addresses and reports whether anything has changed.
func (n *network) look() bool {
	addrs := hostAddrs(n.loopback)
	four, six := outward()
	all := fmt.Sprint(addrs, four, six)
	n.mu.Lock()
	defer n.mu.Unlock()
	changed := all != n.all
	n.addrs, n.all, n.print = addrs, all, fingerprint(four, six)
	return changed
}

func (n *network) hosts() []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addrs
}

func (n *network) fingerprint() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.print
}

// CurrentNetwork names the network that this machine is in, as a Memory is asked for
// it: by a short hash.
func CurrentNetwork() string { return fingerprint(outward()) }

// outward is where packets to the world leave from; nothing is sent to these, which
// are nobody's (RFC 5737, RFC 3849).
func outward() (four, six netip.Addr) {
	return source(netip.MustParseAddrPort("192.0.2.1:9")), source(netip.MustParseAddrPort("[2001:db8::1]:9"))
}

// fingerprint names a network by the prefixes of our addresses in it: an address
// changes with every lease, and need not be kept in a file.
func fingerprint(four, six netip.Addr) string {
	a, _ := four.Prefix(24)
	b, _ := six.Prefix(64)
	sum := sha256.Sum256([]byte(a.String() + " " + b.String()))
	return hex.EncodeToString(sum[:8])
}

// source is the address that packets to there leave from; the zero Addr when
// there is no route. Nothing is sent.
func source(to netip.AddrPort) netip.Addr {
	if !to.IsValid() {
		return netip.Addr{}
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	return addrOf(c.LocalAddr()).Addr()
}

// bridges are interfaces of this machine's own guests, by the start of their
// names. Their addresses are the same on many machines and lead nowhere from most
// others, but to the guests they are the way: so they come last.
var bridges = [...]string{"docker", "br-", "veth", "virbr", "cni", "flannel", "cali", "lxc", "lxd", "vmnet", "vboxnet", "podman"}

// hostAddrs lists the addresses of interfaces that are up, the likeliest first.
// Link-local ones need a zone, which means nothing to the other end. Loopback
// ones are for machines that have no others.
func hostAddrs(loopback bool) []netip.Addr {
	list, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var near, far, self []netip.Addr
	for _, i := range list {
		addrs, err := i.Addrs()
		if err != nil || i.Flags&net.FlagUp == 0 {
			continue
		}
		guest := slices.ContainsFunc(bridges[:], func(b string) bool { return strings.HasPrefix(i.Name, b) })
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			switch ip := p.Addr().Unmap(); {
			case ip.IsLoopback():
				self = append(self, ip)
			case ip.IsLinkLocalUnicast() || !ip.IsGlobalUnicast():
			case guest:
				far = append(far, ip)
			default:
				near = append(near, ip)
			}
		}
	}
	both := slices.Concat(near, far)
	if loopback || len(both) == 0 {
		both = append(both, self...)
	}
	return both
}

// run calls changed after addresses or routes have changed, and after the machine
// has slept, until ctx ends.
func (n *network) run(ctx context.Context, changed func()) {
	events, stop := subscribe()
	defer stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-events:
			sleep(ctx, settle)
			if n.look() {
				changed()
			}
		case <-tick.C:
			now := time.Now()
			// The wall clock goes on while a machine sleeps or a process is stopped.
			slept := now.Round(0).Sub(last.Round(0)) > lookEvery+jump
			if (slept || events == nil) && n.look() || slept {
				changed()
			}
			last = now
		}
	}
}

// watch tells the relays, and whoever waits for Changed, of a changed network.
func (l *Link) watch() {
	l.network.run(l.ctx, func() {
		for _, s := range l.slots {
			s.mu.Lock()
			s.moved = true
			s.mu.Unlock()
			poke(s.wake)
		}
		poke(l.remap)
		l.changed()
	})
}

// Candidates lists where this end may be reached directly, the likeliest to work
// first: at most path.MaxCandidates, none without Config.Direct.
func (l *Link) Candidates() []path.Candidate {
	if !l.cfg.Direct {
		return nil
	}
	var list []path.Candidate
	add := func(k path.Kind, a netip.AddrPort) {
		known := slices.ContainsFunc(list, func(c path.Candidate) bool { return c.Addr == a })
		if a.IsValid() && a.Port() != 0 && !known && len(list) < path.MaxCandidates {
			list = append(list, path.Candidate{Kind: k, Addr: a})
		}
	}
	for _, a := range l.cfg.Public {
		if port := l.family(a).port(); l.cfg.Ports.has(port) {
			add(path.Configured, netip.AddrPortFrom(a, port))
		}
	}
	if a := l.mapped.Load(); a != nil {
		add(path.Mapped, *a)
	}
	hosts := l.network.hosts()
	own := func(a netip.AddrPort) bool { return slices.Contains(hosts, a.Addr()) }
	for _, s := range l.slots {
		if a := s.current.Load(); a != nil && a.kind == RelayUDP && a.granted.Load() && !own(a.mapped) {
			add(path.Reflexive, a.mapped)
		}
	}
	for _, ip := range hosts {
		add(path.Host, netip.AddrPortFrom(ip, l.family(ip).port()))
	}
	slices.SortStableFunc(list, func(a, b path.Candidate) int { return cmp.Compare(distance(a.Kind), distance(b.Kind)) })
	return list
}

// distance orders our candidates: what is seen from outside first.
func distance(k path.Kind) int {
	if k == path.Host {
		return 1
	}
	return 0
}
